/** Clients of a sum server: a connection for each question. */
import net from 'node:net';
import { readOptions } from '../options.mjs';
import { report, Stopwatch } from '../stopwatch.mjs';

const { port, n, clients, warmUp, seconds } = readOptions();
const right = String((n * (n + 1)) / 2);

function ask() {
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true, noDelay: true });
    socket.setEncoding('latin1').on('data', (text) => (answer += text));
    socket.once('error', reject);
    socket.once('end', () => {
      socket.end();
      resolve(answer);
    });
    socket.write(`${n}\n`);
  });
}

const stopwatch = new Stopwatch({ warmUp, seconds, every: 1, latencies: true });
let answers = 0;
const client = async () => {
  while (stopwatch.running) {
    const began = performance.now();
    const answer = await ask();
    if (answer !== right) throw new Error(`${answer} instead of ${right}`);
    stopwatch.record(performance.now() - began);
    answers++;
    stopwatch.count();
  }
};
await Promise.all(Array.from({ length: clients }, client));
report({ ...stopwatch.result, answers });
process.exit(0);
