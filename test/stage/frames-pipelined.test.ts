/** Documents of one connection that are handed over together. */
import { expect, test } from 'vitest';
import { frames, type FramesOptions } from '../../dist/index.js';
import { codeOf, failureOf, until } from '../support/harness';
import { Client, fixture, newPipeline, type Pipeline } from '../support/stages';

async function setUp(options: FramesOptions = {}): Promise<{ pipeline: Pipeline; port: number }> {
  const pipeline = newPipeline({
    spool: { native: frames({ delimiter: '\n', pipelined: 1000, ...options }), next: 'work' },
    work: { stage: fixture('lines.mjs'), threads: 2 },
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
