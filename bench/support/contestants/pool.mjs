/**
 * A pool of threads, ours or another one: empty tasks, so many under way at one time, or bytes there
 * and back, one after the other.
 */
import { fileURLToPath } from 'node:url';
import { readOptions } from '../options.mjs';
import { report, Stopwatch } from '../stopwatch.mjs';

const THREADS = 2;
const { library, kind, inFlight, size, ...times } = readOptions();
const besides = (name) => fileURLToPath(new URL(`pool-${name}.mjs`, import.meta.url));

/** Each: `empty()`, and `bounce(bytes)`, which resolves to the bytes that came back. */
const libraries = {
  async ours() {
    const { cpu, pool, setApply, transfer } = await import('completion-port/cpu');
    const { empty, bounce } = await import('./pool-ours.mjs');
    setApply(pool({ threads: THREADS }));
    return {
      empty: () => cpu(empty),
      bounce: (bytes) => cpu(bounce, transfer(bytes, [bytes.buffer])),
    };
  },
  async copied() {
    const { cpu, pool, setApply } = await import('completion-port/cpu');
    const { copy } = await import('./pool-ours.mjs');
    setApply(pool({ threads: THREADS }));
    return { bounce: (bytes) => cpu(copy, bytes) };
  },
  async micro() {
    const { cpu, pool, setApply } = await import('completion-port/cpu');
    const { spawn } = await import('completion-port/micro');
    const { empty } = await import('./pool-ours.mjs');
    setApply(pool({ threads: THREADS }));
    return { spawn, cpu, task: empty };
  },
  async piscina() {
    const { Piscina } = await import('piscina');
    const filename = besides('piscina');
    const threads = { minThreads: THREADS, maxThreads: THREADS };
    const pool = new Piscina({ filename, ...threads });
    return {
      empty: () => pool.run(undefined),
      bounce: (bytes) => pool.run(bytes, { name: 'bounce', transferList: [bytes.buffer] }),
    };
  },
  async tinypool() {
    const { Tinypool } = await import('tinypool');
    const filename = besides('tinypool');
    const pool = new Tinypool({ filename, minThreads: THREADS, maxThreads: THREADS });
    return {
      empty: () => pool.run(undefined),
      bounce: (bytes) => pool.run(bytes, { name: 'bounce', transferList: [bytes.buffer] }),
    };
  },
  async poolifier() {
    const { FixedThreadPool } = await import('poolifier');
    const pool = new FixedThreadPool(THREADS, besides('poolifier'));
    return {
      empty: () => pool.execute(undefined, 'empty'),
      bounce: (bytes) => pool.execute(bytes, 'bounce', undefined, [bytes.buffer]),
    };
  },
};

async function measureEmpty({ empty }) {
  const stopwatch = new Stopwatch(times);
  const loop = async () => {
    while (stopwatch.running) {
      await empty();
      stopwatch.count();
    }
  };
  await Promise.all(Array.from({ length: inFlight }, loop));
  return stopwatch.result;
}

async function measureMicro({ spawn, cpu, task }) {
  const stopwatch = new Stopwatch(times);
  const threads = Array.from({ length: inFlight }, () =>
    spawn(function* () {
      while (stopwatch.running) {
        yield* cpu(task);
        stopwatch.count();
      }
    }),
  );
  await Promise.all(threads);
  return stopwatch.result;
}

async function measureBytes({ bounce }) {
  const stopwatch = new Stopwatch({ ...times, every: 16 });
  let bytes = new Uint8Array(size);
  for (let turn = 0; stopwatch.running; turn++) {
    bytes[0] = turn;
    bytes[size - 1] = ~turn;
    bytes = await bounce(bytes);
    const same =
      bytes.length === size && bytes[0] === (turn & 255) && bytes.at(-1) === (~turn & 255);
    if (!same) throw new Error('other bytes came back');
    stopwatch.count();
  }
  return stopwatch.result;
}

const pool = await libraries[library]();
if (kind === 'bytes') report(await measureBytes(pool));
else report(await (library === 'micro' ? measureMicro(pool) : measureEmpty(pool)));
process.exit(0);
