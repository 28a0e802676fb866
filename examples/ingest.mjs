// Documents of any length, received by native threads, hashed by a stage of their own.
//   node examples/ingest.mjs        printf 'one\ntwo\n' | nc -N 127.0.0.1 7020
import { createHash } from 'node:crypto';
import { defineStage, frames, Pipeline } from 'completion-port/stages';

const hash = defineStage({
  states: {
    answer: {
      async handedOff(c) {
        const digest = createHash('sha256');
        for await (const bytes of c.document.chunks()) digest.update(bytes);
        return c.reply(`${digest.digest('hex')}\n`);
      },
    },
  },
});

const port = Number(process.argv[2] ?? 7020);
const pipeline = new Pipeline({
  // What comes between two line feeds is a document, of 1 MiB at most.
  receive: { native: frames({ delimiter: '\n', maxLength: '1MiB' }), next: 'hash' },
  hash: { stage: hash, threads: 0 }, // 0: on this thread
});
const listener = await pipeline.listen('receive', { host: '127.0.0.1', port });
console.log(`listening on 127.0.0.1:${listener.port}`);
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => pipeline.close());
