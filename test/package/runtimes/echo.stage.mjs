import { defineStage } from 'completion-port/stages';

export default defineStage({
  states: { open: { received: (c, bytes) => void c.send(bytes), ended: (c) => c.close() } },
});
