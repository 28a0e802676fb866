/**
 * Values from one thread to another through a MessageChannel.
 */
import { isMainThread, MessageChannel, parentPort, Worker, workerData } from 'node:worker_threads';
import { readOptions } from '../options.mjs';
import { report, Stopwatch } from '../stopwatch.mjs';
import { checker, maker } from '../values.mjs';

/** A channel has no bound: the consumer says what it has taken, and so much may be under way. */
const WINDOW = 1024;
const ACKNOWLEDGED = 256;
const LAST = -1;

function produce(channel, { bytes }) {
  const make = maker(bytes);
  let number = 0;
  let limit = WINDOW;
  const fill = () => {
    while (number < limit) channel.postMessage(make(number++));
  };
  channel.on('message', (taken) => {
    if (taken === LAST) return channel.close();
    limit = taken + WINDOW;
    fill();
  });
  fill();
}

function consume(channel, { bytes, ...times }) {
  const stopwatch = new Stopwatch({ ...times, every: 256 });
  const check = checker(bytes);
  let taken = 0;
  channel.on('message', (value) => {
    if (!stopwatch.running) return;
    check(value);
    if (++taken % ACKNOWLEDGED === 0) channel.postMessage(taken);
    if (stopwatch.count()) return;
    channel.postMessage(LAST);
    parentPort.postMessage(stopwatch.result);
  });
}

function main() {
  const options = readOptions();
  const { port1, port2 } = new MessageChannel();
  for (const [role, channel] of [
    ['consume', port1],
    ['produce', port2],
  ]) {
    const worker = new Worker(new URL(import.meta.url), {
      workerData: { role, channel, options },
      transferList: [channel],
    });
    worker.on('message', report);
  }
}

if (isMainThread) main();
else ({ produce, consume })[workerData.role](workerData.channel, workerData.options);
