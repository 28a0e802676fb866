/** Tasks, and where they run. */
import { expect, onTestFinished, test } from 'vitest';
import { spawn, type Micro } from '../../dist/micro.js';
import type { Operation, Policy, Task } from '../../dist/cpu.js';
import { codeOf, failureNow, failureOf, sleep } from '../support/harness';
import {
  applyWith,
  cpu,
  defineTasks,
  exclusive,
  inline,
  newPool,
  setApply,
  tasks,
  transfer,
} from './support';

interface Applied {
  readonly task: Task;
  readonly args: readonly unknown[];
  readonly signal: AbortSignal | undefined;
}

/** Keeps what it was asked for, and answers what `answer` does. */
function recorder(answer: (task: Task, args: readonly unknown[]) => unknown) {
  const calls: Applied[] = [];
  const policy: Policy = {
    apply(task, args, { signal }) {
      calls.push({ task, args, signal });
      return answer(task, args);
    },
  };
  return { calls, policy };
}

test('a task runs in place where nothing else was said, and is the function itself', async () => {
  expect(await cpu(tasks.sumn, 100)).toBe(5050);
  expect(tasks.sumn(4)).toBe(10);
  expect(tasks.sumn.module).toMatch(/^file:.*tasks\.mjs$/);
  expect(tasks.sumn.name).toBe('sumn');
  expect(await cpu(tasks['thread']!)).toBe(0);
  expect(await cpu(tasks['later']!, 1, 'value')).toBe('value');
});

test('what a task throws in place is what cpu rejects with', async () => {
  const error = await failureOf(() => cpu(tasks['fails']!, 'no'));
  expect(error).toBeInstanceOf(TypeError);
  expect(error.code).toBe('E_TASK');
  expect(await failureOf(() => cpu(tasks['laterFails']!, 'late'))).toBeInstanceOf(RangeError);
});

test('setApply chooses for the thread, applyWith for what a function calls', async () => {
  const outer = recorder(() => 'outer');
  const inner = recorder(async () => 'inner');
  setApply(outer.policy);
  onTestFinished(() => setApply(inline()));
  const seen = await applyWith(inner.policy, async () => {
    const first = await cpu(tasks.sumn, 1);
    await sleep(1);
    const second = await applyWith(inline(), () => cpu(tasks.sumn, 3));
    return [first, second, await cpu(tasks.sumn, 2)];
  });
  expect(seen).toEqual(['inner', 6, 'inner']);
  expect(await cpu(tasks.sumn, 3)).toBe('outer');
  expect(inner.calls.map(({ args }) => args)).toEqual([[1], [2]]);
  expect(inner.calls[0]!.task).toBe(tasks.sumn);
});

test('applyWith reaches micro-threads, and the generator that it is given', async () => {
  const { calls, policy } = recorder((_task, args) => args[0]);
  function* three(from: number): Micro<number> {
    const first: unknown = yield* cpu(tasks.sumn, from);
    yield* applyWith(inline(), function* () {
      expect(yield* cpu(tasks.sumn, 3)).toBe(6);
    });
    return (first as number) + ((yield* cpu(tasks.sumn, from + 1)) as number);
  }
  const thread = applyWith(policy, () => spawn(three(10)));
  expect(await thread).toBe(21);
  const result = await spawn(function* () {
    const inside = yield* applyWith(policy, () => three(20));
    expect(yield* cpu(tasks.sumn, 2)).toBe(3);
    return inside;
  });
  expect(result).toBe(41);
  expect(calls.map(({ args }) => args[0])).toEqual([10, 11, 20, 21]);
});

test('a generator under applyWith is ended and thrown into as any other', async () => {
  const seen: string[] = [];
  const thread = spawn(function* () {
    try {
      yield* applyWith(inline(), function* () {
        try {
          yield* cpu(tasks['never']!);
        } finally {
          seen.push('cleaned');
        }
      });
    } catch {
      seen.push('caught');
    }
  });
  thread.cancel();
  expect(codeOf(await failureOf(() => thread))).toBe('ECANCELED');
  expect(seen).toEqual(['cleaned']);
  const failing = spawn(function* () {
    return yield* applyWith(inline(), function* (): Micro<string> {
      try {
        yield* cpu(tasks['laterFails']!, 'x');
      } catch (error) {
        return (error as Error).name;
      }
      return 'nothing';
    });
  });
  expect(await failing).toBe('RangeError');
});

test('a policy is told by its signal that nobody waits any more', async () => {
  const { calls, policy } = recorder(() => new Promise(() => undefined));
  const controller = new AbortController();
  const begin = <T>(fn: () => T): T => applyWith(policy, fn);
  const aborted = begin(() => cpu.with({ signal: controller.signal }, tasks.sumn, 1));
  const late = begin(() => cpu.with({ timeout: 5 }, tasks.sumn, 1));
  const cancelled = begin(() => cpu(tasks.sumn, 1));
  expect(calls.map(({ signal }) => signal!.aborted)).toEqual([false, false, false]);
  cancelled.cancel();
  controller.abort(new Error('why'));
  const error = await failureOf(() => aborted);
  expect(error).toMatchObject({ name: 'AbortError', code: 'ABORT_ERR' });
  expect((error.cause as Error).message).toBe('why');
  expect(await failureOf(() => late)).toMatchObject({ code: 'ETIMEDOUT', timeout: true });
  expect(codeOf(await failureOf(() => cancelled))).toBe('ECANCELED');
  expect(calls.map(({ signal }) => signal!.aborted)).toEqual([true, true, true]);
  const none = begin(() => cpu.with({ signal: AbortSignal.abort() }, tasks.sumn, 1));
  expect(codeOf(await failureOf(() => none))).toBe('ABORT_ERR');
  expect(calls).toHaveLength(3);
});

test('what a policy throws, cpu rejects with', async () => {
  const { policy } = recorder(() => {
    throw new Error('no');
  });
  const failing: Operation<unknown> = applyWith(policy, () => cpu(tasks.sumn, 1));
  expect((await failureOf(() => failing)).message).toBe('no');
});

test('tasks of one name in two modules are two, and a name may be defined again', () => {
  const one = defineTasks('file:///one.mjs', { same: () => 1 });
  const two = defineTasks(new URL('file:///two.mjs'), { same: () => 2 });
  expect([one.same(), two.same(), one.same.module]).toEqual([1, 2, 'file:///one.mjs']);
  const again = defineTasks('file:///one.mjs', { same: () => 3 });
  expect([one.same(), again.same()]).toEqual([1, 3]);
});

test.each([
  ['inline()', inline()],
  ['exclusive()', exclusive()],
  ['a policy of the program', { apply: (task, args) => inline().apply(task, args, {}) as never }],
  [
    'one that runs it later',
    { apply: async (task, args) => (await sleep(1), task(...(args as never[]))) },
  ],
] as [string, Policy][])('%s: what is transferred stays, then and later', async (_, policy) => {
  const workers = newPool({ minThreads: 1, maxThreads: 1 });
  const [given, returned] = [new Uint8Array(1000), new Uint8Array(1000)];
  const { back } = defineTasks('file:///back.mjs', {
    back: (_bytes: Uint8Array) => transfer(returned, [returned.buffer]),
  });
  const result = await applyWith(policy, () => cpu(back, transfer(given, [given.buffer])));
  expect(result).toBe(returned);
  for (const bytes of [given, returned]) {
    await applyWith(workers, () => cpu(tasks['one']!, bytes));
    expect(bytes.length).toBe(1000);
  }
});

test('a call that is given up or refused takes no memory, then and later', async () => {
  const workers = newPool({ minThreads: 1, maxThreads: 1 });
  const closed = newPool();
  await closed.close();
  const bytes = new Uint8Array(1000);
  const moved = (): Uint8Array => transfer(bytes, [bytes.buffer]);
  const signal = AbortSignal.abort();
  const calls = [
    () => applyWith(workers, () => cpu.with({ signal }, tasks['one']!, moved())),
    () => applyWith(closed, () => cpu(tasks['one']!, moved())),
  ];
  for (const call of calls) {
    await failureOf(call);
    await applyWith(workers, () => cpu(tasks['one']!, bytes));
    expect(bytes.length).toBe(1000);
  }
});

test('a policy of the program may hand what is transferred on to a pool', async () => {
  const workers = newPool({ minThreads: 1, maxThreads: 1 });
  const bytes = new Uint8Array(1000);
  const later: Policy = {
    apply: async (task, args) =>
      (await sleep(1), workers.apply(task, args as never[], {})) as never,
  };
  await applyWith(later, () => cpu(tasks['one']!, transfer(bytes, [bytes.buffer])));
  expect(bytes.length).toBe(0);
});

test('a task may be named as a property of an AbortSignal', async () => {
  const { aborted } = defineTasks('file:///names.mjs', { aborted: () => 1 });
  expect(await cpu(aborted)).toBe(1);
});

test('wrong arguments throw at once', () => {
  const wrong: [() => unknown, string][] = [
    [() => (cpu as (task: unknown) => unknown)(() => 1), 'ERR_INVALID_ARG_TYPE'],
    [() => (cpu as (task: unknown) => unknown)(undefined), 'ERR_INVALID_ARG_TYPE'],
    [() => cpu.with(undefined as never, tasks.sumn, 1), 'ERR_INVALID_ARG_TYPE'],
    [() => cpu.with({ late: 1 } as never, tasks.sumn, 1), 'ERR_INVALID_ARG_VALUE'],
    [() => cpu.with({ timeout: -1 }, tasks.sumn, 1), 'ERR_OUT_OF_RANGE'],
    [() => cpu.with({ signal: 1 as never }, tasks.sumn, 1), 'ERR_INVALID_ARG_TYPE'],
    [() => cpu.with({ terminate: 1 as never }, tasks.sumn, 1), 'ERR_INVALID_ARG_TYPE'],
    [() => setApply({} as never), 'ERR_INVALID_ARG_TYPE'],
    [() => applyWith(undefined as never, () => 1), 'ERR_INVALID_ARG_TYPE'],
    [() => applyWith(inline(), 1 as never), 'ERR_INVALID_ARG_TYPE'],
    [() => defineTasks('x.mjs', { a: () => 1 }), 'ERR_INVALID_ARG_VALUE'],
    [() => defineTasks(1 as never, { a: () => 1 }), 'ERR_INVALID_ARG_TYPE'],
    [() => defineTasks('file:///x.mjs', {}), 'ERR_INVALID_ARG_VALUE'],
    [() => defineTasks('file:///x.mjs', { a: 1 as never }), 'ERR_INVALID_ARG_TYPE'],
    [() => inline().apply(tasks.sumn, 1 as never, {}), 'ERR_INVALID_ARG_TYPE'],
  ];
  for (const [fn, code] of wrong)
    expect([String(fn), failureNow(fn).code]).toEqual([String(fn), code]);
});
