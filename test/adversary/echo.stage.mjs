/** Sends back what comes. */
import { defineStage } from '../../dist/stages-esm.mjs';

export default defineStage({
  states: {
    open: {
      received(c, bytes) {
        c.send(bytes);
      },
    },
  },
});
