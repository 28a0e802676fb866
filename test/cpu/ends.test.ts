/** How threads of pools, tasks and the thread that has the pool end. */
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import {
  codeOf,
  ended,
  failureOf,
  newSeed,
  Random,
  root,
  runModule,
  startProcess,
  temporaryFile,
  until,
} from '../support/harness';
import { applyWith, cpu, newPool, sharedWords, tasks, transfer } from './support';

const library = pathToFileURL(`${root}/dist/cpu.js`).href;
const fixture = pathToFileURL(`${root}/test/cpu/fixtures/tasks.mjs`).href;
const head = `
  import cpus from ${JSON.stringify(library)};
  import { tasks } from ${JSON.stringify(fixture)};
  const { applyWith, cpu, pool, setApply } = cpus;`;
const quiet = { bare: true, env: { NODE_NO_WARNINGS: '1' } };

test('a thread that dies fails its task alone, and is replaced', async () => {
  const p = newPool({ threads: 1 });
  const run = (name: string, ...args: unknown[]) =>
    applyWith(p, () => cpu(tasks[name]!, ...(args as never[])));
  const calls = [run('sumn', 1), run('exit', 3), run('sumn', 2), run('crash'), run('sumn', 3)];
  const ends = await Promise.allSettled(calls);
  expect(ends.map(({ status }) => status)).toEqual([
    ...['fulfilled', 'rejected', 'fulfilled', 'rejected', 'fulfilled'],
  ]);
  const [exit, crash] = [1, 3].map((i) => (ends[i] as PromiseRejectedResult).reason as Error);
  expect(exit).toMatchObject({ code: 'ERR_WORKER_DIED', exitCode: 3 });
  expect(exit!.message).toMatch(/task 'exit' ended with code 3/);
  expect(crash).toMatchObject({ code: 'ERR_WORKER_DIED' });
  expect((crash!.cause as Error).message).toBe('nobody catches this');
  await until(() => p.stats().replaced === 2 && p.stats().threads === 1);
});

test('a thread that dies between tasks is replaced, and told once', async () => {
  const program = `${head}
    process.on('warning', ({ name, code, message }) => {
      if (name === 'PoolThreadWarning') console.log(code, message.split('\\n')[0]);
    });
    const p = pool({ threads: 1 });
    const run = (task, ...args) => applyWith(p, () => cpu(task, ...args));
    for (const [task, arg] of [['leaves', 'left behind'], ['exitLater', 4]]) {
      const before = p.stats().replaced;
      await run(tasks[task], arg);
      while (p.stats().replaced === before) await new Promise((done) => setTimeout(done, 5));
      console.log(await run(tasks.sumn, 3), p.stats().threads);
    }
    await p.close();`;
  const { code, stdout } = await runModule(program, quiet);
  expect(stdout.trim().split('\n')).toEqual([
    'CP_WARN_POOL_THREAD_DIED Thread 0 of a pool ended: Error: left behind',
    '6 1',
    '6 1',
  ]);
  expect(code).toBe(0);
});

test('threads that are no longer needed, or are closed, are no deaths', async () => {
  const program = `${head}
    process.on('warning', ({ name }) => name === 'PoolThreadWarning' && console.log(name));
    const p = pool({ minThreads: 1, maxThreads: 3, idleTimeout: 10 });
    const run = (task, ...args) => applyWith(p, () => cpu(task, ...args));
    await Promise.all([1, 2, 3].map(() => run(tasks.later, 30)));
    while (p.stats().threads > 1) await new Promise((done) => setTimeout(done, 5));
    const told = run(tasks.later, 60_000).catch(({ code }) => console.log(code, p.stats().replaced));
    await p.close();
    await told;`;
  const { code, stdout } = await runModule(program, quiet);
  expect([code, stdout]).toEqual([0, 'ERR_POOL_CLOSED 0\n']);
});

test('a task that takes more memory than resourceLimits allow fails', async () => {
  const p = newPool({ threads: 1, resourceLimits: { maxOldGenerationSizeMb: 24 } });
  const error = await failureOf(() => applyWith(p, () => cpu(tasks['eat']!)));
  expect(error.code).toBe('ERR_WORKER_DIED');
  expect(codeOf(error.cause)).toBe('ERR_WORKER_OUT_OF_MEMORY');
  expect(await applyWith(p, () => cpu(tasks.sumn, 3))).toBe(6);
});

test('a promise that nothing settles any more ends its thread', async () => {
  const p = newPool({ threads: 1 });
  const error = await failureOf(() => applyWith(p, () => cpu(tasks['never']!)));
  expect(error).toMatchObject({ code: 'ERR_WORKER_DIED', exitCode: 0 });
  expect(await applyWith(p, () => cpu(tasks.sumn, 3))).toBe(6);
});

test('threads that cannot start fail all tasks', async () => {
  const preload = temporaryFile('throw new Error("no start");', 'preload.cjs');
  const p = newPool({ threads: 1, execArgv: ['--require', preload] });
  const error = await failureOf(() => applyWith(p, () => cpu(tasks.sumn, 1)));
  expect(error.code).toBe('ERR_WORKER_DIED');
  expect(error.message).toMatch(/end as soon as they start: no start/);
  expect(codeOf(await failureOf(() => applyWith(p, () => cpu(tasks.sumn, 1))))).toBe(
    'ERR_WORKER_DIED',
  );
});

test('threads are killed at any moment: nothing is lost, nothing runs twice', async () => {
  const random = new Random(newSeed('killed threads'));
  const COUNT = 600;
  const words = sharedWords(COUNT);
  const p = newPool({ threads: 3 });
  const seats = (p as unknown as { seats: Map<number, { end(): void }> }).seats;
  await applyWith(p, () => cpu(tasks.sumn, 1));
  const before = p.stats().allocatedBytes;
  const outcomes = { done: 0, died: 0, cancelled: 0 };
  let next = 0;
  const caller = async (): Promise<void> => {
    while (next < COUNT) {
      const place = next++;
      const kind = random.below(10);
      const bytes = Buffer.allocUnsafeSlow(1 + random.below(50_000)).fill(place & 255);
      const call = applyWith(p, () => {
        if (kind < 6) return cpu(tasks['counts']!, words, place);
        if (kind < 7) return cpu(tasks['one']!, bytes);
        if (kind < 9) return cpu(tasks['one']!, transfer(bytes, [bytes.buffer]));
        return cpu(tasks['later']!, random.below(3), place);
      });
      if (random.below(20) === 0) call.cancel();
      if (random.below(30) === 0) [...seats.values()][random.below(seats.size)]?.end();
      try {
        const value = (await call) as number | Uint8Array;
        if (typeof value !== 'number')
          expect(value.every((byte) => byte === (place & 255))).toBe(true);
        else expect(value).toBe(place);
        outcomes.done++;
        if (kind < 6) expect(words[place]).toBe(1);
      } catch (error) {
        if (codeOf(error) === 'ECANCELED') outcomes.cancelled++;
        else if (codeOf(error) === 'ERR_WORKER_DIED') outcomes.died++;
        else throw error;
        expect(words[place]).toBeLessThanOrEqual(1);
      }
    }
  };
  await Promise.all(Array.from({ length: 20 }, caller));
  expect(outcomes.done + outcomes.died + outcomes.cancelled).toBe(COUNT);
  await until(() => p.stats().running + p.stats().waiting === 0);
  expect(p.stats().allocatedBytes).toBe(before);
  expect(await applyWith(p, () => cpu(tasks.sumn, 4))).toBe(10);
  expect(p.stats().threads).toBe(3);
  await p.close();
  expect(Math.max(...words)).toBe(1);
});

test('an idle pool does not keep the process alive, one with tasks does', async () => {
  const { code, stdout, stderr } = await runModule(
    `${head}
    setApply(pool({ threads: 2 }));
    void cpu(tasks.later, 50, 'value').then(console.log);
    process.on('exit', () => console.log('exit'));`,
    quiet,
  );
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: 'value\nexit\n', stderr: '' });
});

test('unref lets the process end although tasks are under way', async () => {
  const { code, stdout } = await runModule(
    `${head}
    const p = pool({ threads: 1 }).unref();
    void applyWith(p, () => cpu(tasks.later, 100_000)).then(console.log);`,
    quiet,
  );
  expect({ code, stdout }).toEqual({ code: 0, stdout: '' });
});

test('process.exit with tasks under way ends the process', async () => {
  const { code, signal } = await runModule(
    `${head}
    const words = new Int32Array(new SharedArrayBuffer(64));
    setApply(pool({ threads: 2 }));
    for (let i = 0; i < 500; i++) void cpu(tasks.gated, words, 0, 1);
    while (words[0] < 2) await new Promise((done) => setTimeout(done, 5));
    process.exit(7);`,
    quiet,
  );
  expect({ code, signal }).toEqual({ code: 7, signal: null });
});

test('a worker that has a pool is terminated with tasks under way', async () => {
  const { code, stdout } = await runModule(
    `${head}
    import { isMainThread, Worker } from 'node:worker_threads';
    const text = \`${head.replaceAll('`', '')}
      import { workerData } from 'node:worker_threads';
      setApply(pool({ threads: 2 }));
      for (let i = 0; i < 300; i++) void cpu(tasks.gated, workerData, 0, 1);
      for (let i = 0; i < 300; i++) void cpu(tasks.one, Buffer.alloc(20_000));\`;
    for (let turn = 0; turn < 5; turn++) {
      const words = new Int32Array(new SharedArrayBuffer(64));
      const url = new URL('data:text/javascript,' + encodeURIComponent(text));
      const worker = new Worker(url, { workerData: words });
      while (words[0] < 1 + (turn & 1)) await new Promise((done) => setTimeout(done, 2));
      await worker.terminate();
    }
    setApply(pool({ threads: 1 }));
    console.log(await cpu(tasks.sumn, 4));`,
    quiet,
  );
  expect({ code, stdout }).toEqual({ code: 0, stdout: '10\n' });
});

test('threads have the flags of the process, and write to its output', async () => {
  const { code, stdout } = await runModule(
    `${head}
    setApply(pool({ threads: 1 }));
    console.log((await cpu(tasks.execArgv)).includes('--no-deprecation'));
    console.log(await cpu(tasks.binding));
    const { write } = process.stdout;
    const last = new Promise((resolve) => {
      process.stdout.write = function (text, ...more) {
        if (String(text).includes('line 2')) resolve();
        return write.call(this, text, ...more);
      };
    });
    const alive = setInterval(() => undefined, 1000);
    await cpu(tasks.says, 'line');
    await last;
    clearInterval(alive);`,
    {
      ...quiet,
      env: { ...quiet.env, COMPLETION_PORT_BINDING: `${root}/build/Release/completion_port.node` },
      nodeArguments: ['--no-deprecation'],
    },
  );
  const binding = `${root}/build/Release/completion_port.node`;
  expect({ code, stdout }).toEqual({
    code: 0,
    stdout: `true\n${binding}\nline 0\nline 1\nline 2\n`,
  });
});

describe('a task that its own module calls', () => {
  const calls = {
    'when it is imported': 'await call();',
    'and nobody waits': 'void call();',
    later: 'await readFile(import.meta.filename ?? new URL(import.meta.url)); await call();',
  };
  test.each(Object.entries(calls))(
    '%s: fails, and starts no threads without end',
    async (_, how) => {
      const program = temporaryFile(
        `import cpus from ${JSON.stringify(library)};
       import { readFile } from 'node:fs/promises';
       const { cpu, defineTasks, pool, setApply } = cpus;
       setApply(pool({ threads: 2 }));
       const { double } = defineTasks(import.meta.url, { double: (n) => 2 * n });
       async function call() {
         try {
           console.log(await cpu(double, 4));
         } catch (error) {
           console.log(error.code, error.message);
           process.exit(1);
         }
       }
       ${how}`,
        'program.mjs',
      );
      const env = { NODE_NO_WARNINGS: '1' };
      const { code, stdout } = await ended(startProcess([program], { env }));
      expect(stdout).toMatch(/'double'.* is called by its own module, file:.*program\.mjs/);
      expect(code).toBe(1);
    },
  );
});
