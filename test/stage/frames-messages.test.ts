/** What comes to a connection beside its documents: messages, notices, receives, the end. */
import { describe, expect, test } from 'vitest';
import { frames, type PipelineOptions } from '../../dist/stages.js';
import { until } from '../support/harness';
import { Client, empty, fixture, newPipeline, type Pipeline } from '../support/stages';

interface Setup {
  readonly pipeline: Pipeline;
  readonly port: number;
}

async function setUp(listens = false, options: PipelineOptions = {}, threads = 2): Promise<Setup> {
  const pipeline = newPipeline(
    {
      spool: { native: frames({ length: 'u32be' }), next: 'work', threads: 2 },
      work: { stage: fixture('answers.mjs'), threads, data: { listens } },
    },
    options,
  );
  const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
  return { pipeline, port };
}

function document(text: string): Buffer {
  const bytes = Buffer.alloc(4 + Buffer.byteLength(text));
  bytes.writeUInt32BE(bytes.length - 4);
  bytes.write(text, 4);
  return bytes;
}

const documents = (...texts: string[]): Buffer => Buffer.concat(texts.map(document));

/** What was answered to documents, without what was told of messages. */
const answers = (client: Client): string => client.text.replaceAll(/\[.*?\]/g, '');
const messages = (client: Client): string[] => client.text.match(/\[.*?\]/g) ?? [];

async function keyOf(pipeline: Pipeline): Promise<number> {
  await until(() => pipeline.connections().length === 1);
  return pipeline.connections()[0]!.key;
}

describe('one answer for one document', () => {
  test('a handler that posts to its connection before it answers', async () => {
    const { port, pipeline } = await setUp();
    for (let round = 0; round < 20; round++) {
      const client = new Client(port);
      client.write(documents('post 1', 'post 2', 'post 3'));
      await until(() => messages(client).length === 3 && answers(client).length >= 24);
      expect(answers(client)).toBe('<post 1><post 2><post 3>');
      client.write(document('on'));
      await until(() => answers(client).endsWith('<on>'));
      client.socket.destroy();
    }
    await empty(pipeline);
    const { documents: came, replies } = pipeline.stats().stages['spool']!.frames!;
    expect({ came, replies }).toEqual({ came: 80, replies: 80 });
  });

  test('another thread that posts to it meanwhile', async () => {
    const { port, pipeline } = await setUp();
    const client = new Client(port);
    const key = await keyOf(pipeline);
    let posted = 0;
    let expected = '';
    for (let round = 0; round < 50; round++) {
      const texts = Array.from({ length: 10 }, (_, i) => `document ${round} ${i}`);
      client.write(documents(...texts));
      expected += texts.map((text) => `<${text}>`).join('');
      for (let i = 0; i < 4; i++) {
        pipeline.post(key, posted++);
        if (posted === 99) posted++;
        await new Promise(setImmediate);
      }
    }
    const sent = posted > 99 ? posted - 1 : posted;
    await until(() => answers(client) === expected && messages(client).length === sent);
    expect(new Set(messages(client)).size).toBe(sent);
    expect(pipeline.stats().stages['spool']!.frames).toMatchObject({ documents: 500 });
  });
});

describe('Q2: messages to a connection that idles at the native stage', () => {
  test('reach the stage that handles documents, in the order they were posted', async () => {
    const { port, pipeline } = await setUp();
    const client = new Client(port);
    const key = await keyOf(pipeline);
    for (let value = 0; value < 50; value++) {
      pipeline.post(key, value);
      await until(() => client.text.endsWith(`[${value}]`));
    }
    expect(messages(client)).toEqual(Array.from({ length: 50 }, (_, i) => `[${i}]`));
    client.write(document('and on'));
    await until(() => client.text.endsWith('<and on>'));
    // Neither `entered` nor `handedOff` was called for them.
    expect(pipeline.stats().stages['work']).toMatchObject({ failures: 0, documents: 1 });
  });

  test('many at once, to many connections: none is lost', async () => {
    const { port, pipeline } = await setUp();
    const clients = Array.from({ length: 50 }, () => new Client(port));
    await until(() => pipeline.connections().length === 50);
    const keys = pipeline.connections().map(({ key }) => key);
    for (let value = 100; value < 120; value++) for (const key of keys) pipeline.post(key, value);
    for (const client of clients) client.write(documents('one', 'two'));
    for (const client of clients) {
      await until(() => messages(client).length === 20 && answers(client).length === 10);
      expect(new Set(messages(client)).size).toBe(20);
      expect(answers(client)).toBe('<one><two>');
    }
  });

  test('one that comes in the middle of a document waits for it', async () => {
    const { port, pipeline } = await setUp();
    const client = new Client(port);
    const key = await keyOf(pipeline);
    const bytes = document('document');
    client.write(bytes.subarray(0, 6));
    await until(() => pipeline.connections()[0]!.state === 'receiving');
    pipeline.post(key, 5);
    client.write(bytes.subarray(6));
    await until(() => client.text === '<document>[5]');
  });

  test('a handler may keep the connection, and hand it back later', async () => {
    const { port, pipeline } = await setUp();
    const client = new Client(port);
    const key = await keyOf(pipeline);
    pipeline.post(key, 99);
    await until(() => pipeline.connections()[0]!.state === 'kept');
    client.write(document('document'));
    pipeline.post(key, 7);
    await until(() => client.text === '[99]kept 7');
    pipeline.post(key, 0);
    await until(() => client.text === '[99]kept 7kept 0<document>');
  });

  test('bytes that come meanwhile are the native stage’s, whatever the state wants', async () => {
    const { port, pipeline } = await setUp(true);
    const client = new Client(port);
    const key = await keyOf(pipeline);
    for (let round = 0; round < 200; round++) {
      pipeline.post(key, 1000 + round);
      client.write(document(`${round % 10}`));
      if (round % 3 === 0) await until(() => answers(client).length === 3 * (round + 1));
    }
    await until(() => answers(client).length === 600 && messages(client).length === 200);
    expect(answers(client)).toBe(Array.from({ length: 200 }, (_, i) => `<${i % 10}>`).join(''));
  });
});

test('`ended` and `received` beside `handedOff`: one receive is in flight at most', async () => {
  const { port, pipeline } = await setUp(true);
  const client = new Client(port);
  for (let round = 0; round < 300; round++) {
    client.write(document('x'));
    await until(() => client.size === 3 * (round + 1));
  }
  const pending = Object.values(pipeline.stats().stages)
    .map(({ port: { submitted, completed } }) => Number(submitted) - Number(completed))
    .reduce((sum, open) => sum + open);
  // The receive, the accept, and what has not been counted yet.
  expect(pending).toBeLessThan(20);
  client.socket.destroy();
  await empty(pipeline);
});

test('what 700 clients leave over does not keep anybody from being received', async () => {
  const { port, pipeline } = await setUp(false, { buffers: { count: 64 } });
  const x = Buffer.concat([document('slow'), Buffer.from([0])]);
  const clients = Array.from({ length: 700 }, () => new Client(port));
  for (const client of clients) client.write(x);
  const frame = () => pipeline.stats().stages['spool']!.frames!;
  await until(() => frame().documents >= 700);
  for (const client of clients) client.write(document('next').subarray(1));
  await until(() => clients.every(({ text }) => text === '<slow><next>'));
});

describe('close', () => {
  test('idle clients do not make it wait, and no new document is begun', async () => {
    const { port, pipeline } = await setUp();
    const idle = Array.from({ length: 20 }, () => new Client(port));
    const busy = new Client(port);
    busy.write(documents('slow one', 'not begun'));
    await until(() => pipeline.connections().some(({ stage }) => stage === 'work'));
    await until(() => pipeline.connections().length === 21);
    const closed = pipeline.close({ grace: 2 ** 31 - 1 });
    await until(() => idle.every(({ ended }) => ended));
    await until(() => busy.ended);
    expect(busy.text).toBe('<slow one>');
    await closed;
  });
});
