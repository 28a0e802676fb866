// Clients of the sum server: each asks, one connection after the other.
//   node examples/sum-client.mjs 8 --n 25000 --seconds 5
import { parseArgs } from 'node:util';
import { CompletionPort } from 'completion-port';

const options = {
  n: { type: 'string', default: '25000' },
  seconds: { type: 'string', default: '3' },
  port: { type: 'string', default: '7010' },
};
const { values, positionals } = parseArgs({ options, allowPositionals: true });
const n = Number(values.n);
const right = String((n * (n + 1)) / 2);
const began = performance.now();
const elapsed = () => (performance.now() - began) / 1000;
const port = new CompletionPort();

async function ask() {
  const socket = await port.connect({ host: '127.0.0.1', port: Number(values.port) });
  await socket.send(`${n}\n`);
  let answer = '';
  for await (const bytes of socket) answer += bytes;
  await socket.close();
  return answer;
}

let answers = 0;
async function client() {
  while (elapsed() < Number(values.seconds)) {
    const answer = await ask();
    if (answer !== right) throw new Error(`${answer} instead of ${right}`);
    answers++;
  }
}

await Promise.all(Array.from({ length: Number(positionals[0] ?? 1) }, client));
console.log(`${answers} answers, ${Math.round(answers / elapsed())} a second`);
await port.close();
