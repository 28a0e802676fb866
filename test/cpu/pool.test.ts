/** Pools: what goes to a thread, what comes back, and who waits. */
import { createRequire } from 'node:module';
import { pathToFileURL } from 'node:url';
import { MessageChannel, type MessagePort } from 'node:worker_threads';
import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import { spawn } from '../../dist/micro.js';
import type { Operation, Task } from '../../dist/cpu.js';
import { codeOf, failureNow, failureOf, pattern, temporaryFile, until } from '../support/harness';
import {
  applyWith,
  cpu,
  defineTasks,
  inline,
  newPool,
  pool,
  sharedWords,
  tasks,
  transfer,
} from './support';

const require = createRequire(import.meta.url);

/** What `fn` calls, in a pool of so many threads. */
function inPool(threads = 1) {
  const p = newPool({ threads });
  const run = <T>(task: Task<(...args: never[]) => T>, ...args: unknown[]) =>
    applyWith(p, () => cpu(task, ...(args as never[])));
  return { p, run };
}

test('tasks run in other threads, awaited or in a micro-thread', async () => {
  const { run } = inPool(2);
  expect(await run(tasks.sumn, 100)).toBe(5050);
  expect(await run(tasks['thread']!)).toBeGreaterThan(0);
  const all = await Promise.all(Array.from({ length: 1000 }, (_, n) => run(tasks.sumn, n)));
  expect(all).toEqual(Array.from({ length: 1000 }, (_, n) => (n * (n + 1)) / 2));
  const joined = await spawn(function* () {
    const first = (yield* run(tasks.sumn, 4)) as number;
    return first + ((yield* run(tasks['later']!, 1, 5)) as number);
  });
  expect(joined).toBe(15);
});

const values: [string, unknown[]][] = [
  ['numbers', [0, -0, 1.5, NaN, Infinity, -1e300]],
  ['what is none', [undefined, null, true, false]],
  ['text', ['', 'short', 'ä€', '\ud800 alone', 'long '.repeat(100), 'länger '.repeat(100)]],
  ['bytes', [new Uint8Array(0), pattern(10), Uint8Array.from([1, 2, 3])]],
  ['a block of bytes', [pattern(5000)]],
  ['a block of text', ['text '.repeat(5000)]],
  ['objects', [{ a: [1, { b: new Map([[1, new Set([2])]]) }] }, [new Date(5)], 10n, /x/g]],
  ['many objects', [Array.from({ length: 5000 }, (_, i) => ({ i }))]],
  ['other arrays', [new Float64Array([1.5, 2]), new Uint16Array([65535])]],
  ['more values than a byte counts', Array.from({ length: 300 }, (_, i) => i)],
  ['none', []],
];

test.each(values)('%s go there and back', async (_name, given) => {
  const { run } = inPool();
  const back = await run(tasks['same']!, ...given);
  expect(back).toEqual(given);
  const classes = (all: unknown[]) => all.map((value) => Object.prototype.toString.call(value));
  expect(classes(back as unknown[])).toEqual(classes(given));
});

test('one object that is given twice is one object there', async () => {
  const { run } = inPool();
  const one = { name: 'one' };
  const [first, second] = (await run(tasks['same']!, one, one)) as object[];
  expect(first).toEqual(one);
  expect(first).not.toBe(one);
  expect(second).toBe(first);
});

test.each([0, 5, 1000, 5000, 100_000])(
  'a Buffer of %i bytes comes back as one, with memory of its own',
  async (length) => {
    const { run } = inPool();
    const given = Buffer.alloc(length, 'x');
    // Beside what is larger than its arguments are, and with them.
    const [made, back] = [await run(tasks['buffer']!, length), await run(tasks['one']!, given)];
    for (const buffer of [made, back] as Buffer[]) {
      expect(Buffer.isBuffer(buffer)).toBe(true);
      expect(buffer.equals(given)).toBe(true);
      expect(buffer.buffer.byteLength).toBe(length);
    }
    const bytes = new Uint8Array(given);
    expect(await run(tasks['classes']!, given, 'between', bytes)).toEqual([
      `Buffer ${length}`,
      'String 7',
      `Uint8Array ${length}`,
    ]);
    expect([given.length, bytes.length]).toEqual([length, length]);
  },
);

test('results that are larger than the arguments come back whole', async () => {
  const { run } = inPool();
  const filled = Buffer.alloc(500_000, 7);
  expect(filled.equals((await run(tasks['fill']!, 500_000)) as Uint8Array)).toBe(true);
  const { bytes } = (await run(tasks['filled']!, 500_000)) as { bytes: Uint8Array };
  expect(filled.equals(bytes)).toBe(true);
});

test('what changes after the call is not seen, also by a task that waits', async () => {
  const { run } = inPool();
  const words = sharedWords();
  const gate = run(tasks['gated']!, words, 0, 1);
  const bytes = pattern(100);
  const object = { a: 1 };
  const calls = Array.from({ length: 100 }, () => run(tasks['same']!, bytes, object));
  bytes.fill(0);
  object.a = 2;
  Atomics.store(words, 1, 1);
  await gate;
  for (const [was, had] of (await Promise.all(calls)) as [Uint8Array, { a: number }][]) {
    expect(was).toEqual(pattern(100));
    expect(had.a).toBe(1);
  }
});

test('what is transferred changes hands at once, there and back', async () => {
  const { run } = inPool(2);
  let bytes = new Uint8Array(1 << 16).fill(3);
  for (let turn = 0; turn < 50; turn++) {
    const given = bytes;
    const call = run(tasks['one']!, transfer(given, [given.buffer]));
    expect(given.length).toBe(0);
    bytes = (await call) as Uint8Array<ArrayBuffer>;
    expect(bytes.length).toBe(1 << 16);
  }
  expect(bytes[9]).toBe(3);
  const given = (await run(tasks['give']!, 1000)) as { bytes: Uint8Array };
  expect(given.bytes).toEqual(new Uint8Array(1000).fill(5));
  const { port1, port2 } = new MessageChannel();
  const port = (await run(tasks['pass']!, transfer(port1, [port1]))) as MessagePort;
  const received = new Promise((resolve) => port.once('message', resolve));
  port2.postMessage('over there and back');
  expect(await received).toBe('over there and back');
  port.close();
});

test('Buffers that are transferred stay Buffers, whole and alone in their memory', async () => {
  const { run } = inPool();
  const words = sharedWords();
  for (const length of [10, 3000, 4096, 8192, 100_000]) {
    for (const waits of [true, false]) {
      // To a thread that waits, and to one that asks for them.
      const gate = waits ? undefined : run(tasks['later']!, 5, 0);
      const given = Buffer.from('y'.repeat(length));
      const same = Buffer.from(given);
      const call = run(tasks['one']!, transfer(given, [given.buffer]));
      const back = (await call) as Buffer;
      await gate;
      expect(Buffer.isBuffer(back) && back.equals(same)).toBe(true);
      expect(back.buffer.byteLength).toBe(length);
      const made = (await run(tasks['giveBuffer']!, length)) as Buffer;
      expect([Buffer.isBuffer(made), made.length, made.buffer.byteLength]).toEqual([
        true,
        length,
        length,
      ]);
    }
  }
  // Beside what makes a message of them.
  const beside = Buffer.from('beside');
  expect(await run(tasks['around']!, words, beside)).toEqual(['beside', 6]);
  expect(beside.toString()).toBe('beside');
  const shared = Buffer.from(words.buffer);
  const [first, second] = (await run(tasks['classes']!, shared, shared)) as string[];
  expect([first, second]).toEqual(['Buffer 64', 'Buffer 64']);
});

test('what is transferred goes to a thread that waits, while others are busy', async () => {
  const { p, run } = inPool(2);
  const words = sharedWords();
  const gate = run(tasks['gated']!, words, 0, 1);
  await until(() => words[0] === 1);
  const give = (byte: number) => {
    const bytes = new Uint8Array(1000).fill(byte);
    return run(tasks['one']!, transfer(bytes, [bytes.buffer])) as Promise<Uint8Array>;
  };
  for (let turn = 0; turn < 100; turn++) expect((await give(turn))[9]).toBe(turn);
  const together = await Promise.all(Array.from({ length: 100 }, (_, i) => give(i)));
  expect(together.map((bytes) => bytes[9])).toEqual(Array.from({ length: 100 }, (_, i) => i));
  expect(p.stats()).toMatchObject({ running: 1, waiting: 0 });
  Atomics.store(words, 1, 1);
  await gate;
});

test('a thread that was to have what cannot be cloned takes other tasks', async () => {
  const { run } = inPool();
  await run(tasks.sumn, 1);
  for (let turn = 0; turn < 20; turn++) {
    const bytes = new Uint8Array(10);
    const both = transfer({ bytes, fn: () => 1 }, [bytes.buffer]);
    expect(failureNow(() => run(tasks['one']!, both))).toMatchObject({ name: 'DataCloneError' });
    expect(await run(tasks.sumn, turn)).toBe((turn * (turn + 1)) / 2);
  }
});

test('what is transferred and given up at once is forgotten, and never runs twice', async () => {
  const { p, run } = inPool();
  const words = sharedWords();
  await run(tasks.sumn, 1);
  const before = p.stats().allocatedBytes;
  for (let turn = 0; turn < 200; turn++) {
    // Shared memory goes as a message, as what is transferred does.
    const call = run(tasks['counts']!, words, 0);
    call.cancel();
    expect(codeOf(await failureOf(() => call))).toBe('ECANCELED');
    if (turn % 3 === 0) expect(await run(tasks['counts']!, words, 1)).toBe(1);
  }
  await until(() => p.stats().running + p.stats().waiting === 0);
  expect(words[0]).toBeLessThanOrEqual(200);
  expect(words[1]).toBe(67);
  expect(p.stats().allocatedBytes).toBe(before);
});

test('what was sent for a task whose module does not load is not the next one’s', async () => {
  const module = temporaryFile('throw new Error("does not load");', 'broken.mjs');
  const { lost } = defineTasks(pathToFileURL(module), { lost: (bytes: Uint8Array) => bytes });
  const { run } = inPool();
  await run(tasks.sumn, 1);
  for (let turn = 0; turn < 5; turn++) {
    const wrong = new Uint8Array(100_000).fill(1);
    expect(codeOf(await failureOf(() => run(lost as never, wrong)))).toBe('ERR_TASK_MODULE');
    // The place is free again when the first of these is done, and the thread busy with the second.
    const [first, second] = [run(tasks['later']!, 1, 0), run(tasks['later']!, 50, 0)];
    await first;
    const right = new Uint8Array(1000).fill(2);
    const given = (await run(tasks['one']!, transfer(right, [right.buffer]))) as Uint8Array;
    expect([given.length, given[999]]).toEqual([1000, 2]);
    await second;
  }
});

test('a module that throws when its tasks are defined already runs none of them', async () => {
  const library = createRequire(import.meta.url).resolve('../../dist/cpu.js');
  const module = temporaryFile(
    `import cpu from ${JSON.stringify(pathToFileURL(library).href)};
     cpu.defineTasks(import.meta.url, { half: () => 'ran' });
     throw new TypeError('no configuration');`,
    'half.mjs',
  );
  const { half } = defineTasks(pathToFileURL(module), { half: () => 'here' });
  const { run } = inPool();
  for (let turn = 0; turn < 3; turn++) {
    const error = await failureOf(() => run(half));
    expect([error.code, error.message]).toEqual([
      'ERR_TASK_MODULE',
      expect.stringContaining('no configuration'),
    ]);
  }
});

test('where the system makes no thread a task fails, and those that follow', async () => {
  const p = newPool({ minThreads: 0, maxThreads: 2, execArgv: ['--no-such-option-of-node'] });
  for (let turn = 0; turn < 3; turn++) {
    const error = await failureOf(() => applyWith(p, () => cpu(tasks.sumn, 1)));
    expect(error.code).toBe('ERR_WORKER_INVALID_EXEC_ARGV');
    expect(p.stats()).toMatchObject({ waiting: 0, running: 0, threads: 0 });
  }
});

test('memory is shared, not copied', async () => {
  const { run } = inPool();
  const words = sharedWords();
  await run(tasks['counts']!, words, 3);
  expect(words[3]).toBe(1);
});

test('an argument that cannot be cloned throws at once, and names the task', async () => {
  const { p, run } = inPool();
  const error = failureNow(() => run(tasks.sumn, () => 1)) as unknown as DOMException;
  const gone = new Uint8Array(10);
  structuredClone(gone, { transfer: [gone.buffer] });
  const late = failureNow(() => run(tasks.sumn, gone)) as unknown as DOMException;
  expect([late.name, late.message]).toEqual(['DataCloneError', expect.stringContaining("'sumn'")]);
  const moved = failureNow(() => run(tasks.sumn, transfer(gone, [gone.buffer])));
  expect(moved).toMatchObject({ name: 'DataCloneError', code: late.code });
  expect(moved.message).toMatch(/'sumn'.* transferred before/);
  expect(p.stats().waiting).toBe(0);
  expect(error).toBeInstanceOf(DOMException);
  expect(error.name).toBe('DataCloneError');
  expect(error.message).toMatch(/^The arguments of task 'sumn': .*could not be cloned/);
  const result = (await failureOf(() => run(tasks['fn']!))) as unknown as DOMException;
  expect(result).toBeInstanceOf(DOMException);
  expect(result.name).toBe('DataCloneError');
  expect(result.message).toMatch(/^The result of task 'fn': .*could not be cloned/);
  expect(p.stats().waiting).toBe(0);
});

test('errors come back with class, code, cause, properties and the stack of the thread', async () => {
  const { run } = inPool();
  const error = await failureOf(() => run(tasks['fails']!, 'no'));
  expect(error).toBeInstanceOf(TypeError);
  expect(error).toMatchObject({ message: 'no', code: 'E_TASK', detail: { deep: [1] } });
  expect(error.stack).toMatch(/TypeError: no\n\s+at fails .*tasks\.mjs/);
  expect(error.cause).toBeInstanceOf(RangeError);
  expect(error.cause).toMatchObject({ message: 'because', code: 'E_CAUSE' });
  expect(Object.keys(error).sort()).toEqual(['code', 'detail']);
  expect(await failureOf(() => run(tasks['failsOddly']!))).toMatchObject({
    name: 'Odd',
    message: 'odd',
  });
  const many = (await failureOf(() => run(tasks['failsWithMany']!))) as unknown as AggregateError;
  expect(many).toBeInstanceOf(AggregateError);
  expect(many.errors.map(({ name }: Error) => name)).toEqual(['TypeError', 'Odd']);
  for (const thrown of ['text', 5, undefined, null, { a: 1 }]) {
    const caught = await run(tasks['failsWith']!, thrown).then(
      () => 'nothing',
      (reason: unknown) => [reason],
    );
    expect(caught).toEqual([thrown]);
  }
  expect(await failureOf(() => run(tasks['laterFails']!, 'late'))).toBeInstanceOf(RangeError);
});

test('tasks of a CommonJS module, and of two modules with the same names', async () => {
  const { others } = require('./fixtures/others.cjs') as { others: Record<string, Task> };
  const { run } = inPool();
  expect(await run(others['only'] as never)).toBe('CommonJS');
  expect(await run(others['sumn'] as never, 5)).toBe('not a sum of 5');
  expect(await run(tasks.sumn, 5)).toBe(15);
});

test('a module that does not load, or lacks the task, says which and why', async () => {
  const { alone, late } = (await import('./fixtures/broken.mjs')) as unknown as {
    alone: Task;
    late: () => Task;
  };
  process.env['CPU_FIXTURE_BREAKS'] = '1';
  const { run } = inPool();
  const error = await failureOf(() => run(alone as never));
  expect(error.code).toBe('ERR_TASK_MODULE');
  expect(error.message).toMatch(
    /module of task 'alone', file:.*broken\.mjs, does not load: not in a/,
  );
  expect((error.cause as Error).message).toBe('not in a thread');
  delete process.env['CPU_FIXTURE_BREAKS'];
  const second = inPool();
  const missing = await failureOf(() => second.run(late() as never));
  expect(missing.code).toBe('ERR_TASK_MODULE');
  expect(missing.message).toMatch(/'missing' is not in .*, which defines only alone/);
  expect(await second.run(alone as never)).toBe('here');
});

test('a task that is given up while it waits never runs', async () => {
  const { p, run } = inPool();
  const words = sharedWords();
  const gate = run(tasks['gated']!, words, 0, 1);
  await until(() => words[0] === 1);
  const controller = new AbortController();
  const options = { signal: controller.signal };
  const signalled = Array.from({ length: 10 }, () =>
    applyWith(p, () => cpu.with(options, tasks['counts']!, words, 2)),
  );
  const cancelled = Array.from({ length: 200 }, () => run(tasks['counts']!, words, 2));
  const late = applyWith(p, () => cpu.with({ timeout: 5 }, tasks['counts']!, words, 2));
  const last = run(tasks['counts']!, words, 3);
  expect(p.stats().waiting).toBe(212);
  controller.abort();
  for (const one of cancelled) one.cancel();
  for (const one of signalled) expect(codeOf(await failureOf(() => one))).toBe('ABORT_ERR');
  for (const one of cancelled) expect(codeOf(await failureOf(() => one))).toBe('ECANCELED');
  expect(await failureOf(() => late)).toMatchObject({ code: 'ETIMEDOUT', timeout: true });
  expect(p.stats()).toMatchObject({ waiting: 1, running: 1 });
  Atomics.store(words, 1, 1);
  await Promise.all([gate, last]);
  expect([...words.subarray(2, 4)]).toEqual([0, 1]);
});

test('a task that is given up while it runs goes on, and its thread after it', async () => {
  const { p, run } = inPool();
  const words = sharedWords();
  const running = run(tasks['gated']!, words, 0, 1);
  await until(() => words[0] === 1);
  const thread = run(tasks['thread']!);
  running.cancel();
  expect(codeOf(await failureOf(() => running))).toBe('ECANCELED');
  expect(p.stats()).toMatchObject({ running: 1, waiting: 1, replaced: 0 });
  Atomics.store(words, 1, 1);
  const before = await thread;
  expect(await run(tasks['thread']!)).toBe(before);
  expect(p.stats().replaced).toBe(0);
});

test('terminate ends the thread of a task that runs, and another takes its place', async () => {
  const { p, run } = inPool();
  const words = sharedWords();
  const before = await run(tasks['thread']!);
  const options = { terminate: true, timeout: 50 };
  const stuck = applyWith(p, () => cpu.with(options, tasks['gated']!, words, 0, 1));
  expect(codeOf(await failureOf(() => stuck))).toBe('ETIMEDOUT');
  const after = await run(tasks['thread']!);
  // Where the thread had not begun yet, the task has left the queue.
  if (words[0] === 1) expect(after).not.toBe(before);
  expect(p.stats().replaced).toBeGreaterThanOrEqual(words[0]!);
  const cancelled = spawn(function* () {
    yield* applyWith(p, () => cpu.with({ terminate: true }, tasks['gated']!, words, 2, 1));
  });
  await until(() => words[2] === 1);
  cancelled.cancel();
  expect(codeOf(await failureOf(() => cancelled))).toBe('ECANCELED');
  expect(await run(tasks.sumn, 3)).toBe(6);
});

test('beyond queueLimit cpu fails, and room() waits, in order', async () => {
  const p = newPool({ threads: 1, queueLimit: 2 });
  const run = (task: Task, ...args: unknown[]) =>
    applyWith(p, () => (cpu as (...all: unknown[]) => Operation<unknown>)(task, ...args));
  const words = sharedWords();
  await p.room();
  const gate = run(tasks['gated']!, words, 0, 1);
  const waiting = [run(tasks.sumn, 1), run(tasks.sumn, 2)];
  expect(codeOf(await failureOf(() => run(tasks.sumn, 3)))).toBe('ERR_QUEUE_FULL');
  expect(codeOf(await failureOf(() => p.room({ timeout: 5 })))).toBe('ETIMEDOUT');
  const aborted = failureOf(() => p.room({ signal: AbortSignal.abort() }));
  expect(codeOf(await aborted)).toBe('ABORT_ERR');
  const order: number[] = [];
  const rooms = [1, 2, 3].map(async (n) => {
    await p.room();
    order.push(n);
    return run(tasks.sumn, n);
  });
  waiting[0]!.cancel();
  expect(codeOf(await failureOf(() => waiting[0]))).toBe('ECANCELED');
  await until(() => order.length === 1);
  Atomics.store(words, 1, 1);
  expect(await Promise.all([gate, waiting[1], ...rooms])).toEqual([0, 3, 1, 3, 6]);
  expect(order).toEqual([1, 2, 3]);
});

test('threads come with the load, up to maxThreads, and go when idle', async () => {
  const p = newPool({ minThreads: 0, maxThreads: 3, idleTimeout: 20 });
  const run = (...args: unknown[]) =>
    applyWith(p, () => cpu(tasks['gated']!, ...(args as never[])));
  expect(p.stats().threads).toBe(0);
  const words = sharedWords();
  const first = run(words, 0, 5);
  expect(p.stats().threads).toBe(1);
  const more = [1, 2, 3].map((place) => run(words, place, 5));
  expect(p.stats().threads).toBe(3);
  await until(() => words[0]! + words[1]! + words[2]! + words[3]! === 3);
  Atomics.store(words, 5, 1);
  await Promise.all([first, ...more]);
  await until(() => p.stats().threads === 0);
  expect(p.stats().replaced).toBe(0);
  expect(await applyWith(p, () => cpu(tasks.sumn, 3))).toBe(6);
});

test('stats count tasks, and how long they waited and ran', async () => {
  const { p, run } = inPool();
  await Promise.all(Array.from({ length: 100 }, () => run(tasks['later']!, 0, 1)));
  const { threads, running, waiting, completed, waitTime, runTime } = p.stats();
  expect({ threads, running, waiting, completed }).toEqual({
    ...{ threads: 1, running: 0, waiting: 0, completed: 100 },
  });
  expect([waitTime.count, runTime.count]).toEqual([100, 100]);
  expect(runTime.min).toBeGreaterThan(0);
  expect(p.stats().runTime).toBe(runTime);
  expect(inspect(p)).toMatch(
    /^Pool \{ threads: 1, running: 0, .*completed: 100, closed: false \}$/,
  );
});

test('memory of arguments and results goes back', async () => {
  const { p, run } = inPool(2);
  await run(tasks.sumn, 1);
  const before = p.stats().allocatedBytes;
  const bytes = pattern(300_000);
  const calls = Array.from({ length: 200 }, () => run(tasks['one']!, bytes));
  calls.forEach((call, i) => i % 3 === 0 && call.cancel());
  await Promise.allSettled(calls);
  // A task that runs for nobody has its memory until it ends.
  await until(() => p.stats().allocatedBytes === before);
});

test('close ends what is under way, or waits for it for a while', async () => {
  const { p, run } = inPool();
  const words = sharedWords();
  const calls = [run(tasks['gated']!, words, 0, 1), run(tasks.sumn, 1)];
  await until(() => words[0] === 1);
  const closing = p.close();
  expect(p.close()).toBe(closing);
  expect(p.closed).toBe(true);
  for (const call of calls) expect(codeOf(await failureOf(() => call))).toBe('ERR_POOL_CLOSED');
  await closing;
  expect(failureNow(() => run(tasks.sumn, 1)).code).toBe('ERR_POOL_CLOSED');
  expect(codeOf(await failureOf(() => p.room()))).toBe('ERR_POOL_CLOSED');
  expect(p.stats()).toMatchObject({ threads: 0, running: 0, waiting: 0, allocatedBytes: 0 });

  const patient = inPool();
  const last = [patient.run(tasks['later']!, 20, 'done'), patient.run(tasks.sumn, 3)];
  await patient.p.close({ grace: Infinity });
  expect(await Promise.all(last)).toEqual(['done', 6]);
  const hasty = inPool();
  const never = hasty.run(tasks['gated']!, words, 2, 3);
  never.catch(() => undefined);
  await hasty.p.close({ grace: 20 });
  expect(codeOf(await failureOf(() => never))).toBe('ERR_POOL_CLOSED');
});

test('a pool is a policy that others may ask', async () => {
  const p = newPool({ threads: 1 });
  expect(await p.apply(tasks.sumn as never, [3] as never)).toBe(6);
  const { signal } = new AbortController();
  const threads = applyWith(
    { apply: (task, args) => p.apply(task, args as never, { signal }) },
    () => cpu(tasks['thread']!),
  );
  expect(await threads).toBeGreaterThan(0);
  expect(await applyWith(inline(), () => cpu(tasks['thread']!))).toBe(0);
});

test('wrong options throw at once', async () => {
  const wrong: [object, string][] = [
    [{ thread: 1 }, 'ERR_INVALID_ARG_VALUE'],
    [{ threads: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ threads: '2' }, 'ERR_INVALID_ARG_TYPE'],
    [{ threads: 1, maxThreads: 1 }, 'ERR_INVALID_ARG_VALUE'],
    [{ minThreads: 3, maxThreads: 2 }, 'ERR_OUT_OF_RANGE'],
    [{ idleTimeout: -1 }, 'ERR_OUT_OF_RANGE'],
    [{ queueLimit: 1.5 }, 'ERR_OUT_OF_RANGE'],
    [{ resourceLimits: { heap: 1 } }, 'ERR_INVALID_ARG_VALUE'],
    [{ resourceLimits: { stackSizeMb: 0 } }, 'ERR_OUT_OF_RANGE'],
    [{ execArgv: 'x' }, 'ERR_INVALID_ARG_TYPE'],
    [{ name: 1 }, 'ERR_INVALID_ARG_TYPE'],
  ];
  for (const [options, code] of wrong) {
    expect([options, failureNow(() => pool(options)).code]).toEqual([options, code]);
  }
  const p = newPool({ threads: 1 });
  expect(failureNow(() => p.close({ wait: 1 } as never)).code).toBe('ERR_INVALID_ARG_VALUE');
  expect(codeOf(await failureOf(() => p.room({ late: 1 } as never)))).toBe('ERR_INVALID_ARG_VALUE');
});
