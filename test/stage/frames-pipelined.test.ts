/** Documents of one connection that are handed over together. */
import { expect, test } from 'vitest';
import { defineStage, frames, type FramesOptions } from '../../dist/stages.js';
import { codeOf, failureOf, newSeed, pattern, Random, until } from '../support/harness';
import { Client, fixture, newPipeline, type Pipeline } from '../support/stages';

async function setUp(
  options: Partial<FramesOptions> = {},
  stage = 'lines.mjs',
): Promise<{ pipeline: Pipeline; port: number }> {
  const { length, delimiter: _, ...settings } = options;
  const framing = length === undefined ? { delimiter: '\n' } : { length };
  const pipeline = newPipeline({
    spool: { native: frames({ pipelined: 1000, ...settings, ...framing }), next: 'work' },
    work: { stage: fixture(stage), threads: 2 },
  });
  const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
  return { pipeline, port };
}

test('lines that came together are answered together, in order, with few packets', async () => {
  const { pipeline, port } = await setUp();
  const client = new Client(port);
  const lines = Array.from({ length: 5000 }, (_, i) => 'x'.repeat(i % 50));
  client.write(lines.map((line) => `${line}\n`).join(''));
  const expected = lines.map((line, i) => `${i + 1} ${line.length}\n`).join('');
  await until(() => client.size >= expected.length);
  expect(client.text).toBe(expected);
  const { packets } = pipeline.stats().stages['work']!;
  expect(packets).toBeLessThan(lines.length / 10);
  expect(pipeline.stats().stages['spool']!.frames).toMatchObject({ documents: lines.length });
});

test('one that came alone is answered alone', async () => {
  const { port } = await setUp();
  const client = new Client(port);
  for (let i = 1; i <= 3; i++) {
    client.write('line\n');
    await until(() => client.text.endsWith(`${i} 4\n`));
  }
  client.write('count\n');
  await until(() => client.text.endsWith('4\n1\n'));
});

test('another number of answers than of documents is an error', async () => {
  const { pipeline, port } = await setUp();
  const codes: unknown[] = [];
  pipeline.on('failed', ({ error }) => codes.push(codeOf(error)));
  const client = new Client(port);
  client.write('wrong\nline\n');
  await until(() => client.closed && codes.length === 1);
  expect(codes).toEqual(['ERR_INVALID_ARG_VALUE']);
});

const sum = (batches: number[][]) => batches.reduce((total, [lines]) => total + lines!, 0);

test('lines of any length come as they were sent, whole and in order, also as one', async () => {
  const random = new Random(newSeed('lines'));
  const { port } = await setUp({ pipelined: 300, maxLength: 200_000 }, 'batch.mjs');
  const client = new Client(port);
  const sent: Buffer[] = [];
  let size = 0;
  while (size < 6_000_000) {
    const length = random.below(20) === 0 ? random.below(150_000) : random.below(120);
    const line = Buffer.from(`${pattern(length, size).toString('hex').slice(0, length)}\n`);
    sent.push(line);
    size += line.length;
  }
  const all = Buffer.concat(sent);
  for (let at = 0; at < size;) {
    const piece = random.below(4) === 0 ? random.below(400_000) + 1 : random.below(3000) + 1;
    client.write(all.subarray(at, at + piece));
    at += piece;
    if (random.below(30) === 0) await until(() => client.size > at / 2 - 500_000);
  }
  await until(() => client.size >= size);
  expect(client.received.equals(all)).toBe(true);
});

test('a client that sends ahead is received from beyond one buffer', async () => {
  const { port } = await setUp({ pipelined: 65_536 }, 'batch.mjs');
  const client = new Client(port);
  const [line, ahead] = ['size\n', 400_000];
  let longest = 0;
  while (longest <= 32_768) {
    client.forget();
    client.write(line.repeat(ahead));
    const batches = () =>
      [...client.text.matchAll(/^(\d+) (\d+)$/gm)].map(([, n, b]) => [+n!, +b!]);
    await until(() => client.text.endsWith('\n') && sum(batches()) === ahead);
    for (const [lines, bytes] of batches()) {
      expect(bytes).toBe(lines! * line.length);
      longest = Math.max(longest, bytes!);
    }
  }
  expect(longest).toBeLessThanOrEqual(256 * 1024);
});

test('one that came alone is a batch of one; one in a file has no bytes there', async () => {
  const { port } = await setUp(
    { spool: 'file', memoryThreshold: 1000, maxLength: 100_000 },
    'batch.mjs',
  );
  const client = new Client(port);
  client.write('size\n');
  await until(() => client.text === '1 5\n');
  client.forget();
  client.write('\n');
  await until(() => client.text === '\n');
  client.forget();
  client.write(`${'x'.repeat(50_000)}\n`);
  await until(() => client.text === 'in a file, undefined\n');
});

test('documents with lengths come together without bytes as one', async () => {
  const random = new Random(newSeed('lengths'));
  const { port } = await setUp({ length: 'u16be', pipelined: 100 }, 'batch.mjs');
  const client = new Client(port);
  const documents: Buffer[] = [];
  for (let i = 0; i < 3000; i++)
    documents.push(pattern(random.below(random.below(10) ? 60 : 5000), i));
  const framed = documents.map((each) => {
    const head = Buffer.alloc(2);
    head.writeUInt16BE(each.length);
    return Buffer.concat([head, each]);
  });
  client.write(Buffer.concat(framed));
  const expected = Buffer.concat(documents);
  await until(() => client.size >= expected.length);
  expect(client.received.equals(expected)).toBe(true);
});

test.each([
  [{ pipelined: 0 }, 'ERR_OUT_OF_RANGE'],
  [{ pipelined: 65537 }, 'ERR_OUT_OF_RANGE'],
  [{ minRate: -1 }, 'ERR_OUT_OF_RANGE'],
  [{ minRate: 'fast' }, 'ERR_INVALID_ARG_VALUE'],
  [{ fileLimit: 0 }, 'ERR_OUT_OF_RANGE'],
])('frames(%o): %s', async (options, code) => {
  const error = await failureOf(() => frames({ length: 'u8', ...options }));
  expect(codeOf(error)).toBe(code);
});

test('M5: documents in a block that other documents were in show nothing of those', async () => {
  const seen: { bytes: string; block: number; foreign: number }[] = [];
  const work = defineStage({
    states: {
      open: {
        handedOff(c) {
          const { length, bytes } = c.batch!;
          const all = Buffer.from(bytes!.buffer);
          const foreign = all.filter((byte) => byte !== 0 && !bytes!.includes(byte)).length;
          seen.push({ bytes: String(bytes), block: all.length, foreign });
          return c.reply('.'.repeat(length));
        },
      },
    },
  });
  const pipeline = newPipeline({
    spool: { native: frames({ pipelined: 1000, delimiter: '\n' }), next: 'work' },
    work: { stage: work, threads: 0 },
  });
  const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
  const texts = [`${'a'.repeat(9000)}\n${'b'.repeat(4000)}\n`, 'c\nd\n', `${'e'.repeat(13_500)}\n`];
  for (const text of texts) {
    const client = new Client(port);
    client.write(text);
    await until(() => client.text.length > 0);
    client.socket.destroy();
  }
  expect(seen.map(({ bytes }) => bytes).join('')).toBe(texts.join(''));
  expect(seen.map(({ foreign }) => foreign)).toEqual(seen.map(() => 0));
});
