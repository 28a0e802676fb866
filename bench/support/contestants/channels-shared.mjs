/**
 * Values from one thread to another through a SharedChannel, by micro-threads or async functions.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { each, SharedChannel, spawn } from 'completion-port/micro';
import { readOptions } from '../options.mjs';
import { makePort } from '../ports.mjs';
import { report, Stopwatch } from '../stopwatch.mjs';
import { checker, maker } from '../values.mjs';

/** As many values as the other contestant has under way at most. */
const CAPACITY = 1024;

async function produce(channel, { style, bytes }) {
  const make = maker(bytes);
  const fill = function* () {
    for (let number = 0; ; number++) yield* channel.put(make(number));
  };
  try {
    if (style === 'micro') await spawn(fill);
    else for (let number = 0; ; number++) await channel.put(make(number));
  } catch (error) {
    if (error.code !== 'ERR_CHANNEL_CLOSED') throw error;
  }
}

async function consume(channel, { style, bytes, ...times }) {
  const stopwatch = new Stopwatch({ ...times, every: 256 });
  const check = checker(bytes);
  const take = function* () {
    for (const value of yield* each(channel)) {
      check(value);
      if (!stopwatch.count()) return;
      yield* each.next();
    }
  };
  if (style === 'micro') await spawn(take);
  else {
    for await (const value of channel) {
      check(value);
      if (!stopwatch.count()) break;
    }
  }
  channel.fail(new Error('The time is over'));
  parentPort.postMessage(stopwatch.result);
}

async function main() {
  const { driver, ...options } = readOptions();
  const port = makePort({ driver, concurrency: 2 });
  const channel = new SharedChannel(port, CAPACITY);
  const workers = [consume, produce].map(({ name }) => {
    const worker = new Worker(new URL(import.meta.url), {
      workerData: { role: name, token: channel.token, options },
    });
    worker.on('message', report);
    return worker;
  });
  await Promise.all(workers.map((worker) => new Promise((done) => worker.once('exit', done))));
  await port.close();
}

if (isMainThread) await main();
else {
  const { role, token, options } = workerData;
  await { produce, consume }[role](SharedChannel.attach(token), options);
}
