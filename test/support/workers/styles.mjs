// Uses the port in each style of waiting until another thread closes it, and tells how each ended.
import { once } from 'node:events';
import net from 'node:net';
import { parentPort, workerData } from 'node:worker_threads';
import { CompletionPort } from '../../../dist/index.js';

const port = CompletionPort.attach(workerData.token);
const peer = net.connect(workerData.peer, '127.0.0.1'); // for what it is to receive
peer.on('error', () => undefined).resume();
const ends = {};

async function tell(what, fn) {
  try {
    await fn();
    ends[what] = 'ended';
  } catch (error) {
    ends[what] = error.code ?? String(error);
  }
}

async function loop(values) {
  for await (const value of values) await value;
}

const listener = await port.listen({ port: 0, host: '127.0.0.1' });
const socket = await port.connect({ port: workerData.peer, host: '127.0.0.1' });
const timer = await port.timer();
const file = await port.open(process.execPath);
const consumer = port.consume(() => undefined);
const all = [
  tell('accept', () => loop(listener)),
  tell('receive', () => loop(socket)),
  tell('every', () => loop(timer.every(1))),
  tell('readLines', async () => {
    for (;;) await loop(file.readLines());
  }),
  tell('send', async () => {
    for (;;) await socket.send('x');
  }),
  tell('timer', async () => (await port.timer()).wait(1e6)),
  tell('consume', () => consumer.finished),
];
parentPort.postMessage('ready');
await Promise.all(all);
// What goes out of scope, after the port was closed and so has closed it, is closed.
for (const handle of [listener, socket, timer, file]) {
  await tell(`close ${handle.kind}`, () => handle.close());
}
peer.destroy();
await once(peer, 'close');
parentPort.postMessage(ends);
