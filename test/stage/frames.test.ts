import { createHash } from 'node:crypto';
import { readdirSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  defineStage,
  frames,
  type FramesOptions,
  type PipelineOptions,
} from '../../dist/stages.js';
import {
  codeOf,
  failureOf,
  newSeed,
  Random,
  sleep,
  temporaryDirectory,
  temporaryFile,
  until,
  windows,
} from '../support/harness';
import { Client, empty, fixture, newPipeline, type Pipeline } from '../support/stages';

interface Spool {
  readonly pipeline: Pipeline;
  readonly port: number;
  readonly failures: { event: string; code: string | undefined }[];
}

async function spool(
  options: FramesOptions,
  more: PipelineOptions = {},
  threads = 2,
): Promise<Spool> {
  const work = { stage: fixture('digest.mjs'), threads };
  const pipeline = newPipeline(
    { spool: { native: frames(options), next: 'work', threads: 2 }, work, other: work },
    more,
  );
  const failures: Spool['failures'] = [];
  pipeline.on('failed', ({ event, error }) => failures.push({ event, code: codeOf(error) }));
  const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
  return { pipeline, port, failures };
}

const stats = (pipeline: Pipeline) => pipeline.stats().stages['spool']!.frames!;
const work = (pipeline: Pipeline) => pipeline.stats().stages['work']!;

// ---- documents on the wire

type Framing = 'u8' | 'u16be' | 'u32be' | 'u32le' | 'varint' | 'delimiter';
const DELIMITER = '--end--';

function varint(value: number): Buffer {
  const bytes: number[] = [];
  for (let rest = value; ; rest = Math.floor(rest / 128)) {
    if (rest < 128) return Buffer.from([...bytes, rest]);
    bytes.push((rest % 128) | 128);
  }
}

function framed(framing: Framing, body: Buffer): Buffer {
  if (framing === 'delimiter') return Buffer.concat([body, Buffer.from(DELIMITER)]);
  if (framing === 'varint') return Buffer.concat([varint(body.length), body]);
  const head = Buffer.alloc({ u8: 1, u16be: 2, u32be: 4, u32le: 4 }[framing]);
  if (framing === 'u32le') head.writeUInt32LE(body.length);
  else head.writeUIntBE(body.length, 0, head.length);
  return Buffer.concat([head, body]);
}

const u32 = (text: string): Buffer => framed('u32be', Buffer.from(text));

const digest = (bytes: Buffer): string => createHash('sha256').update(bytes).digest('hex');

/** What the fixture answers to documents, in order. */
function answers(bodies: Buffer[], inFile: (length: number) => boolean): string {
  const line = (body: Buffer, i: number): string =>
    `${inFile(body.length) ? 'file' : 'memory'} ${i + 1} ${body.length} ${digest(body)}\n`;
  return bodies.map(line).join('');
}

/** In pieces of random size. */
async function trickle(client: Client, bytes: Buffer, random: Random): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const size = random.below(5) === 0 ? 50_000 : [1, 3, 1000][random.below(3)]!;
    client.write(bytes.subarray(at, at + size));
    at += size;
    if (random.below(3) === 0) await new Promise(setImmediate);
  }
}

/** Random bytes, and often some that look like the beginning of a delimiter; never all of it. */
function body(random: Random, length: number): Buffer {
  const bytes = Buffer.concat([random.bytes(length), Buffer.from(DELIMITER)]);
  for (let at = 0; at + 7 < length; at += 1 + random.below(300)) bytes.write('--end-', at);
  for (let at = 0; (at = bytes.indexOf(DELIMITER, at)) < length;) bytes[at + 2] = 0;
  return bytes.subarray(0, length);
}

describe('documents', () => {
  const framings: Framing[] = ['u8', 'u16be', 'u32be', 'u32le', 'varint', 'delimiter'];
  const cases = framings.flatMap((framing) => [
    [framing, 'memory'] as const,
    [framing, 'file'] as const,
  ]);

  test.each(cases)('%s, %s: each comes whole, in order, with one packet', async (framing, kind) => {
    const random = new Random(newSeed(`${framing} ${kind}`));
    const inMemory = 1000;
    const { pipeline, port } = await spool({
      ...(framing === 'delimiter' ? { delimiter: DELIMITER } : { length: framing }),
      maxLength: '1MiB',
      spool: kind,
      ...(kind === 'file' ? { memoryThreshold: inMemory, directory: temporaryDirectory() } : {}),
    });
    const longest = framing === 'u8' ? 255 : framing === 'u16be' ? 65535 : 300_000;
    let documents = 0;
    const one = async (): Promise<void> => {
      const lengths = [0, 1, longest, ...Array.from({ length: 5 }, () => random.below(longest))];
      const bodies = lengths.map((length) => body(random, length));
      documents += bodies.length;
      const client = new Client(port);
      await trickle(client, Buffer.concat(bodies.map((bytes) => framed(framing, bytes))), random);
      const expected = answers(bodies, (length) => kind === 'file' && length > inMemory);
      await until(() => client.size >= expected.length || client.closed);
      expect(client.text).toBe(expected);
      client.socket.end();
    };
    await Promise.all([one(), one(), one(), one()]);
    await empty(pipeline);
    // JavaScript is woken once for a document, however it came.
    expect(work(pipeline)).toMatchObject({ packets: documents, documents, failures: 0 });
    // A document in a file is read on this port. What an idle thread takes from one that was woken
    // and has not come yet is a batch of both, and so is what is taken from one that has no processor.
    const { batches, steals, takenBack } = work(pipeline).port;
    if (kind === 'memory') expect(batches).toBeLessThanOrEqual(documents + steals + takenBack);
    expect(stats(pipeline)).toMatchObject({ documents, replies: documents, queued: 0, waiting: 0 });
  });

  test('one packet for a document that comes byte by byte', async () => {
    const { pipeline, port } = await spool({ length: 'varint' });
    const client = new Client(port);
    const bytes = framed('varint', Buffer.from('bytes answer'));
    for (const byte of bytes) {
      client.write(Buffer.from([byte]));
      await sleep(1);
    }
    await until(() => client.text === 'answer');
    // How many threads are woken for it is another matter: a second one where the first is late (D5).
    expect(work(pipeline)).toMatchObject({ packets: 1 });
  });

  test('connections that send nothing, or not enough, cost no packet at all', async () => {
    const { pipeline, port } = await spool({ length: 'u32be' });
    const clients = Array.from({ length: 50 }, () => new Client(port));
    for (const client of clients) client.write(Buffer.from([0, 0]));
    await until(() => stats(pipeline).connections === 50);
    for (const client of clients) client.socket.destroy();
    await empty(pipeline);
    expect(work(pipeline).packets).toBe(0);
  });

  test('the next stage is handed the connection with `document`, and `inspect` shows it', async () => {
    const { pipeline, port } = await spool({ length: 'u32be' });
    new Client(port).write(u32('wait'));
    await until(() => pipeline.connections().some(({ state }) => state === 'waiting'));
    expect(pipeline.connections()).toMatchObject([{ stage: 'work', document: 4, received: 8 }]);
    expect(stats(pipeline)).toMatchObject({ queued: 1 });
  });

  test('a document in a file leaves nothing behind in `dir`', async () => {
    const dir = temporaryDirectory();
    const { port } = await spool({
      length: 'u32be',
      spool: 'file',
      memoryThreshold: 10,
      directory: dir,
    });
    const client = new Client(port);
    const bytes = Buffer.alloc(100_000, 'x');
    client.write(framed('u32be', bytes));
    await until(() => client.text === answers([bytes], () => true));
    expect(readdirSync(dir)).toEqual([]);
  });

  test('the bytes of a document are valid while its handler goes on, and no longer', async () => {
    const { port } = await spool({ length: 'u32be' }, {}, 1);
    const client = new Client(port);
    client.write(u32('later on'));
    await until(() => client.text === 'later on\n');
    client.forget();
    client.write(u32('late'));
    await until(() => client.text === 'soon\n');
    while (client.text !== 'ERR_CONNECTION_RELEASED\n') {
      client.forget();
      client.write(u32('told'));
      await until(() => client.text.includes('\n'));
      expect(client.text).toMatch(/^(undefined|ERR_CONNECTION_RELEASED)\n$/);
    }
  });

  test('a document shows what it is, and nothing internal', async () => {
    const { port } = await spool({ length: 'u32be' }, {}, 1);
    const client = new Client(port);
    client.write(u32('shown'));
    await until(() => client.text.includes('\n'));
    const contents = '{"length":5,"number":1,"inFile":false}';
    const shown = '{ length: 5, number: 1, inFile: false, error: undefined }';
    expect(client.text).toBe(`StageDocument ${shown} ${contents} toJSON\n`);
  });

  test('the pieces of a document in memory are those that were asked for', async () => {
    const { port } = await spool({ length: 'u32be' }, {}, 1);
    const client = new Client(port);
    for (const [options, expected] of [
      ['{"length":6}', '<chunks>'],
      ['{"position":2,"length":4,"size":3}', '<unk><s>'],
      ['{"position":2,"length":4,"size":3,"lend":true}', '<unk><s>'],
      ['{"position":1000}', ''],
      ['{"sise":5}', 'ERR_INVALID_ARG_VALUE'],
      ['{"position":-1}', 'ERR_OUT_OF_RANGE'],
      ['{"signal":1}', 'ABORT_ERR'],
    ]) {
      client.forget();
      client.write(u32(`chunks ${options}`));
      await until(() => client.text.includes('\n'));
      expect(client.text).toBe(`${expected}\n`);
    }
  });
});

describe('answers', () => {
  test('bytes, text, nothing', async () => {
    const { port, pipeline } = await spool({ length: 'u32be' });
    const client = new Client(port);
    for (const text of ['bytes one.', 'nothing', 'text two.', 'back', 'text three.']) {
      client.write(u32(text));
    }
    // A reply counts once its send has ended, of which the client may know first.
    await until(() => client.text === 'one.two.three.' && stats(pipeline).replies === 4);
    expect(stats(pipeline)).toMatchObject({ documents: 5, replies: 4 });
  });

  test('files, with and without a header, however long', async () => {
    const { port } = await spool({ length: 'u32be' });
    const short = temporaryFile('short file');
    const long = Buffer.alloc(3_000_001);
    for (let i = 0; i < long.length; i++) long[i] = i % 251;
    const file = temporaryFile(long);
    const client = new Client(port);
    client.write(u32(`file ${short}`));
    await until(() => client.text === 'short file');
    client.forget();
    client.write(Buffer.concat([u32(`header ${file}`), u32('text end')]));
    await until(() => client.size >= long.length + 10);
    const expected = Buffer.concat([Buffer.from('header\n'), long, Buffer.from('end')]);
    expect(client.received.equals(expected)).toBe(true);
  });

  test('a stage further on may answer, too', async () => {
    const { port, pipeline } = await spool({ length: 'u32be' });
    const client = new Client(port);
    client.write(Buffer.concat([u32('onwards'), u32('text next')]));
    await until(() => client.text === 'from othernext');
    expect(work(pipeline)).toMatchObject({ handedOff: 2, documents: 2 });
    expect(pipeline.stats().stages['other']).toMatchObject({ handedOff: 1, documents: 1 });
    await until(() => stats(pipeline).replies === 2);
    expect(stats(pipeline)).toMatchObject({ documents: 2, replies: 2, queued: 0 });
  });

  test.each([
    ['wrong', 'ERR_INVALID_ARG_TYPE'],
    ['notafile', 'ERR_INVALID_ARG_TYPE'],
    [`folder ${process.cwd()}`, 'ERR_INVALID_ARG_VALUE'],
    ['file /no/such/file', 'ENOENT'],
    ['throw', 'OOPS'],
  ])('a handler that fails closes the connection: %s', async (text, code) => {
    const { port, failures, pipeline } = await spool({ length: 'u32be' });
    const client = new Client(port);
    client.write(u32(text));
    await until(() => client.closed && failures.length === 1);
    expect(failures[0]).toEqual({ event: 'handedOff', code });
    await empty(pipeline);
    expect(stats(pipeline)).toMatchObject({ queued: 0 });
  });

  test('T1: a thread that dies with a document: the connection is closed, its memory free', async () => {
    const bytes = 600_000;
    const { port, pipeline } = await spool(
      { length: 'u32be', maxLength: bytes },
      { memoryLimit: 4_000_000 },
    );
    for (let round = 0; round < 8; round++) {
      const client = new Client(port);
      client.write(u32('exit '.padEnd(bytes)));
      await until(() => client.closed);
      // There is room for one of this size.
      const next = new Client(port);
      const document = Buffer.alloc(bytes, round);
      next.write(framed('u32be', document));
      await until(() => next.text === answers([document], () => false));
      next.socket.destroy();
      await empty(pipeline);
    }
    await until(() => pipeline.stats().restarts === 8);
    expect(stats(pipeline)).toMatchObject({ queued: 0 });
  });
});

describe('limits', () => {
  test('a document longer than `max` is refused, before it is received', async () => {
    const { port, pipeline } = await spool({
      length: 'u32be',
      maxLength: 1000,
      tooLarge: 'too large\n',
    });
    const client = new Client(port);
    const head = Buffer.alloc(4);
    head.writeUInt32BE(1001);
    client.write(head);
    await until(() => client.ended);
    expect(client.text).toBe('too large\n');
    client.socket.destroy();
    await empty(pipeline);
    expect(stats(pipeline)).toMatchObject({ tooLarge: 1, documents: 0 });
    expect(work(pipeline).packets).toBe(0);
  });

  test('so is one whose delimiter does not come', async () => {
    const { port, pipeline } = await spool({
      delimiter: '\n',
      maxLength: 10_000,
      tooLarge: 'no\n',
    });
    const client = new Client(port);
    client.write(Buffer.alloc(100_000, 'x'));
    await until(() => client.ended);
    expect(client.text).toBe('no\n');
    client.socket.destroy();
    await empty(pipeline);
  });

  test('clients that announce and stall do not hold the memory shut: they are told `timedOut`', async () => {
    const timedOut = 'too slow\n';
    const { port, pipeline } = await spool(
      { length: 'u32be', maxLength: '1MiB', stallTimeout: 0, minRate: 1000, timedOut },
      { memoryLimit: 4 << 20 },
    );
    const announced = Buffer.alloc(20_000, 'x');
    announced.writeUInt32BE(256 * 1024);
    // Each is given all that it announces: sixteen take all there is, and others wait for theirs.
    const silent = Array.from({ length: 16 }, () => new Client(port));
    for (const client of silent) client.write(announced);
    await until(() => pipeline.stats().stages['spool']!.port.allocatedBytes === 4 << 20);
    silent.push(...Array.from({ length: 4 }, () => new Client(port)));
    for (const client of silent.slice(16)) client.write(announced);
    const document = Buffer.alloc(4 + 300_000, 'y');
    document.writeUInt32BE(300_000);
    for (let i = 0; i < 3; i++) {
      const honest = new Client(port);
      honest.write(document);
      await until(() => honest.text.includes(' 300000 '));
      honest.socket.destroy();
    }
    const told = silent.filter((client) => client.text !== '');
    expect(told.length).toBeGreaterThan(0);
    for (const client of told) expect(client.text).toBe(timedOut);
    expect(stats(pipeline).timedOut).toBeGreaterThanOrEqual(told.length);
    for (const client of silent) client.socket.destroy();
    await empty(pipeline);
  });

  test('a length that is none closes the connection', async () => {
    const { port, pipeline } = await spool({ length: 'varint' });
    const client = new Client(port);
    client.write(Buffer.alloc(10, 0xff));
    await until(() => client.closed);
    await empty(pipeline);
  });

  test.each([
    ['stallTimeout', Buffer.from([0, 0, 0, 9, 1])],
    ['documentTimeout', Buffer.from([0, 0, 0, 9, 1])],
  ])('%s: a client is told and sent away, without JavaScript', async (name, bytes) => {
    const { port, pipeline } = await spool({
      length: 'u32be',
      [name]: 50,
      timedOut: 'too slow\n',
    });
    const client = new Client(port);
    client.write(bytes);
    await until(() => client.ended);
    expect(client.text).toBe('too slow\n');
    client.socket.destroy();
    await empty(pipeline);
    expect(stats(pipeline)).toMatchObject({ timedOut: 1 });
    expect(work(pipeline).packets).toBe(0);
  });

  test('idleTimeout: a client that begins nothing is sent away without a word', async () => {
    const { port, pipeline } = await spool({
      length: 'u32be',
      idleTimeout: 50,
      timedOut: 'too slow\n',
    });
    const client = new Client(port);
    await until(() => client.closed);
    expect(client.text).toBe('');
    await empty(pipeline);
    expect(work(pipeline).packets).toBe(0);
  });

  test('documentTimeout ends one that goes on byte by byte', async () => {
    const { port } = await spool({ length: 'u32be', documentTimeout: 100, timedOut: 'slow\n' });
    const client = new Client(port);
    client.write(Buffer.from([0, 0, 255, 255]));
    const writing = setInterval(() => client.write('x'), 5);
    await until(() => client.ended || client.closed);
    clearInterval(writing);
    expect(client.text).toBe('slow\n');
  });

  test('`queue` bounds the documents in the next stage; the others wait, and come in turn', async () => {
    const { port, pipeline } = await spool({ length: 'u32be', queueLimit: 2 });
    const clients = Array.from({ length: 5 }, () => new Client(port));
    for (const client of clients) client.write(u32('wait'));
    await until(() => stats(pipeline).waiting === 3);
    expect(stats(pipeline)).toMatchObject({ queued: 2, documents: 2 });
    const waiting = () =>
      pipeline.connections().filter(({ stage, state }) => stage === 'work' && state === 'waiting');
    for (let answered = 0; answered < 5; answered++) {
      await until(() => waiting().length > 0);
      pipeline.post(waiting()[0]!.key, 7);
      await until(() => clients.filter(({ text }) => text === 'posted 7\n').length > answered);
    }
    expect(stats(pipeline)).toMatchObject({ queued: 0, waiting: 0, documents: 5 });
  });

  test('long documents that are begun keep no other out, however long their handlers await', async () => {
    const CLIENTS = 12;
    let begun = 0;
    let open = (): void => undefined;
    const gate = new Promise<void>((resolve) => (open = resolve));
    const work = defineStage({
      states: {
        document: {
          async handedOff(c) {
            begun++;
            const { length } = c.document!;
            await gate;
            return c.reply(`${length}\n`);
          },
        },
      },
    });
    const pipeline = newPipeline({
      spool: { native: frames({ length: 'u32be', pipelined: 2 }), next: 'work' },
      work: { stage: work, threads: 0, concurrency: 1 },
    });
    const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
    const clients = Array.from({ length: CLIENTS }, () => new Client(port));
    for (const client of clients) client.write(framed('u32be', Buffer.alloc(300_000)));
    await until(() => begun === CLIENTS);
    open();
    await until(() => clients.every(({ text }) => text === '300000\n'));
    expect(stats(pipeline)).toMatchObject({ queued: 0, waiting: 0, documents: CLIENTS });
  });

  test('memory bounds what is spooled: all documents come through all the same', async () => {
    const random = new Random(newSeed('memory'));
    const { port, pipeline } = await spool(
      { length: 'u32be', maxLength: 300_000 },
      { memoryLimit: 2_000_000 },
    );
    const one = async (): Promise<void> => {
      const bytes = random.bytes(250_000);
      const client = new Client(port);
      await trickle(client, framed('u32be', bytes), random);
      await until(() => client.text.endsWith('\n') || client.closed);
      expect(client.text).toBe(answers([bytes], () => false));
      client.socket.destroy();
    };
    await Promise.all(Array.from({ length: 30 }, one));
    await empty(pipeline);
  });
});

describe('frames(): bad input', () => {
  test.skipIf(windows)('a native stage takes no socket that listens already', async () => {
    const { pipeline } = await spool({ length: 'u8' });
    const error = await failureOf(() => pipeline.listen('spool', { fd: 0 }));
    expect(codeOf(error)).toBe('ENOTSUP');
  });

  test.each([
    [undefined, 'ERR_INVALID_ARG_TYPE'],
    [{}, 'ERR_INVALID_ARG_VALUE'],
    [{ length: 'u32be', delimiter: 'x' }, 'ERR_INVALID_ARG_VALUE'],
    [{ length: 'u64' }, 'ERR_INVALID_ARG_VALUE'],
    [{ delimiter: '' }, 'ERR_OUT_OF_RANGE'],
    [{ delimiter: 'x'.repeat(17) }, 'ERR_OUT_OF_RANGE'],
    [{ delimiter: 7 }, 'ERR_INVALID_ARG_TYPE'],
    [{ length: 'u8', maxLength: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ length: 'u8', maxLength: '12 parsecs' }, 'ERR_INVALID_ARG_VALUE'],
    [{ length: 'u8', maxLength: {} }, 'ERR_INVALID_ARG_TYPE'],
    [{ length: 'u8', spool: 'tape' }, 'ERR_INVALID_ARG_VALUE'],
    [{ length: 'u8', spool: 'file', directory: '/no/such/directory' }, 'ENOENT'],
    [{ length: 'u8', spool: 'file', directory: 'a\0b' }, 'ERR_INVALID_ARG_VALUE'],
    [{ length: 'u8', spool: 'file', directory: 8 }, 'ERR_INVALID_ARG_TYPE'],
    [{ length: 'u8', idleTimeout: -1 }, 'ERR_OUT_OF_RANGE'],
    [{ length: 'u8', stallTimeout: 1.5 }, 'ERR_OUT_OF_RANGE'],
    [{ length: 'u8', queueLimit: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ length: 'u8', tooLarge: 5 }, 'ERR_INVALID_ARG_TYPE'],
    [{ length: 'u8', timeout: 5 }, 'ERR_INVALID_ARG_VALUE'],
  ])('%o: %s', async (options, code) => {
    const error = await failureOf(() => frames(options as FramesOptions));
    expect(codeOf(error)).toBe(code);
  });
});
