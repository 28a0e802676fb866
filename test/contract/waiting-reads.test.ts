/**
 * Reads of files wait for memory in the order they came; one at a time goes beyond the limit, so
 * that none waits for what others keep (rule M7).
 */
import { expect, test } from 'vitest';
import { defineStage, frames } from '../../dist/stages.js';
import {
  codeOf,
  failureOf,
  newPort,
  pattern,
  temporaryDirectory,
  temporaryFile,
  until,
  type CompletionPort,
} from '../support/harness';
import { Client, newPipeline } from '../support/stages';
import { codeOf as codeOfErrno } from '../../dist/support/errors.js';
import { ReadMemory, type WaitingRead } from '../../dist/thread/read-memory.js';

const LIMIT = 1 << 20;
const BLOCK = 65536;
const CONTENT = pattern(10 * BLOCK + 100);

/** A port of whose memory nothing is left. */
function fullPort(): { port: CompletionPort; all: Buffer } {
  const port = newPort({ memoryLimit: LIMIT });
  return { port, all: port.allocate(LIMIT) };
}

function beyondOnly(_: number, beyond = false): boolean {
  return beyond;
}

async function contentOf(chunks: AsyncIterable<Buffer>): Promise<Buffer> {
  const parts = [];
  for await (const chunk of chunks) parts.push(Buffer.from(chunk));
  return Buffer.concat(parts);
}

test('M7: at the limit reads go one after the other, in the order of the calls', async () => {
  const { port, all } = fullPort();
  const file = await port.open(temporaryFile(CONTENT), 'r');
  const ended: string[] = [];
  const most: number[] = [];
  const note = async <T>(name: string, read: Promise<T>): Promise<T> => {
    const value = await read;
    ended.push(name);
    most.push(port.stats().allocatedBytes);
    return value;
  };
  const into = Buffer.alloc(1000);
  const [left, right] = [Buffer.alloc(10), Buffer.alloc(20)];
  const answers = await Promise.all([
    note('read', file.read(into, 0)),
    note('owned', file.read({ length: BLOCK, position: 1 })),
    note('readv', file.readv([left, right], 5)),
    note('stat', file.stat()),
    note('last', file.read({ length: 10, position: CONTENT.length - 5 })),
  ]);
  expect(ended).toEqual(['read', 'owned', 'readv', 'stat', 'last']);
  expect(Math.max(...most)).toBeLessThanOrEqual(LIMIT + BLOCK);
  expect(answers[0]).toBe(1000);
  expect(into.equals(CONTENT.subarray(0, 1000))).toBe(true);
  expect(answers[1].equals(CONTENT.subarray(1, 1 + BLOCK))).toBe(true);
  expect(answers[2]).toBe(30);
  expect(Buffer.concat([left, right]).equals(CONTENT.subarray(5, 35))).toBe(true);
  expect(answers[3].size).toBe(CONTENT.length);
  expect(answers[4].equals(CONTENT.subarray(CONTENT.length - 5))).toBe(true);
  expect(port.stats().allocatedBytes).toBe(LIMIT);
  port.release(all);
  await file.close();
  expect(port.stats().allocatedBytes).toBe(0);
});

test.each([false, true])('M7: many loops read on at the limit (lend: %s)', async (lend) => {
  const { port } = fullPort();
  const path = temporaryFile(CONTENT);
  const read = async (): Promise<boolean> => {
    await using file = await port.open(path, 'r');
    return CONTENT.equals(await contentOf(file.chunks({ lend })));
  };
  const right = await Promise.all(Array.from({ length: 20 }, read));
  expect(right).toEqual(Array.from({ length: 20 }, () => true));
  expect(port.stats().allocatedBytes).toBe(LIMIT);
});

test('M7: a loop within a loop reads on, though the first has all of the memory', async () => {
  const port = newPort({ memoryLimit: 4 * BLOCK });
  const path = temporaryFile(CONTENT);
  const outer = await port.open(path, 'r');
  const inner = await port.open(path, 'r');
  const parts: Buffer[] = [];
  for await (const chunk of outer.chunks()) {
    if (parts.length === 0) {
      expect(port.stats().allocatedBytes).toBe(4 * BLOCK);
      expect(CONTENT.equals(await contentOf(inner.chunks()))).toBe(true);
    }
    parts.push(chunk);
  }
  expect(CONTENT.equals(Buffer.concat(parts))).toBe(true);
  await until(() => port.stats().allocatedBytes === 0);
});

test('M7: what a loop lends beyond the limit, or an operation still has, stays until its end', async () => {
  const { port, all } = fullPort();
  const path = temporaryFile(CONTENT);
  const source = await port.open(path, 'r');
  port.release(all);
  const rest = port.allocate(LIMIT / 2);
  const target = await port.open(temporaryFile(), 'w+');
  const writes = [];
  let position = 0;
  for await (const chunk of source.chunks({ lend: true, depth: 8 })) {
    writes.push(target.write(chunk, position).catch((error: unknown) => codeOf(error)));
    position += chunk.length;
  }
  // A chunk of the program's own, lent beyond the limit, has to be copied to be written.
  const written = await Promise.all(writes);
  port.release(rest);
  const copied = await contentOf(target.chunks());
  let at = 0;
  for (const bytes of written) {
    if (typeof bytes === 'number') {
      expect(copied.subarray(at, at + bytes).equals(CONTENT.subarray(at, at + bytes))).toBe(true);
    } else expect(bytes).toBe('ERR_MEMORY_LIMIT');
    at += BLOCK;
  }
  expect(position).toBe(CONTENT.length);
});

test('M7: a read of more than the limit is refused at once', async () => {
  const port = newPort({ memoryLimit: LIMIT });
  const file = await port.open(temporaryFile(CONTENT), 'r');
  for (const read of [
    () => file.read({ length: LIMIT + 1 }),
    () => file.read(Buffer.alloc(LIMIT + 1)),
    () => file.chunks({ size: LIMIT + 1 }).next(),
  ]) {
    expect(codeOf(await failureOf(read))).toBe('ERR_MEMORY_LIMIT');
  }
  expect(port.stats().allocatedBytes).toBe(0);
});

test('M7: a member of a chain does not wait', async () => {
  const { port } = fullPort();
  const file = await port.open(temporaryFile(CONTENT), 'r+');
  const [read, synced] = file.link(() => [file.read({ length: 10, position: 0 }), file.sync()]);
  expect(codeOf(await failureOf(() => read))).toBe('ERR_MEMORY_LIMIT');
  expect(codeOf(await failureOf(() => synced))).toBe('ECANCELED');
});

test('O4: a read that waits ends with its signal, cancel(), and its file', async () => {
  const { port } = fullPort();
  const path = temporaryFile(CONTENT);
  const busy = await port.open(path, 'r');
  const file = await port.open(path, 'r');
  const first = busy.read({ length: BLOCK });
  const controller = new AbortController();
  const aborted = file.read({ length: 100, signal: controller.signal });
  const cancelled = file.read({ length: 100 });
  const closed = file.read(Buffer.alloc(100));
  const loop = file.chunks().next();
  controller.abort();
  cancelled.cancel();
  const closing = file.close();
  const codes = await Promise.all(
    [aborted, cancelled, closed].map(async (read) => codeOf(await failureOf(() => read))),
  );
  expect(codes).toEqual(['ABORT_ERR', 'ECANCELED', 'ECANCELED']);
  expect(await loop).toEqual({ done: true, value: undefined });
  await closing;
  expect((await first).equals(CONTENT.subarray(0, BLOCK))).toBe(true);
  await until(() => port.stats().allocatedBytes === LIMIT);
});

test('O4: a loop that waits can be left, and aborted', async () => {
  const { port } = fullPort();
  const path = temporaryFile(CONTENT);
  const file = await port.open(path, 'r');
  const controller = new AbortController();
  const first = file.read({ length: BLOCK, position: 0 });
  const left = file.chunks();
  const aborted = file.chunks({ signal: controller.signal });
  const waits = [left.next(), aborted.next()];
  controller.abort();
  await left.return!();
  expect(await waits[0]).toEqual({ done: true, value: undefined });
  expect(codeOf(await failureOf(() => waits[1]))).toBe('ABORT_ERR');
  await first;
  expect(CONTENT.equals(await contentOf(file.chunks()))).toBe(true);
  await until(() => port.stats().allocatedBytes === LIMIT);
});

test('reads without a position that wait follow each other; one that is given up takes none', async () => {
  const { port } = fullPort();
  const file = await port.open(temporaryFile(CONTENT), 'r');
  const first = file.read({ length: 10 });
  const second = file.read({ length: 10 });
  const third = file.read({ length: 10 });
  third.cancel();
  expect((await first).equals(CONTENT.subarray(0, 10))).toBe(true);
  expect((await second).equals(CONTENT.subarray(10, 20))).toBe(true);
  expect(codeOf(await failureOf(() => third))).toBe('ECANCELED');
  expect((await file.read({ length: 10 })).equals(CONTENT.subarray(20, 30))).toBe(true);
});

test('O6: a read that waits for memory fails when its time is over; those behind it go on', async () => {
  const memory = { thread: { closed: false }, mayEverTake: () => true, take: beyondOnly };
  const reads = new ReadMemory(memory as never);
  const told: string[] = [];
  const read = (name: string): WaitingRead => ({
    file: {} as never,
    bytes: 1,
    begin: (beyond, timeout) => told.push(`${name} ${beyond} ${timeout > 0}`),
    ended: (error) => told.push(`${name} ${codeOfErrno(error)}`),
  });
  reads.wait(read('first'), 0);
  reads.wait(read('second'), 1);
  reads.wait(read('third'), 1e9);
  await until(() => told.length === 2);
  reads.over();
  reads.over();
  expect(told).toEqual(['first true false', 'second ETIMEDOUT', 'third true true']);
});

test('M7: documents in files are read back at the limit, though one client keeps all of it', async () => {
  let kept: { release(): void } | undefined;
  const keepAll = (port: CompletionPort): { release(): void } => {
    const all = port.allocate(LIMIT);
    return { release: () => port.release(all) };
  };
  const work = defineStage({
    states: {
      open: {
        async handedOff(c) {
          await using file = await c.document!.open();
          kept ??= keepAll(file.port);
          const right = CONTENT.equals(await contentOf(c.document!.chunks()));
          const last = await file.read({ length: 4, position: CONTENT.length - 4 });
          return c.reply(`${right} ${last.equals(CONTENT.subarray(-4))}\n`);
        },
      },
    },
  });
  const spool = frames({
    length: 'u32be',
    spool: 'file',
    memoryThreshold: 1000,
    directory: temporaryDirectory(),
  });
  const pipeline = newPipeline(
    { spool: { native: spool, next: 'work' }, work: { stage: work, threads: 0 } },
    { memoryLimit: LIMIT },
  );
  const failures: unknown[] = [];
  pipeline.on('failed', ({ error }) => failures.push(error));
  const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
  const head = Buffer.alloc(4);
  head.writeUInt32BE(CONTENT.length);
  const clients = Array.from({ length: 10 }, () => new Client(port));
  for (const client of clients) client.write(Buffer.concat([head, CONTENT]));
  const answer = 'true true\n';
  await until(() => failures.length > 0 || clients.every(({ size }) => size >= answer.length));
  expect(failures).toEqual([]);
  expect(new Set(clients.map(({ text }) => text))).toEqual(new Set([answer]));
  kept!.release();
  await until(() => pipeline.stats().stages['work']!.port.allocatedBytes === 0);
});
