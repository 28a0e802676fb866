/** Files as streams of Node.js and of the web. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { buffer, text } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { expect, test } from 'vitest';
import {
  driver,
  ended,
  newPort,
  root,
  temporaryDirectory,
  type CompletionPort,
} from '../support/harness';

const bytes = Buffer.from(Array.from({ length: 300_000 }, (_, i) => i % 251));

function setUp(): { port: CompletionPort; file: string } {
  const file = path.join(temporaryDirectory(), 'file');
  writeFileSync(file, bytes);
  return { port: newPort(driver ? { driver: driver as 'epoll' } : {}), file };
}

test('readable gives the file, and closes it', async () => {
  const { port, file } = setUp();
  for (const options of [undefined, { start: 0 }]) {
    const handle = await port.open(file);
    expect((await buffer(handle.readable(options))).equals(bytes)).toBe(true);
    expect(handle.closed).toBe(true);
  }
});

test('start and end are inclusive, as in node:fs; autoClose: false leaves it open', async () => {
  const { port, file } = setUp();
  const handle = await port.open(file);
  const part = await buffer(
    handle.createReadStream({ start: 100, end: 70_099, autoClose: false, highWaterMark: 4096 }),
  );
  expect(part.equals(bytes.subarray(100, 70_100))).toBe(true);
  expect(await handle.read({ length: 5 })).toEqual(bytes.subarray(0, 5));
  // Without a start: from there on.
  const rest = await buffer(handle.readable({ end: 9, autoClose: false }));
  expect(rest).toEqual(bytes.subarray(5, 15));
  await handle.close();
});

test('a stream that is left early ends its reads and gives the file back', async () => {
  const { port, file } = setUp();
  const handle = await port.open(file);
  const stream = handle.readable({ start: 0, highWaterMark: 1024 });
  await once(stream, 'data');
  stream.destroy();
  await once(stream, 'close');
  expect(handle.closed).toBe(true);
  expect(port.stats().handles).toBe(0);
});

test('a signal ends it', async () => {
  const { port, file } = setUp();
  const stop = new AbortController();
  const stream = (await port.open(file)).readable({ signal: stop.signal });
  stop.abort();
  const [error] = (await once(stream, 'error')) as [Error];
  expect(error.name).toBe('AbortError');
});

test('writable writes in order, where it was told to, and brings it to the device', async () => {
  const { port, file } = setUp();
  const stream = (await port.open(file, 'r+')).writable({ start: 10, flush: true });
  stream.cork();
  stream.write('one');
  stream.write('c3a4', 'hex');
  process.nextTick(() => stream.uncork());
  stream.end(Buffer.alloc(100_000, 'z'));
  await once(stream, 'close');
  const written = readFileSync(file);
  expect(written.subarray(0, 10)).toEqual(bytes.subarray(0, 10));
  expect(written.subarray(10, 15).toString()).toBe('oneä');
  expect(written.subarray(15, 100_015).equals(Buffer.alloc(100_000, 'z'))).toBe(true);
  expect(written.subarray(100_015).equals(bytes.subarray(100_015))).toBe(true);
});

test('a pipeline copies a file; a failure closes both', async () => {
  const { port, file } = setUp();
  const copy = `${file}.copy`;
  const to = await port.open(copy, 'w');
  await pipeline((await port.open(file)).readable({ start: 0 }), to.writable());
  expect(readFileSync(copy).equals(bytes)).toBe(true);
  expect(to.closed).toBe(true);
  const from = await port.open(file);
  const readOnly = await port.open(copy);
  await expect(pipeline(from.readable(), readOnly.writable())).rejects.toMatchObject({
    code: 'EBADF',
  });
  expect([from.closed, readOnly.closed]).toEqual([true, true]);
});

test('a web stream gives its bytes, to readers of their own memory too', async () => {
  const { port, file } = setUp();
  const handle = await port.open(file);
  expect((await buffer(handle.readableWebStream() as never)).equals(bytes)).toBe(true);
  const other = await port.open(file);
  const reader = other.readableWebStream({ autoClose: true }).getReader({ mode: 'byob' });
  const { value } = await reader.read(new Uint8Array(10));
  expect(Buffer.from(value as Uint8Array)).toEqual(bytes.subarray(0, 10));
  await reader.cancel();
  expect([handle.closed, other.closed]).toEqual([false, true]);
  await handle.close();
});

test('wrong options throw at once', async () => {
  const { port, file } = setUp();
  const handle = await port.open(file);
  const codes = [{ start: -1 }, { start: 5, end: 4 }, { highWaterMark: 0 }].map((options) => {
    try {
      handle.readable(options);
      return 'taken';
    } catch (error) {
      return (error as { code: string }).code;
    }
  });
  expect(codes).toEqual(Array(3).fill('ERR_OUT_OF_RANGE'));
  expect(() => handle.writable({ strat: 1 } as never)).toThrow(/is unknown/);
  expect(await text(handle.readable({ encoding: 'latin1', end: 3 }))).toBe(
    '\u0000\u0001\u0002\u0003',
  );
});

test('files and sockets are sources of stream/iter', async (context) => {
  const { port, file } = setUp();
  const handle = await port.open(file);
  const symbol = Symbol.for('Stream.toAsyncStreamable');
  const source = handle as unknown as Record<symbol, () => AsyncIterable<Buffer>>;
  const chunks: Buffer[] = [];
  for await (const chunk of source[symbol]!()) chunks.push(chunk);
  expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
  const flag = '--experimental-stream-iter';
  if (!process.allowedNodeEnvironmentFlags.has(flag)) return context.skip('no stream/iter here');
  const program = `
    import { CompletionPort } from 'completion-port';
    import { bytes, from } from 'node:stream/iter';
    const port = new CompletionPort();
    const read = await bytes(from(await port.open(process.argv[1])));
    const listener = await port.listen({ host: '127.0.0.1', port: 0 });
    const connecting = port.connect({ host: '127.0.0.1', port: listener.address().port });
    const socket = await listener.accept();
    const client = await connecting;
    void client.send(Buffer.from(read)).then(() => client.end());
    console.log(read.byteLength, (await bytes(from(socket))).byteLength);
    process.exit();
  `;
  const args = [flag, '--no-warnings', '--input-type=module', '--eval', program, file];
  const child = spawn(process.execPath, args, { cwd: root });
  expect(await ended(child)).toMatchObject({ code: 0, stdout: '300000 300000\n', stderr: '' });
});
