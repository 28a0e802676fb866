/** Tasks by way of BullMQ, on a Redis that the test starts. */
import { randomUUID } from 'node:crypto';
import { createRequire } from 'node:module';
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { inspect } from 'node:util';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type * as bull from '../dist/bullmq.js';
import type * as api from '../dist/cpu.js';
import {
  codeOf,
  ended,
  failureNow,
  failureOf,
  root,
  runModule,
  startProcess,
  temporaryDirectory,
  temporaryFile,
  until,
} from './support/harness';
import { noRedis, startRedis, type Redis } from './support/redis';

const require = createRequire(import.meta.url);
const { applyWith, cpu, defineTasks } = require('../dist/cpu.js') as typeof api;
const { bullmq } = require('../dist/bullmq.js') as typeof bull;

/* eslint-disable-next-line @typescript-eslint/no-explicit-any */
type Any = api.Task<(...args: any[]) => any>;
const { tasks } = (await import('./cpu/fixtures/elsewhere.tasks.mjs')) as {
  tasks: Readonly<Record<string, Any>>;
};
const modulePath = path.join(root, 'test/cpu/fixtures/elsewhere.tasks.mjs');
const cli = path.join(root, 'dist/cli.js');

/** A process that serves the fixture's tasks, once it does. */
async function worker(redis: Redis, queue: string, ...more: string[]) {
  const args = ['work', '--queue', queue, '--redis', redis.url, '--concurrency', '2'];
  const child = startProcess([cli, ...args, ...more, modulePath], {
    env: { NODE_NO_WARNINGS: '1' },
  });
  let said = '';
  child.stdout!.on('data', (text) => (said += String(text)));
  child.stderr!.on('data', (text) => (said += String(text)));
  const exited = new Promise<number | null>((resolve) => child.once('exit', resolve));
  await until(() => said.includes('\n') || child.exitCode !== null);
  if (!said.includes(`of queue ${queue}`)) throw new Error(said);
  return { child, exited, said: () => said };
}

describe.skipIf(noRedis !== undefined)(`by way of Redis${noRedis ? ` (${noRedis})` : ''}`, () => {
  let redis: Redis;
  beforeAll(async () => void (redis = await startRedis()));
  afterAll(() => redis?.stop());

  function newPolicy(options: Partial<bull.BullmqOptions> = {}) {
    const queue = options.queue ?? `q-${randomUUID()}`;
    const policy = bullmq({ queue, connection: redis.url, ...options });
    onTestFinished(() => policy.close());
    const run = (name: string, ...args: unknown[]) =>
      applyWith(policy, () => cpu(tasks[name]!, ...(args as never[])));
    return { queue, policy, run };
  }

  /** Keys of the queue that begin with those of its jobs. */
  async function jobsIn(queue: string): Promise<number> {
    const { Queue } = require('bullmq') as typeof import('bullmq');
    const one = new Queue(queue, { connection: { url: redis.url } });
    try {
      const counts = await one.getJobCounts();
      return Object.values(counts).reduce((sum, count) => sum + count, 0);
    } finally {
      await one.close();
    }
  }

  async function untilJobs(queue: string, count: number): Promise<void> {
    let found: number | undefined;
    for (let i = 0; found !== count && i < 1000; i++) found = await jobsIn(queue);
    expect(found).toBe(count);
  }

  test('tasks run in another process, and values go there and back', async () => {
    const { queue, policy, run } = newPolicy();
    const { child } = await worker(redis, queue);
    expect(await run('sumn', 100)).toBe(5050);
    expect(await run('pid')).toBe(child.pid);
    const values = [
      ...[undefined, null, -0, NaN, 12n, 'é€', true, new Date(5), new Map([[{ a: 1 }, /x/g]])],
      ...[new Uint8Array([1, 2, 3]), Buffer.from('bytes'), new Float64Array([1.5]), [[]]],
    ];
    expect(await run('same', ...values)).toEqual(values);
    expect(await run('same')).toEqual([]);
    const many = await Promise.all(Array.from({ length: 100 }, (_, n) => run('sumn', n)));
    expect(many).toEqual(Array.from({ length: 100 }, (_, n) => (n * (n + 1)) / 2));
    expect(policy.stats()).toEqual({ pending: 0, completed: 104 });
    expect(inspect(policy)).toMatch(/^BullmqPolicy {\s+queue: 'q-[\w-]+',\s+pending: 0,/);
    // Answers that were taken do not stay.
    await untilJobs(queue, 0);
  });

  test('errors come back with their stack there, their cause and code', async () => {
    const { queue, run } = newPolicy();
    await worker(redis, queue);
    const error = await failureOf(() => run('fails', 'no'));
    expect(error).toBeInstanceOf(TypeError);
    expect(error).toMatchObject({ message: 'no', code: 'E_TASK' });
    expect(error.stack).toContain('elsewhere.tasks.mjs');
    expect(error.cause).toBeInstanceOf(RangeError);
    expect(error.cause).toMatchObject({ message: 'because', code: 'E_CAUSE' });
    const shared = await failureOf(() => run('port'));
    expect(shared).toMatchObject({ name: 'DataCloneError' });
    expect(shared.message).toContain("The result of task 'port'");
    const sent = failureNow(() => run('same', () => 1));
    expect(sent).toMatchObject({ name: 'DataCloneError' });
    expect(sent.message).toContain("The arguments of task 'same'");
  });

  test('a task that nobody serves says which there are', async () => {
    const file = path.join(temporaryDirectory(), 'other.tasks.mjs');
    const { odd } = defineTasks(pathToFileURL(file), { odd: () => 1 });
    const { queue, policy } = newPolicy();
    await worker(redis, queue);
    const error = await failureOf(() => applyWith(policy, () => cpu(odd)));
    expect(error.code).toBe('ERR_TASK_MODULE');
    expect(error.message).toMatch(
      /No task other\.tasks\.mjs#odd is served here: .*tasks\.mjs#sumn/,
    );
    const { bare } = defineTasks('data:text/javascript,', { bare: () => 1 });
    expect(failureNow(() => applyWith(policy, () => cpu(bare))).code).toBe('ERR_INVALID_ARG_VALUE');
  });

  test('what is given up leaves the queue while it waits there', async () => {
    const { queue, policy, run } = newPolicy();
    const controller = new AbortController();
    const within = (options: api.CpuOptions) =>
      failureOf(() => applyWith(policy, () => cpu.with(options, tasks['sumn']!, 1)));
    const aborted = within({ signal: controller.signal });
    const cancelled = run('sumn', 2);
    const stays = run('sumn', 3);
    await untilJobs(queue, 3);
    controller.abort();
    cancelled.cancel();
    expect(codeOf(await aborted)).toBe('ABORT_ERR');
    expect(await within({ timeout: 50 })).toMatchObject({ code: 'ETIMEDOUT', timeout: true });
    expect(codeOf(await failureOf(() => cancelled))).toBe('ECANCELED');
    expect(policy.stats()).toEqual({ pending: 1, completed: 3 });
    await untilJobs(queue, 1);
    await worker(redis, queue);
    expect(await stays).toBe(6);
  });

  test('a process killed in the middle of a task: another one does it', async () => {
    const { queue, run } = newPolicy();
    const directory = temporaryDirectory();
    const [log, gate] = [path.join(directory, 'log'), path.join(directory, 'gate')];
    const lock = ['--lock-duration', '2000'];
    const first = await worker(redis, queue, ...lock);
    const call = run('gated', log, gate);
    await until(() => existsSync(log));
    const second = await worker(redis, queue, ...lock);
    first.child.kill('SIGKILL');
    await first.exited;
    writeFileSync(gate, '');
    expect(await call).toBe(second.child.pid);
    expect(readFileSync(log, 'utf8')).toContain(`${second.child.pid}\n`);
  });

  test('two processes share the tasks, and each ends in order at SIGTERM', async () => {
    const { queue, run } = newPolicy();
    const directory = temporaryDirectory();
    const [log, gate] = [path.join(directory, 'log'), path.join(directory, 'gate')];
    const both = [await worker(redis, queue), await worker(redis, queue)];
    const calls = Array.from({ length: 4 }, () => run('gated', log, gate));
    const begun = (): string[] => readFileSync(log, 'utf8').trim().split('\n');
    await until(() => existsSync(log) && begun().length === 4);
    const pids = both.map(({ child }) => child.pid!);
    expect(new Set(begun())).toEqual(new Set(pids.map(String)));
    both[0]!.child.kill('SIGTERM');
    writeFileSync(gate, '');
    expect(new Set(await Promise.all(calls))).toEqual(new Set(pids));
    expect(await both[0]!.exited).toBe(0);
    expect(await run('pid')).toBe(pids[1]);
    both[1]!.child.kill('SIGINT');
    expect(await both[1]!.exited).toBe(0);
  });

  test('jobOptions are those of BullMQ: a task is tried again', async () => {
    const { queue, run } = newPolicy({ jobOptions: { attempts: 3, removeOnComplete: false } });
    await worker(redis, queue);
    const log = path.join(temporaryDirectory(), 'log');
    expect(await run('failsAtFirst', log, 2)).toBe('done');
    expect(readFileSync(log, 'utf8')).toBe('...');
    const again = path.join(temporaryDirectory(), 'log');
    expect((await failureOf(() => run('failsAtFirst', again, 9))).message).toBe('attempt 3');
    await untilJobs(queue, 1); // as it was asked for
  });

  test('close gives up what is pending', async () => {
    const { queue, policy, run } = newPolicy();
    const call = failureOf(() => run('sumn', 1));
    await untilJobs(queue, 1);
    const closing = policy.close();
    expect(policy.close()).toBe(closing);
    expect(codeOf(await call)).toBe('ERR_POLICY_CLOSED');
    await closing;
    expect(policy.closed).toBe(true);
    await untilJobs(queue, 0);
    expect(failureNow(() => run('sumn', 1)).code).toBe('ERR_POLICY_CLOSED');
  });

  test('a Redis that is gone is warned of; time limits and close work', async () => {
    const gone = await startRedis();
    await gone.stop();
    const { code, stdout, stderr } = await runModule(
      `
      import { applyWith, cpu, defineTasks } from 'completion-port/cpu';
      import { bullmq } from 'completion-port/bullmq';
      const { one } = defineTasks('file:///one.tasks.mjs', { one: () => 1 });
      process.on('warning', ({ code }) => code && console.log(code));
      const policy = bullmq({ queue: 'none', connection: process.argv[1] });
      await applyWith(policy, () => cpu.with({ timeout: 3000 }, one)).catch(({ code }) => console.log(code));
      await policy.close();
      console.log('closed');`,
      { bare: true, args: [gone.url], env: { NODE_NO_WARNINGS: '1' } },
    );
    expect({ code, stdout, stderr }).toEqual({
      code: 0,
      stdout: 'CP_WARN_REDIS\nETIMEDOUT\nclosed\n',
      stderr: '',
    });
  });
});

describe('the command', () => {
  const run = (...args: string[]) =>
    ended(startProcess([cli, 'work', ...args], { env: { NODE_NO_WARNINGS: '1' } }));
  const where = ['--queue', 'q', '--redis', 'redis://127.0.0.1:1'];

  test.each([
    [[], 'work needs --queue'],
    [['--queue', 'q'], 'work needs --redis'],
    [where, 'work needs a module'],
    [[...where, '--concurrency', '0', 'x.mjs'], '--concurrency takes a number'],
    [[...where, '--lock-duration', 'x', 'x.mjs'], '--lock-duration takes a number'],
    [[...where, '--json', 'x.mjs'], "Unknown option '--json'"],
  ])('is told apart when it is wrong: %j', async (args, text) => {
    const { code, stdout, stderr } = await run(...args);
    expect({ code, stdout }).toEqual({ code: 64, stdout: '' });
    expect(stderr).toContain(text);
    expect(stderr).toContain('Usage: ');
  });

  test('says what is wrong with a module', async () => {
    const broken = temporaryFile('throw new Error("no such luck")', 'broken.mjs');
    const none = temporaryFile('export {}', 'none.mjs');
    const first = await run(...where, broken);
    expect(first.code).toBe(1);
    expect(first.stderr).toMatch(/^completion-port: The module .*broken\.mjs.* no such luck\n$/);
    expect((await run(...where, none)).stderr).toContain('The modules define no tasks');
  });
});

test('without BullMQ the error says what to install', async () => {
  const { code, stdout } = await runModule(
    `
    import Module from 'node:module';
    const { _load } = Module;
    Module._load = function (name, ...more) {
      if (name !== 'bullmq') return _load.call(this, name, ...more);
      throw Object.assign(new Error('Cannot find module'), { code: 'MODULE_NOT_FOUND' });
    };
    const { bullmq } = await import('completion-port/bullmq');
    try {
      bullmq({ queue: 'q', connection: 'redis://127.0.0.1:1' });
    } catch ({ code, message }) {
      console.log(code, message);
    }`,
    { bare: true, env: { NODE_NO_WARNINGS: '1' } },
  );
  expect(code).toBe(0);
  expect(stdout).toMatch(/^ERR_PEER_MISSING .*npm install bullmq ioredis\n$/);
});

test('wrong options throw at once', () => {
  const connection = 'redis://127.0.0.1:1';
  const wrong: [unknown, string][] = [
    [undefined, 'ERR_INVALID_ARG_TYPE'],
    [{ connection }, 'ERR_INVALID_ARG_TYPE'],
    [{ queue: '', connection }, 'ERR_INVALID_ARG_VALUE'],
    [{ queue: 'a:b', connection }, 'ERR_INVALID_ARG_VALUE'],
    [{ queue: 'q' }, 'ERR_INVALID_ARG_TYPE'],
    [{ queue: 'q', connection, prefix: 1 }, 'ERR_INVALID_ARG_TYPE'],
    [{ queue: 'q', connection, jobOptions: 1 }, 'ERR_INVALID_ARG_TYPE'],
    [{ queue: 'q', connection, attempts: 1 }, 'ERR_INVALID_ARG_VALUE'],
  ];
  for (const [options, code] of wrong) {
    expect(failureNow(() => bullmq(options as bull.BullmqOptions)).code).toBe(code);
  }
});
