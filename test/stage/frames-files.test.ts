/** Documents of a native stage in files, of which there is only so much room. */
import { expect, test } from 'vitest';
import { defineStage, frames, type FramesOptions, type FramesSettings } from '../../dist/stages.js';
import { codeOf, until } from '../support/harness';
import { Client, newPipeline, type Pipeline } from '../support/stages';

/** Answers a document with its length, or why it was lost; one of 60,000 bytes when it is told to. */
const work = defineStage({
  states: {
    open: {
      handedOff(c) {
        const { length, inFile, error } = c.document!;
        if (error !== undefined) return c.reply(`${codeOf(error)}\n`);
        if (length === 60_000) return 'kept';
        return c.reply(`${length} ${inFile ? 'in a file' : 'in memory'}\n`);
      },
    },
    kept: {
      posted: (c) => c.reply('at last\n'),
    },
  },
});

async function setUp(
  options: FramesSettings = {},
  framing: FramesOptions = { length: 'u32be' },
): Promise<{ pipeline: Pipeline; port: number }> {
  const spool = {
    ...framing,
    spool: 'file' as const,
    memoryThreshold: 1000,
    fileLimit: 100_000,
  };
  const pipeline = newPipeline({
    spool: { native: frames({ ...spool, ...options }), next: 'work' },
    work: { stage: work, threads: 0 },
  });
  const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
  return { pipeline, port };
}

function document(length: number): Buffer {
  const bytes = Buffer.alloc(4 + length, 'x');
  bytes.writeUInt32BE(length);
  return bytes;
}

/** A client whose document takes most of the limit, and is at the next stage. */
async function takeMost({ pipeline, port }: Awaited<ReturnType<typeof setUp>>): Promise<Client> {
  const client = new Client(port);
  client.write(document(60_000));
  await until(() => pipeline.stats().stages['work']!.states['kept'] === 1);
  return client;
}

function giveBack(pipeline: Pipeline): void {
  for (const { key, state } of pipeline.connections()) if (state === 'kept') pipeline.post(key, 1);
}

test('beyond fileLimit: the next stage is told ENOSPC, and the connection goes on', async () => {
  const setup = await setUp();
  const first = await takeMost(setup);
  const second = new Client(setup.port);
  second.write(Buffer.concat([document(50_000), document(500), document(20_000)]));
  const expected = 'ENOSPC\n500 in memory\n20000 in a file\n';
  await until(() => second.size >= expected.length);
  expect(second.text).toBe(expected);
  expect(setup.pipeline.stats().stages['spool']!.frames).toMatchObject({ failed: 1 });

  giveBack(setup.pipeline);
  await until(() => first.text === 'at last\n');
  second.write(document(50_000));
  await until(() => second.text.endsWith('50000 in a file\n'));
});

test('beyond fileLimit: with `failed` the client is told, and sent away', async () => {
  const setup = await setUp({ failed: 'no room\n' });
  const first = await takeMost(setup);
  const second = new Client(setup.port);
  second.write(document(50_000));
  await until(() => second.closed);
  expect(second.text).toBe('no room\n');
  giveBack(setup.pipeline);
  await until(() => first.text === 'at last\n');
});

test('a document that is longer than fileLimit is lost, however long it takes to come', async () => {
  const { port } = await setUp();
  const client = new Client(port);
  client.write(document(200_000));
  client.write(document(10));
  const expected = 'ENOSPC\n10 in memory\n';
  await until(() => client.size >= expected.length);
  expect(client.text).toBe(expected);
});

test('a delimited document announces nothing: it is lost when it comes to the limit', async () => {
  const { port } = await setUp({ maxLength: 1_000_000 }, { delimiter: '\n' });
  const client = new Client(port);
  client.write(`${'x'.repeat(300_000)}\nshort\n${'x'.repeat(90_000)}\n`);
  const expected = 'ENOSPC\n5 in memory\n90000 in a file\n';
  await until(() => client.size >= expected.length);
  expect(client.text).toBe(expected);
});
