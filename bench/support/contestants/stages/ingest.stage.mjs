/** Appends the lines that came together, and answers them. */
import { defineStage } from 'completion-port';
import { DurableLog } from '../../durable-log.mjs';

export default ({ file }) => {
  const opening = DurableLog.open(file);
  return defineStage({
    states: {
      open: {
        async handedOff(c) {
          const { documents } = c;
          const lines = documents.map(({ bytes }) =>
            Buffer.from(`${bytes.latin1Slice()}\n`, 'latin1'),
          );
          await (await opening).append(Buffer.concat(lines));
          return c.reply('ok\n'.repeat(lines.length));
        },
      },
    },
  });
};
