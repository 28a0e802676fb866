/** Messages of bytes and values to connections, and to many at once. */
import { describe, expect, test } from 'vitest';
import { failureNow, until } from '../support/harness';
import { Client, empty, fixture, newPipeline, type Pipeline } from '../support/stages';
import { defineStage, frames } from '../../dist/stages.js';

interface Setup {
  readonly pipeline: Pipeline;
  readonly port: number;
}

async function setUp(threads = 2, queueLimit = 65_536): Promise<Setup> {
  const stage = fixture('messages.mjs');
  const pipeline = newPipeline({
    first: { stage, threads, queueLimit, data: { name: 'first', other: 'second' } },
    second: { stage, threads, queueLimit, data: { name: 'second', other: 'first' } },
  });
  const { port } = await pipeline.listen('first', { host: '127.0.0.1', port: 0 });
  return { pipeline, port };
}

async function join(port: number): Promise<{ client: Client; key: number }> {
  const client = new Client(port);
  await client.ask('key\n', ';');
  const key = Number(/key (\d+);/.exec(client.text)![1]);
  client.forget();
  return { client, key };
}

const joinAll = (port: number, count: number): Promise<{ client: Client; key: number }[]> =>
  Promise.all(Array.from({ length: count }, () => join(port)));

/** What a connection was sent of messages. */
const parts = (client: Client): string[] => client.text.match(/\[.*?\]/g) ?? [];

async function noMemory(pipeline: Pipeline): Promise<void> {
  await until(() => {
    const all = Object.values(pipeline.stats().stages);
    return all.every(({ port }) => port.allocatedBytes === 0);
  });
}

async function moved(pipeline: Pipeline, stage: string, count: number): Promise<void> {
  await until(() => pipeline.connections({ stage } as object).length === count);
}

describe('Q3: messages of stages', () => {
  test('bytes, values and numbers, of the pipeline and of the connection itself', async () => {
    const { pipeline, port } = await setUp();
    const { client, key } = await join(port);
    pipeline.post(key, Buffer.from('bytes'));
    await until(() => client.text === '[bytes]');
    pipeline.post(key, 'text');
    await until(() => client.text === '[bytes][first "text"]');
    expect(pipeline.tryPost(key, { a: [1] })).toBe(true);
    await until(() => client.text.endsWith('[first {"a":[1]}]'));
    pipeline.post(key, 7);
    await until(() => client.text.endsWith('(7)'));
    client.forget();
    client.write('self one\n');
    await until(() => client.text === '[one]');
    client.write('value two\n');
    await until(() => client.text.endsWith('[first {"text":"two"}]'));
    await noMemory(pipeline);
  });

  test('a task begins with the message that it is started with', async () => {
    const pipeline = newPipeline({ work: { stage: fixture('messages.mjs'), data: {} } });
    await pipeline.ready();
    // It has no connection: sending fails, and tells of it.
    const failed = new Promise((resolve) => pipeline.once('failed', resolve));
    pipeline.start('work', Buffer.from('begin'));
    expect(await failed).toMatchObject({ event: 'message' });
    await empty(pipeline);
    expect(failureNow(() => pipeline.start('work', (() => 1) as never)).name).toBe(
      'DataCloneError',
    );
    expect(pipeline.stats().connections).toBe(0);
  });

  test.each(['slow', 'generator', 'late'])(
    'Q3: in state %s bytes stay until the handler is done, whatever else is posted',
    async (state) => {
      const { pipeline, port } = await setUp(1);
      const { client, key } = await join(port);
      const { key: other } = await join(port);
      client.write(`state ${state}\n`);
      await until(() => pipeline.connections().some((one) => one.state === state));
      const wanted = [];
      for (let i = 0; i < 10; i++) {
        const text = `${i} `.repeat(i % 2 === 0 ? 20 : 300);
        wanted.push(`[${text}]`);
        pipeline.post(key, Buffer.from(text));
        for (let k = 0; k < 40; k++) pipeline.post(other, Buffer.alloc(200, 0x7a));
        await new Promise(setImmediate);
      }
      await until(() => parts(client).length === 10);
      expect(parts(client)).toEqual(wanted);
      await noMemory(pipeline);
    },
  );

  test('a state without a handler drops it', async () => {
    const { pipeline, port } = await setUp();
    const { client, key } = await join(port);
    client.write('state deaf\n');
    await until(() => pipeline.connections()[0]!.state === 'deaf');
    pipeline.post(key, Buffer.alloc(5000));
    await noMemory(pipeline);
    client.write('state plain\n');
    await until(() => pipeline.connections()[0]!.state === 'plain');
    pipeline.post(key, Buffer.from('heard'));
    await until(() => client.text === '[heard]');
    await noMemory(pipeline);
  });

  test('messages posted while a connection moves arrive once each, whole', async () => {
    const { pipeline, port } = await setUp();
    const { client, key } = await join(port);
    const wanted = new Set<string>();
    for (let i = 0; i < 300; i++) {
      const text = `${i}${'x'.repeat((i * 7) % 400)}`;
      wanted.add(`[${text}]`);
      pipeline.post(key, Buffer.from(text));
      if (i % 10 === 0) client.write('go\n');
      if (i % 3 === 0) await new Promise(setImmediate);
    }
    await until(() => parts(client).length === 300);
    expect(new Set(parts(client))).toEqual(wanted);
    await noMemory(pipeline);
  });

  test('T1: a thread that dies in a message takes none of the others along', async () => {
    const { pipeline, port } = await setUp(2);
    const members = await joinAll(port, 20);
    for (let round = 0; round < 3; round++) {
      const { client, key } = members.pop()!;
      pipeline.post(key, Buffer.from('die'));
      for (const member of members) pipeline.post(member.key, Buffer.from(`round ${round}`));
      await until(() => members.every((member) => member.client.text.includes(`[round ${round}]`)));
      await until(() => client.closed);
    }
    await until(() => pipeline.stats().restarts === 3);
    await noMemory(pipeline);
  });

  test('a pipeline closes with messages in its queues', async () => {
    const { pipeline, port } = await setUp(1);
    const members = await joinAll(port, 10);
    const keys = members.map(({ key }) => key);
    for (let i = 0; i < 100; i++) pipeline.publish(keys, Buffer.alloc(3000, i));
    await pipeline.close();
    expect(failureNow(() => pipeline.publish(keys, 'x')).code).toBe('ERR_PIPELINE_CLOSED');
  });
});

describe('Q3: messages to a connection at a native stage', () => {
  test('reach the stage that handles documents, with their bytes', async () => {
    const pipeline = newPipeline({
      spool: { native: frames({ length: 'u32be' }), next: 'work', threads: 2 },
      work: { stage: fixture('answers.mjs'), data: {} },
    });
    const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
    const clients = Array.from({ length: 10 }, () => new Client(port));
    await until(() => pipeline.connections().length === 10);
    const keys = pipeline.connections().map(({ key }) => key);
    const wanted = [];
    for (let i = 0; i < 30; i++) {
      const text = `${i} ${'y'.repeat(i * 20)}`;
      wanted.push(`[${text}]`);
      if (i % 2 === 0) pipeline.publish(keys, Buffer.from(text));
      else for (const key of keys) pipeline.post(key, i % 3 === 0 ? text : Buffer.from(text));
    }
    await until(() => clients.every((client) => parts(client).length === 30));
    for (const client of clients) expect(parts(client).sort()).toEqual([...wanted].sort());
    // Those that nobody is told any more go with their connection.
    for (const key of keys) pipeline.post(key, Buffer.alloc(5000));
    for (const { socket } of clients) socket.destroy();
    await empty(pipeline);
    await noMemory(pipeline);
  });
});

describe('Q4: to many connections', () => {
  test('wherever they are, and none that is gone', async () => {
    const { pipeline, port } = await setUp();
    const members = await joinAll(port, 30);
    for (const { client } of members.slice(0, 10)) client.write('go\n');
    await moved(pipeline, 'second', 10);
    const gone = members.pop()!;
    gone.client.socket.destroy();
    await until(() => pipeline.connections().length === 29);
    const keys = [...members.map(({ key }) => key), gone.key, 0, 12345];
    expect(pipeline.publish(keys, Buffer.from('to all'))).toBe(29);
    await until(() => members.every(({ client }) => client.text === '[to all]'));
    expect(pipeline.publish(Uint32Array.from(keys), 5)).toBe(29);
    await until(() => members.every(({ client }) => client.text === '[to all](5)'));
    expect(pipeline.publish([], 5)).toBe(0);
    await noMemory(pipeline);
  });

  test('from a handler, in any thread, to connections of other threads and stages', async () => {
    const { pipeline, port } = await setUp();
    const members = await joinAll(port, 20);
    for (const { client } of members.slice(0, 10)) client.write('go\n');
    await moved(pipeline, 'second', 10);
    const keys = members.map(({ key }) => key).join(',');
    for (const [i, { client }] of members.entries()) client.write(`to ${keys} from ${i}\n`);
    const wanted = members.map((_, i) => `[from ${i}]`);
    await until(() => members.every(({ client }) => parts(client).length === 20));
    for (const { client } of members) {
      expect(parts(client).sort()).toEqual([...wanted].sort());
      expect(client.text).toContain('told 20;');
    }
    await noMemory(pipeline);
  });

  test('Q4: a queue that never has room for all takes none, and says so', async () => {
    const { pipeline, port } = await setUp(1, 16);
    const members = await joinAll(port, 20);
    const keys = members.map(({ key }) => key);
    const error = failureNow(() => pipeline.publish(keys, Buffer.alloc(1000)));
    expect(error.code).toBe('ERR_OUT_OF_RANGE');
    expect(pipeline.publish(keys.slice(0, 10), Buffer.from('some'))).toBe(10);
    await until(() => members.slice(0, 10).every(({ client }) => client.text === '[some]'));
    expect(members.slice(10).every(({ client }) => client.text === '')).toBe(true);
    await noMemory(pipeline);
  });
});

describe('what start, post and publish answer', () => {
  /** By name, with arguments that are right. `key`: of a connection. */
  const calls = (pipeline: Pipeline, key: number): [name: string, call: () => unknown][] => [
    ['start', () => pipeline.start('first')],
    ['post', () => pipeline.post(key)],
    ['tryPost', () => pipeline.tryPost(key, 'x')],
    ['publish', () => pipeline.publish([key], 'x')],
    ['publish to nobody', () => pipeline.publish([], 'x')],
    ['tryPublish', () => pipeline.tryPublish([key], 'x')],
  ];
  const codes = (pipeline: Pipeline, key: number): (readonly [string, string | undefined])[] =>
    calls(pipeline, key).map(([name, call]) => [name, failureNow(call).code]);

  test('a pipeline that is not ready, is closing, or is closed answers all of them alike', async () => {
    const stage = fixture('messages.mjs');
    const pipeline = newPipeline({ first: { stage, threads: 1, data: { name: 'first' } } });
    const all = (code: string): (readonly [string, string])[] =>
      calls(pipeline, 1).map(([name]) => [name, code]);
    expect(codes(pipeline, 1)).toEqual(all('ERR_INVALID_STATE'));
    const { port } = await pipeline.listen('first', { host: '127.0.0.1', port: 0 });
    const { client, key } = await join(port);
    const closing = pipeline.close({ grace: 60_000 });
    expect(codes(pipeline, key)).toEqual(all('ERR_PIPELINE_CLOSED'));
    client.socket.destroy();
    await closing;
    expect(codes(pipeline, key)).toEqual(all('ERR_PIPELINE_CLOSED'));
  });

  test('O3: undefined in the place of a message is refused, and leaves no task behind', async () => {
    const refused: unknown[] = [];
    const forgotten = undefined as never;
    const stage = defineStage({
      states: {
        idle: {
          posted(c) {
            const own = [
              () => c.post(forgotten),
              () => c.tryPost(forgotten),
              () => c.publish([c.key], forgotten),
              () => c.tryPublish([c.key], forgotten),
            ];
            refused.push(...own.map((call) => failureNow(call).code));
          },
        },
      },
    });
    const pipeline = newPipeline({ only: { stage, threads: 0 } });
    await pipeline.ready();
    expect(failureNow(() => pipeline.start('only', forgotten)).code).toBe('ERR_INVALID_ARG_TYPE');
    expect(pipeline.stats().connections).toBe(0);
    const key = pipeline.start('only');
    await until(() => refused.length > 0);
    for (const call of [
      () => pipeline.post(key, forgotten),
      () => pipeline.tryPost(key, forgotten),
      () => pipeline.publish([key], forgotten),
      () => pipeline.tryPublish([key], forgotten),
    ]) {
      refused.push(failureNow(call).code);
    }
    expect(refused).toEqual(new Array(8).fill('ERR_INVALID_ARG_TYPE'));
  });

  test('Q4: where the queue of one stage is full those at the others are told all the same', async () => {
    const told: number[] = [];
    const slow = defineStage({ states: { idle: {} } });
    const quick = defineStage({
      states: { idle: { message: (c) => void told.push(c.key) } },
    });
    const pipeline = newPipeline({
      slow: { stage: slow, threads: 0, queueLimit: 4 },
      quick: { stage: quick, threads: 0 },
    });
    await pipeline.ready();
    const one = pipeline.start('slow');
    const other = pipeline.start('quick');
    const stages = (): number => pipeline.connections({ state: 'idle' }).length;
    await until(() => stages() === 2);
    while (pipeline.tryPost(one, 'x'));
    expect(pipeline.tryPublish([one, other], 'y')).toBe(false);
    expect(failureNow(() => pipeline.publish([one, other], 'y')).code).toBe('ERR_QUEUE_FULL');
    await until(() => told.length === 2);
    expect(pipeline.tryPublish([one, other], 'y')).toBe(true);
    await until(() => told.length === 3);
    expect(told).toEqual([other, other, other]);
  });

  test('Q2: tryPost and tryPublish of a connection answer false when the queue is full', async () => {
    const answers: unknown[] = [];
    const stage = defineStage({
      states: {
        idle: {
          posted(c, value) {
            if (value !== 1) return;
            while (c.tryPost(0));
            answers.push(c.tryPublish([c.key], 'x'), failureNow(() => c.post(0)).code);
            answers.push(failureNow(() => c.publish([c.key], 'x')).code);
          },
        },
      },
    });
    const pipeline = newPipeline({ only: { stage, threads: 0, queueLimit: 16 } });
    await pipeline.ready();
    pipeline.start('only', 1);
    await until(() => answers.length === 3);
    expect(answers).toEqual([false, 'ERR_QUEUE_FULL', 'ERR_QUEUE_FULL']);
  });
});
