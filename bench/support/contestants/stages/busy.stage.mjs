/**
 * Sends back what comes, after being busy where that begins with an 'H'.
 */
import { defineStage } from 'completion-port/stages';
import { HEAVY, prepareWork } from '../../busy.mjs';

export default function ({ kind, amount }) {
  const keepBusy = prepareWork(kind, amount);
  return defineStage({
    states: {
      echo: {
        received(c, bytes) {
          if (bytes[0] === HEAVY) keepBusy();
          c.send(bytes);
        },
      },
    },
  });
}
