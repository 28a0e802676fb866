/**
 * Micro-threads, async functions, or tasks of effection: begun and ended one after the other, or 100,000 asleep. CPU
 * time, and bytes of V8's heap, of one.
 */
import { setFlagsFromString } from 'node:v8';
import { runInNewContext } from 'node:vm';
import { sleep, spawn } from 'completion-port/micro';
import { readOptions } from '../options.mjs';
import { report, Stopwatch } from '../stopwatch.mjs';

const { style, kind, ...times } = readOptions();
const MANY = 100_000;
const HOUR = 3_600_000;
const micro = style === 'micro';

function* empty() {
  // Nothing to do.
}
function* waits() {
  yield* sleep(0);
}
function* sleeps() {
  yield* sleep(HOUR);
}
async function asyncEmpty() {
  // Nothing to do.
}
const later = () => new Promise((resolve) => setTimeout(resolve, 0));
async function asyncWaits() {
  await later();
}
async function asyncSleeps() {
  await new Promise((resolve) => setTimeout(resolve, HOUR));
}

/** Tasks without a parent, as the others have none. */
async function bodiesOfEffection() {
  const { run, sleep: pause } = await import('effection');
  const pauses = (delay) =>
    function* () {
      yield* pause(delay);
    };
  const [shortly, long] = [pauses(0), pauses(HOUR)];
  return { empty: () => run(empty), waits: () => run(shortly), asleep: () => run(long) };
}

const ownBodies = {
  empty: micro ? () => spawn(empty) : asyncEmpty,
  waits: micro ? () => spawn(waits) : asyncWaits,
  asleep: micro ? () => spawn(sleeps) : asyncSleeps,
};
const bodies = style === 'effection' ? await bodiesOfEffection() : ownBodies;

/** A turn of the event loop for each thousand: those that wait end in it. */
async function measureSpawns() {
  const stopwatch = new Stopwatch(times);
  const begin = bodies[kind];
  while (stopwatch.running) {
    for (let i = 0; i < 1000; i++) {
      void begin();
      stopwatch.count();
    }
    await later();
  }
  return stopwatch.result;
}

function measureSleepers() {
  setFlagsFromString('--expose-gc');
  const gc = runInNewContext('gc');
  const heap = () => {
    gc();
    gc();
    return process.memoryUsage().heapUsed;
  };
  const begin = bodies[kind];
  begin();
  const before = heap();
  for (let i = 0; i < MANY; i++) void begin();
  return { resident: (heap() - before) / MANY };
}

report(kind === 'asleep' ? measureSleepers() : await measureSpawns());
process.exit(0);
