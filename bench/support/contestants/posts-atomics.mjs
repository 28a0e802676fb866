/**
 * A number to and fro between two threads, with Atomics.wait and Atomics.notify.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { readOptions } from '../options.mjs';
import { report, Stopwatch } from '../stopwatch.mjs';

const THERE = 0;
const BACK = 1;
const LAST = -1;

function send(words, at, number) {
  Atomics.store(words, at, number);
  Atomics.notify(words, at);
}

/** The number that comes after `last`. A wake-up may be one that was meant for the last wait. */
function receive(words, at, last) {
  let number;
  while ((number = Atomics.load(words, at)) === last) Atomics.wait(words, at, last);
  return number;
}

function ping(words, stopwatch) {
  let number = 0;
  do {
    send(words, THERE, number + 1);
    const answer = receive(words, BACK, number);
    if (answer !== ++number) throw new Error(`got ${answer}`);
  } while (stopwatch.count());
  send(words, THERE, LAST);
}

function pong(words) {
  for (let number = 0; ;) {
    number = receive(words, THERE, number);
    if (number === LAST) return;
    send(words, BACK, number);
  }
}

function work({ role, words, times }) {
  if (role === 'pong') return pong(words);
  const stopwatch = new Stopwatch({ ...times, every: 16 });
  ping(words, stopwatch);
  parentPort.postMessage(stopwatch.result);
}

function main() {
  const { warmUp, seconds } = readOptions();
  const times = { warmUp, seconds };
  const words = new Int32Array(new SharedArrayBuffer(8));
  for (const role of ['pong', 'ping']) {
    const worker = new Worker(new URL(import.meta.url), { workerData: { role, words, times } });
    worker.on('message', report);
  }
}

if (isMainThread) main();
else work(workerData);
