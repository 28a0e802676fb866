/**
 * Messages from one thread to another through a MessageChannel: one after another as fast as they
 * are taken, or to and fro.
 */
import { isMainThread, MessageChannel, parentPort, Worker, workerData } from 'node:worker_threads';
import { readOptions } from '../options.mjs';
import { report, Stopwatch } from '../stopwatch.mjs';

/** A channel has no bound: the consumer says what it has taken, and so much may be under way. */
const WINDOW = 16_384;
const ACKNOWLEDGED = 4096;
const LAST = -1;

function produce(channel) {
  let number = 0;
  let limit = WINDOW;
  const fill = () => {
    while (number < limit) channel.postMessage(number++);
  };
  channel.on('message', (taken) => {
    if (taken === LAST) return channel.close();
    limit = taken + WINDOW;
    fill();
  });
  fill();
}

function consume(channel, stopwatch) {
  let wanted = 0;
  channel.on('message', (number) => {
    if (!stopwatch.running) return;
    if (number !== wanted++) throw new Error(`${number} instead of ${wanted - 1}`);
    if (wanted % ACKNOWLEDGED === 0) channel.postMessage(wanted);
    if (stopwatch.count()) return;
    channel.postMessage(LAST);
    parentPort.postMessage(stopwatch.result);
  });
}

const SIZE = 64;

function produceBytes(channel) {
  let number = 0;
  let limit = WINDOW;
  const bytes = Buffer.alloc(SIZE);
  const fill = () => {
    for (; number < limit; number++) {
      bytes.writeUInt32LE(number);
      channel.postMessage(bytes);
    }
  };
  channel.on('message', (taken) => {
    if (taken === LAST) return channel.close();
    limit = taken + WINDOW;
    fill();
  });
  fill();
}

function consumeBytes(channel, stopwatch) {
  let wanted = 0;
  channel.on('message', (bytes) => {
    if (!stopwatch.running) return;
    const number = bytes[0] + bytes[1] * 2 ** 8 + bytes[2] * 2 ** 16 + bytes[3] * 2 ** 24;
    if (number !== wanted++) throw new Error(`${number} instead of ${wanted - 1}`);
    if (wanted % ACKNOWLEDGED === 0) channel.postMessage(wanted);
    if (stopwatch.count()) return;
    channel.postMessage(LAST);
    parentPort.postMessage(stopwatch.result);
  });
}

function ping(channel, stopwatch) {
  let number = 0;
  channel.on('message', (answer) => {
    if (answer !== number) throw new Error(`got ${answer}`);
    if (stopwatch.count()) return channel.postMessage(++number);
    parentPort.postMessage(stopwatch.result);
    channel.close();
  });
  channel.postMessage(number);
}

function pong(channel) {
  channel.on('message', (number) => channel.postMessage(number));
}

function work({ role, channel, times }) {
  if (role === 'produce') produce(channel);
  else if (role === 'produceBytes') produceBytes(channel);
  else if (role === 'pong') pong(channel);
  else {
    const stopwatch = new Stopwatch({ ...times, every: role === 'ping' ? 16 : 1024 });
    if (role === 'ping') ping(channel, stopwatch);
    else if (role === 'consumeBytes') consumeBytes(channel, stopwatch);
    else consume(channel, stopwatch);
  }
}

function main() {
  const { style, ...times } = readOptions();
  const { port1, port2 } = new MessageChannel();
  const roles = {
    pipelined: ['consume', 'produce'],
    bytes: ['consumeBytes', 'produceBytes'],
    'ping-pong': ['pong', 'ping'],
  }[style];
  [port1, port2].forEach((channel, i) => {
    const worker = new Worker(new URL(import.meta.url), {
      workerData: { role: roles[i], channel, times },
      transferList: [channel],
    });
    worker.on('message', report);
  });
}

if (isMainThread) main();
else work(workerData);
