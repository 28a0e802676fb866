/**
 * Sends back what comes.
 */
import { defineStage } from 'completion-port/stages';

export default defineStage({
  states: { echo: { received: (c, bytes) => void c.send(bytes) } },
});
