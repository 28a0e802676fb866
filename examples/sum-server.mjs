// Answers n, a line of digits, with the sum of 1 to n, computed wherever --apply says.
//   node examples/sum-server.mjs --apply pool --threads 2        echo 1000 | nc 127.0.0.1 7010
import { parseArgs } from 'node:util';
import { CompletionPort } from 'completion-port';
import { cpu, exclusive, inline, pool, setApply } from 'completion-port/cpu';
import { spawn } from 'completion-port/micro';
import { sumn } from './sum.tasks.mjs';

const options = {
  apply: { type: 'string', default: 'inline' },
  threads: { type: 'string', default: '2' },
  port: { type: 'string', default: '7010' },
};
const { apply, threads, port } = parseArgs({ options }).values;
const connection = process.env.REDIS_URL ?? 'redis://127.0.0.1:6379';
// npx completion-port work --queue sums --redis redis://127.0.0.1:6379 examples/sum.tasks.mjs
const bullmq = async () =>
  (await import('completion-port/bullmq')).bullmq({ queue: 'sums', connection });
const policies = { inline, exclusive, pool: () => pool({ threads: Number(threads) }), bullmq };
if (!Object.hasOwn(policies, apply)) throw new Error(`--apply: ${Object.keys(policies)}`);
setApply(await policies[apply]());

function* serve(socket) {
  try {
    let text = '';
    for (let bytes; !text.includes('\n') && text.length < 10; text += bytes.toString('latin1')) {
      bytes = yield* socket.receive();
      if (bytes.length === 0) break; // the end of the input ends the number as well
    }
    const answer = /^\d{1,8}\s*$/.test(text) ? yield* cpu(sumn, Number(text)) : 'a number, please';
    yield* socket.send(String(answer));
  } catch (error) {
    if (error.code === undefined) throw error; // else a client that went away
  } finally {
    yield* socket.close();
  }
}
const listener = await new CompletionPort().listen({ host: '127.0.0.1', port: Number(port) });
console.log(`listening on 127.0.0.1:${listener.address().port}`);
for await (const socket of listener) spawn(serve(socket));
