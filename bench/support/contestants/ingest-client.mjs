/**
 * Connections that send lines, so many ahead of what is answered.
 */
import net from 'node:net';
import { readOptions } from '../options.mjs';
import { percentile } from '../statistics.mjs';
import { report } from '../stopwatch.mjs';

const LINE = Buffer.from(`${'x'.repeat(99)}\n`);
const ANSWER = 3;
const { port, connections, ahead, warmUp, seconds } = readOptions();
const began = performance.now() + warmUp * 1000;
const end = began + seconds * 1000;
const waits = [];
let lines = 0;
let told = false;

function talk() {
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
  const written = []; // how many at a time, and when
  const send = (count) => {
    written.push({ count, at: performance.now() });
    socket.write(Buffer.alloc(count * LINE.length, LINE));
  };
  let bytes = 0;
  socket.once('connect', () => send(ahead));
  socket.on('data', (answer) => {
    bytes += answer.length;
    const answered = Math.floor(bytes / ANSWER);
    bytes %= ANSWER;
    const now = performance.now();
    const measured = now >= began && now < end;
    if (measured) lines += answered;
    for (let left = answered; left > 0;) {
      const [first] = written;
      const some = Math.min(left, first.count);
      left -= some;
      first.count -= some;
      if (first.count > 0) break;
      written.shift();
      if (measured) waits.push(now - first.at);
    }
    if (answered > 0 && now < end) send(answered);
  });
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.once('close', () => reject(new Error('closed')));
    setTimeout(
      () => {
        if (!told) process.stdout.write('\n');
        told = true;
        resolve();
      },
      (warmUp + seconds) * 1000,
    );
  });
}

await Promise.all(Array.from({ length: connections }, talk));
waits.sort((a, b) => a - b);
report({
  lines,
  rate: lines / seconds,
  p50: percentile(waits, 0.5) * 1000,
  p99: percentile(waits, 0.99) * 1000,
});
process.exit(0);
