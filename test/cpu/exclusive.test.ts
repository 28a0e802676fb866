/** One task at a time in the process, whatever thread calls it. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { pathToFileURL } from 'node:url';
import { inspect } from 'node:util';
import { Worker } from 'node:worker_threads';
import { expect, onTestFinished, test } from 'vitest';
import { codeOf, failureOf, newSeed, Random, root, runModule, until } from '../support/harness';
import { applyWith, cpu, exclusive, sharedWords, tasks } from './support';

const run = (name: string, ...args: unknown[]) =>
  applyWith(exclusive(), () => cpu(tasks[name]!, ...(args as never[])));

/** Lets the test end a task that it holds the turn with. */
function holder() {
  let release!: () => void;
  const gate = new Promise<void>((resolve) => (release = resolve));
  const call = applyWith(exclusive(), () => cpu(tasks['gate']!, () => gate));
  onTestFinished(() => release());
  return { call, release };
}

/** A thread, and how its calls ended. */
class Asker {
  readonly asked = new Set<number>();
  readonly ends = new Map<number, string | undefined>();
  readonly worker: Worker;
  readonly exited: Promise<unknown>;
  private last = 0;

  constructor(words: Int32Array, who: number) {
    const file = new URL('fixtures/asker.mjs', import.meta.url);
    this.worker = new Worker(file, { workerData: { words, who }, execArgv: ['--no-warnings'] });
    this.exited = new Promise((resolve) => this.worker.once('exit', resolve));
    this.worker.on('message', ({ id, asked, outcome }) => {
      if (asked === true) this.asked.add(id as number);
      else this.ends.set(id as number, outcome as string);
    });
    onTestFinished(async () => void (await this.worker.terminate()));
  }

  call(task: string, ...args: unknown[]): number {
    const id = ++this.last;
    this.worker.postMessage({ id, task, args });
    return id;
  }

  /** The same, when it is in the line. */
  async inLine(task: string, ...args: unknown[]): Promise<number> {
    const id = this.call(task, ...args);
    await until(() => this.asked.has(id));
    return id;
  }

  end(how: 'terminate' | 'exit' | 'close'): void {
    if (how === 'terminate') void this.worker.terminate();
    else this.worker.postMessage({ end: how });
  }

  cancel(id: number): void {
    this.worker.postMessage({ id, cancel: true });
  }
}

test('where no task runs, one runs in place, at once', async () => {
  const words = sharedWords();
  const call = run('counts', words, 3);
  expect(words[3]).toBe(1);
  expect(await call).toBe(3);
  expect(await run('thread')).toBe(0);
  const error = await failureOf(() => run('fails', 'no'));
  expect(error).toMatchObject({ code: 'E_TASK', message: 'no' });
  expect(await failureOf(() => run('laterFails', 'late'))).toBeInstanceOf(RangeError);
  expect(await run('sumn', 4)).toBe(10);
});

test('others wait until the promise of an async task is settled', async () => {
  const words = sharedWords();
  const { call, release } = holder();
  const [second, third] = [run('counts', words, 1), run('counts', words, 2)];
  await new Promise((resolve) => setTimeout(resolve, 20));
  expect([...words.slice(1, 3)]).toEqual([0, 0]);
  expect(inspect(exclusive())).toBe('Exclusive { waiting: 2 }');
  release();
  await call;
  expect(await Promise.all([second, third])).toEqual([1, 2]);
});

test('threads have their turns in the order in which they asked', async () => {
  const words = sharedWords();
  const askers = [2, 3, 4].map((who) => new Asker(words, who));
  const { release } = holder();
  const order = [2, 3, 1, 4, 3, 2, 1];
  const own: Promise<unknown>[] = [];
  for (const who of order) {
    if (who === 1) own.push(run('joins', words, who));
    else await askers[who - 2]!.inLine('joins');
  }
  release();
  await until(() => words[8] === order.length);
  expect([...words.slice(9, 9 + order.length)]).toEqual(order);
  await Promise.all(own);
  await until(() => askers.every(({ ends, asked }) => ends.size === asked.size));
});

test('who is given up leaves the line; a task that runs goes on', async () => {
  const words = sharedWords();
  const asker = new Asker(words, 2);
  const { call, release } = holder();
  const controller = new AbortController();
  const within = <T>(fn: () => T): T => applyWith(exclusive(), fn);
  const aborted = within(() => cpu.with({ signal: controller.signal }, tasks['counts']!, words, 1));
  const late = failureOf(() => within(() => cpu.with({ timeout: 5 }, tasks['counts']!, words, 2)));
  const cancelled = run('counts', words, 3);
  const other = await asker.inLine('joins');
  const last = run('counts', words, 4);
  cancelled.cancel();
  controller.abort(new Error('why'));
  asker.cancel(other);
  expect(await failureOf(() => aborted)).toMatchObject({ name: 'AbortError', code: 'ABORT_ERR' });
  expect(await late).toMatchObject({ code: 'ETIMEDOUT', timeout: true });
  expect(codeOf(await failureOf(() => cancelled))).toBe('ECANCELED');
  await until(() => asker.ends.get(other) === 'ECANCELED');
  call.cancel();
  expect(codeOf(await failureOf(() => call))).toBe('ECANCELED');
  expect(words[4]).toBe(0); // the turn is still the holder's
  release();
  expect(await last).toBe(4);
  expect([...words.slice(1, 4), words[8]]).toEqual([0, 0, 0, 0]);
});

test('a task runs those that it calls itself in its own turn', async () => {
  const seen: unknown[] = [];
  const outer = applyWith(exclusive(), () =>
    cpu(tasks['gate']!, async () => {
      seen.push(await cpu(tasks.sumn, 3));
      await new Promise((resolve) => setTimeout(resolve, 1));
      seen.push(await cpu(tasks.sumn, 4));
      void cpu(tasks['gate']!, async () => {
        await new Promise((resolve) => setTimeout(resolve, 20));
        seen.push('inner');
      });
    }),
  );
  const next = applyWith(exclusive(), () => cpu(tasks['gate']!, () => seen.push('next')));
  await outer;
  await next;
  expect(seen).toEqual([6, 10, 'inner', 'next']);
});

test('a task that waited has the asynchronous context of its call', async () => {
  const storage = new AsyncLocalStorage<string>();
  const { release } = holder();
  const calls = ['a', 'b'].map((name) =>
    storage.run(name, () =>
      applyWith(exclusive(), () => cpu(tasks['gate']!, () => storage.getStore())),
    ),
  );
  release();
  expect(await Promise.all(calls)).toEqual(['a', 'b']);
});

test('a thread that ends gives up its turn, and its places', async () => {
  const words = sharedWords();
  const ends: [string, 'terminate' | 'exit' | 'close'][] = [
    ['gated', 'terminate'],
    ['never', 'terminate'],
    ['never', 'exit'],
    ['never', 'close'],
  ];
  for (const [task, how] of ends) {
    const asker = new Asker(words, 2);
    asker.call(task, 15);
    if (task === 'gated') await until(() => words[2] === 1);
    else await until(() => asker.asked.size === 1);
    // One that waits keeps its thread alive.
    if (task !== 'gated' && how !== 'close') await asker.inLine('joins');
    let over = false;
    const next = run('sumn', 3).then((sum) => (over = sum === 6));
    await new Promise((resolve) => setImmediate(resolve));
    expect(over).toBe(false);
    asker.end(how);
    expect(await next).toBe(true);
    await asker.exited;
  }
  expect(words[8]).toBe(0);
});

test('threads ask, give up and end at random: one task at a time, and no turn is lost', async () => {
  const random = new Random(newSeed('turns'));
  const words = sharedWords();
  let who = 1;
  const lives = Number(process.env['COMPLETION_PORT_TEST_WORKERS'] ?? 16);
  let left = lives;
  let done = 0;
  const live = async (): Promise<void> => {
    while (left-- > 0) {
      const asker = new Asker(words, ++who);
      const calls = 5 + random.below(40);
      for (let i = 0; i < calls; i++) {
        const id =
          random.below(4) === 0
            ? asker.call('aloneLater', random.below(2))
            : asker.call('alone', random.below(20_000));
        if (random.below(6) === 0) asker.cancel(id);
      }
      const enough = random.below(calls + 1);
      await until(() => asker.ends.size >= enough);
      asker.end((['terminate', 'terminate', 'exit', 'close'] as const)[random.below(4)]!);
      await asker.exited;
      for (const outcome of asker.ends.values()) {
        if (outcome === 'done') done++;
        else expect(outcome).toBe('ECANCELED');
      }
    }
  };
  await Promise.all([live(), live(), live(), live()]);
  expect(words[1]).toBe(0);
  expect(done).toBeGreaterThan(0);
  expect(await run('sumn', 3)).toBe(6);
});

test('between two tasks the event loop goes round', async () => {
  const { release } = holder();
  let between = 0;
  const seen: number[] = [];
  const calls = Array.from({ length: 20 }, () =>
    applyWith(exclusive(), () => cpu(tasks['gate']!, () => seen.push(between))),
  );
  const count = (): void => {
    between++;
    if (seen.length < calls.length) setImmediate(count);
  };
  setImmediate(count);
  release();
  await Promise.all(calls);
  expect(new Set(seen).size).toBe(calls.length);
});

const library = pathToFileURL(`${root}/dist/cpu.js`).href;
const fixture = pathToFileURL(`${root}/test/cpu/fixtures/tasks.mjs`).href;
const head = `
  import cpus from ${JSON.stringify(library)};
  import { tasks } from ${JSON.stringify(fixture)};
  const { cpu, exclusive, setApply } = cpus;
  setApply(exclusive());`;
const quiet = { bare: true, env: { NODE_NO_WARNINGS: '1' } };

test('who waits keeps the process alive, and takes no time; who does not, does not', async () => {
  const { code, stdout, stderr } = await runModule(
    `${head}
    import { inspect } from 'node:util';
import { Worker } from 'node:worker_threads';
    const words = new Int32Array(new SharedArrayBuffer(64));
    await cpu(tasks.sumn, 1);
    const text = \`${head} import { workerData } from 'node:worker_threads';
      cpu(tasks.sleeps, workerData, 1, 1000);\`;
    const url = new URL('data:text/javascript,' + encodeURIComponent(text));
    new Worker(url, { workerData: words }).unref();
    while (words[1] === 0) await new Promise((done) => setTimeout(done, 2));
    const before = process.cpuUsage();
    const value = await cpu(tasks.sumn, 3);
    const { user, system } = process.cpuUsage(before);
    console.log(value, words[1], user + system < 500_000);`,
    quiet,
  );
  expect({ code, stdout, stderr }).toEqual({ code: 0, stdout: '6 2 true\n', stderr: '' });
});

test('process.exit in a task, or beside threads that wait, ends the process', async () => {
  const { code, signal } = await runModule(
    `${head}
    import { inspect } from 'node:util';
import { Worker } from 'node:worker_threads';
    const words = new Int32Array(new SharedArrayBuffer(64));
    const text = \`${head} import { workerData } from 'node:worker_threads';
      Atomics.add(workerData, 0, 1); cpu(tasks.sumn, 1);\`;
    const url = new URL('data:text/javascript,' + encodeURIComponent(text));
    void cpu(tasks.never);
    for (let i = 0; i < 3; i++) new Worker(url, { workerData: words });
    while (words[0] < 3) await new Promise((done) => setTimeout(done, 2));
    process.exit(7);`,
    quiet,
  );
  expect({ code, signal }).toEqual({ code: 7, signal: null });
});
