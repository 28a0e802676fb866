/**
 * Light clients, each of which sends a message some time after the last one was answered; with
 * `--heavy`, beside one whose messages keep the server's handler busy. How long the light ones wait.
 */
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { HEAVY } from '../busy.mjs';
import { readOptions } from '../options.mjs';
import { percentile } from '../statistics.mjs';
import { report } from '../stopwatch.mjs';

const SIZE = 64;
const { port, clients, pause, heavy = false, warmUp, seconds } = readOptions();
const began = performance.now() + warmUp * 1000;
const end = began + seconds * 1000;
const waits = [];

async function connect() {
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
  await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  return socket;
}

async function ask(socket, message) {
  const chunks = socket.iterator({ destroyOnReturn: false });
  socket.write(message);
  for (let left = SIZE; left > 0;) {
    const { value, done } = await chunks.next();
    if (done || value.some((byte) => byte !== message[0])) throw new Error('wrong answer');
    left -= value.length;
  }
  await chunks.return();
}

async function beLight(number) {
  const socket = await connect();
  await sleep((pause * number) / clients);
  do {
    const sent = performance.now();
    await ask(socket, Buffer.alloc(SIZE, 1));
    if (sent >= began) waits.push(performance.now() - sent);
    await sleep(pause);
  } while (performance.now() < end);
  socket.destroy();
}

async function beHeavy() {
  const socket = await connect();
  do {
    await ask(socket, Buffer.alloc(SIZE, HEAVY));
    await sleep(pause);
  } while (performance.now() < end);
  socket.destroy();
}

const all = Array.from({ length: clients }, (_, number) => beLight(number));
if (heavy) all.push(beHeavy());
await Promise.all(all);
waits.sort((a, b) => a - b);
const over = (limit) => (100 * waits.filter((wait) => wait > limit).length) / waits.length;
report({
  rate: waits.length / seconds,
  p50: percentile(waits, 0.5) * 1000,
  p99: percentile(waits, 0.99) * 1000,
  max: waits.at(-1) * 1000,
  over20: over(20),
  over50: over(50),
});
