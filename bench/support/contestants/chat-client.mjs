/**
 * Members of rooms, one of which in each room speaks: its next line when the last one has come back.
 */
import net from 'node:net';
import { readOptions } from '../options.mjs';
import { percentile } from '../statistics.mjs';
import { report } from '../stopwatch.mjs';

const { port, members, room: size, warmUp, seconds } = readOptions();
const LINE = Buffer.from(`${'x'.repeat(63)}\n`);
const WELCOME = 2; // of room 0, where all begin, and of the room it joins
let began = Infinity;
let end = Infinity;
let deliveries = 0;
const waits = [];

function join(index) {
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
  const room = 1 + Math.floor(index / size);
  const speaks = index % size === 0;
  let welcomes = 0;
  let bytes = 0;
  let said = 0;
  const say = () => {
    said = performance.now();
    socket.write(LINE);
  };
  const speak = speaks ? say : () => undefined;
  return new Promise((resolve, reject) => {
    socket.once('error', reject);
    socket.once('close', () => performance.now() < end && reject(new Error('closed')));
    socket.on('data', (data) => {
      if (welcomes < WELCOME) {
        for (const byte of data) if (byte === 10) welcomes++;
        if (welcomes === 1) socket.write(`/join ${room}\n`);
        if (welcomes === WELCOME) resolve(speak);
        return;
      }
      bytes += data.length;
      const lines = Math.floor(bytes / LINE.length);
      bytes %= LINE.length;
      const now = performance.now();
      const measured = now >= began && now < end;
      if (measured) deliveries += lines;
      if (!speaks || lines === 0) return;
      if (measured) waits.push(now - said);
      if (now < end) say();
    });
  });
}

const all = [];
for (let i = 0; i < members; i += 50) {
  const some = Array.from({ length: Math.min(50, members - i) }, (_, k) => join(i + k));
  all.push(...(await Promise.all(some)));
}
began = performance.now() + warmUp * 1000;
end = began + seconds * 1000;
for (const speak of all) speak();
await new Promise((resolve) => setTimeout(resolve, (warmUp + seconds) * 1000));
process.stdout.write('\n');
waits.sort((a, b) => a - b);
report({
  deliveries,
  rate: deliveries / seconds,
  p50: percentile(waits, 0.5) * 1000,
  p99: percentile(waits, 0.99) * 1000,
});
process.exit(0);
