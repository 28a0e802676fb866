/** Appends the lines that came together, and answers them. */
import { defineStage } from 'completion-port/stages';
import { DurableLog } from '../../durable-log.mjs';

export default ({ file }) => {
  const opening = DurableLog.open(file);
  return defineStage({
    states: {
      open: {
        async handedOff(c) {
          const { length, bytes } = c.batch;
          await (await opening).append(bytes);
          return c.reply('ok\n'.repeat(length));
        },
      },
    },
  });
};
