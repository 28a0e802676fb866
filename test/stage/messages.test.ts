/** Messages of bytes and values to connections, and to many at once. */
import { describe, expect, test } from 'vitest';
import { failureNow, until } from '../support/harness';
import { Client, empty, fixture, newPipeline, type Pipeline } from '../support/stages';
import { frames } from '../../dist/stages.js';

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
