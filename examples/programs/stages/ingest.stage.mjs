/**
 * Appends the lines that came together, and answers each of them when it is on the device.
 */
import { defineStage } from 'completion-port/stages';
import { DurableLog } from '../support/durable-log.mjs';

export default ({ file }) => {
  let log;
  return defineStage({
    async setup({ port }) {
      const opened = await port.open(file, 'a+');
      const { size } = await opened.stat();
      const last = size > 0 ? await opened.read({ position: size - 1, length: 1 }) : undefined;
      log = new DurableLog(opened, last !== undefined && last[0] !== 10);
    },
    // Nobody waits for an answer any more.
    teardown: () => log.close(),
    states: {
      open: {
        async handedOff(c) {
          const { length, bytes } = c.batch;
          await log.append(bytes);
          return c.reply('ok\n'.repeat(length));
        },
        // The device is full, say: what was not written was not answered.
        failed: (c) => c.close(),
      },
    },
  });
};
