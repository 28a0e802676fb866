/**
 * Hands whatever comes to the other stage, and counts in its record.
 */
import { defineStage } from 'completion-port/stages';

export default function ({ to }) {
  return defineStage({
    record: { hops: 'u32' },
    states: {
      here: {
        handedOff(c) {
          c.record.hops++;
          return c.handOff(to);
        },
        // The first one: of a connection, or of a task.
        entered: (c) => (c.record.hops === 0 ? c.handOff(to) : undefined),
      },
    },
  });
}
