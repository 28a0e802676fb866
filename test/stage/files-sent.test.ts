/** `c.sendFile` and the event `fileSent`. */
import path from 'node:path';
import { expect, test } from 'vitest';
import { sleep, temporaryFile, until } from '../support/harness';
import { Client, empty, fixture, newPipeline } from '../support/stages';

async function sender(data: { quiet?: boolean } = {}, highWaterMark?: number) {
  const pipeline = newPipeline({ first: { stage: fixture('file-sender.mjs'), threads: 2, data } });
  const { port } = await pipeline.listen('first', { host: '127.0.0.1', port: 0, highWaterMark });
  return { pipeline, ask: () => new Client(port) };
}

const contents = 'abcdefghij'.repeat(50_000);

test('a file goes out in its place among the sends, and its end is not theirs', async () => {
  const { ask } = await sender();
  const client = ask();
  await client.ask(`whole ${temporaryFile(contents)}`, `head ${contents} sent 5 files 500000`);
});

test('parts of a file, one of them up to its end', async () => {
  const { ask } = await sender();
  await ask().ask(`part ${temporaryFile('0123456789')} 3 4`, '34563456789');
});

test('a close lets the file out first', async () => {
  const { pipeline, ask } = await sender();
  const client = ask();
  client.write(`close ${temporaryFile(contents)}`);
  await until(() => client.closed);
  expect([client.size, client.error]).toEqual([contents.length, undefined]);
  await empty(pipeline);
});

test('nobody need listen', async () => {
  const { ask } = await sender({ quiet: true });
  const client = ask();
  await client.ask(`part ${temporaryFile('0123456789')} 3 4`, '34563456789');
  await client.ask(`part ${temporaryFile('0123456789')} 8 1`, '889');
});

test('false when there is enough to send: a file counts as 64 KiB; then `drain`', async () => {
  const { ask } = await sender({}, 256 * 1024);
  const client = ask();
  client.socket.pause();
  client.write(`full ${temporaryFile(Buffer.alloc(10_000_000))}`);
  await until(() => client.socket.readableLength > 0 || client.socket.bytesRead > 0);
  client.socket.resume();
  await until(() => client.size >= 40_000_000 && client.text.endsWith(' drained after 4'));
});

test.each([
  ['what is no file', 'wrong', 'ERR_INVALID_ARG_TYPE '],
  ['an option that there is not', 'misspelt', 'ERR_INVALID_ARG_VALUE '],
  ['a file that is closed', 'closed', 'ERR_HANDLE_CLOSED '],
  ['a directory', 'directory', 'ERR_INVALID_ARG_VALUE '],
])('%s is refused, and the connection goes on', async (_, way, code) => {
  const { ask } = await sender();
  const client = ask();
  const file = temporaryFile('0123456789');
  await client.ask(`${way} ${way === 'directory' ? path.dirname(file) : file}`, code);
  await client.ask(`part ${temporaryFile('0123456789')} 8 1`, '889');
});

test('a client that asks and never reads is not received from for ever', async () => {
  const { pipeline, ask } = await sender({ quiet: true });
  const client = ask();
  client.socket.pause();
  const file = temporaryFile(Buffer.alloc(200_000));
  const [request] = [`part ${file} 0 200000\n`.padEnd(65_536)];
  let written = 0;
  let full = false;
  client.socket.on('drain', () => (full = false));
  // What the system holds for both ends, and no more; the stage is bounded by its mark.
  const most = 64 * 1024 * 1024;
  for (let idle = 0; idle < 20 && written < most;) {
    idle = full ? idle + 1 : 0;
    if (!full) {
      full = !client.socket.write(request);
      written += request!.length;
    }
    await sleep(5);
  }
  expect(written).toBeLessThan(most);
  expect(pipeline.stats().connections).toBe(1);
});
