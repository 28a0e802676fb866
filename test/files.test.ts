import { openSync, closeSync, readFileSync, statSync, truncateSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { writtenFifo } from './support/fifo';
import {
  codeOf,
  failureOf,
  newPort,
  pattern,
  skipOnWindows,
  temporaryDirectory,
  temporaryFile,
  turns,
  windows,
} from './support/harness';

describe('chunks', () => {
  const lengths = [0, 1, 511, 4096, 65_535, 65_536, 65_537, 1_000_000];
  test.each([1, 2, 8, 256])('exact for many lengths and sizes, depth %d', async (depth) => {
    const port = newPort();
    for (const length of lengths) {
      const expected = pattern(length);
      const file = await port.open(temporaryFile(expected));
      for (const size of [1000, 4096, 65_536, 2_000_000]) {
        const chunks: Buffer[] = [];
        for await (const chunk of file.chunks({ size, depth })) chunks.push(Buffer.from(chunk));
        expect(Buffer.concat(chunks).equals(expected)).toBe(true);
        expect(chunks.slice(0, -1).every((chunk) => chunk.length === size)).toBe(true);
      }
      await file.close();
    }
    expect(port.stats().allocatedBytes).toBe(0);
  });

  test('from start to end, and copies that stay', async () => {
    const port = newPort();
    const all = pattern(100_000);
    const file = await port.open(temporaryFile(all));
    for (const [start, end] of [
      [0, 0],
      [5, 5],
      [1, 99_999],
      [50_000, 200_000],
      [150_000, 160_000],
    ] as const) {
      const chunks: Buffer[] = [];
      for await (const chunk of file.chunks({ size: 7000, position: start, length: end - start }))
        chunks.push(chunk);
      expect(Buffer.concat(chunks).equals(all.subarray(start, end))).toBe(true);
    }
  });

  test('a loop over a file ends when the program itself closes it', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile(pattern(1_000_000)));
    let bytes = 0;
    for await (const chunk of file.chunks({ size: 1000, depth: 4 })) {
      bytes += chunk.length;
      if (bytes === 5000) await file.close();
    }
    expect(bytes).toBeGreaterThanOrEqual(5000);
    expect(bytes).toBeLessThan(1_000_000);
  });

  test('positions and lengths are options, as those of FileHandle', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile(Buffer.from('0123456789')), 'r+');
    const target = Buffer.alloc(4);
    expect(await file.read(target, { position: 3, length: 2 })).toBe(2);
    const part = Buffer.alloc(8, '-');
    expect(await file.read(part, { position: 3, offset: 2, length: 3 })).toBe(3);
    expect(part.toString()).toBe('--345---');
    const pool = port.allocate(8).fill('-');
    expect(await file.read(pool, { position: 1, offset: 5 })).toBe(3);
    expect(pool.toString()).toBe('-----123');
    for (const memory of [part, pool]) {
      expect(await file.write(memory, { position: 0, offset: 5, length: 1 })).toBe(1);
    }
    expect(await file.write(Buffer.from('x01'), { position: 0, offset: 1, sync: true })).toBe(2);
    expect(target.toString('latin1', 0, 2)).toBe('34');
    expect(await file.write('xy', { position: 8n })).toBe(2);
    expect(await file.writev(['a', 'b'], { position: 0, sync: true })).toBe(2);
    expect((await file.read({ length: 10, position: 0 })).toString()).toBe('ab234567xy');
    // Without a position they go on where the last one ended.
    expect(await file.read(target, { length: 2 })).toBe(2);
    expect(await file.read(target, {})).toBe(4);
    expect(target.toString()).toBe('2345');
    const chunks = [];
    for await (const chunk of file.chunks({ position: 7n, length: 2 })) chunks.push(chunk);
    expect(Buffer.concat(chunks).toString()).toBe('7x');
    await file.close();
  });

  test('leaving the loop leaves no memory behind', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile(Buffer.alloc(1 << 20)));
    for (let round = 0; round < 50; round++) {
      for await (const chunk of file.chunks({ size: 10_000, depth: 1 + (round % 8) })) {
        expect(chunk).toHaveLength(10_000);
        break;
      }
      const error = await failureOf(async () => {
        for await (const chunk of file.chunks({ depth: 5 }))
          throw new Error(`mine ${chunk.length}`);
      });
      expect(error.message).toBe('mine 65536');
    }
    expect(port.stats().allocatedBytes).toBe(0);
    const unused = file.chunks();
    await unused.return!();
    for await (const chunk of file.chunks({ depth: 3 })) {
      expect(chunk).toHaveLength(65_536);
      void file.close();
      await turns(3);
    }
    expect(port.stats().allocatedBytes).toBe(0);
  });

  test('a file that shrinks or grows while it is read ends somewhere sensible', async () => {
    const port = newPort();
    const name = temporaryFile(pattern(1_000_000));
    const file = await port.open(name);
    let bytes = 0;
    for await (const chunk of file.chunks({ size: 10_000 })) {
      bytes += chunk.length;
      if (bytes === 100_000) truncateSync(name, 300_000);
    }
    expect(bytes).toBe(300_000);
  });

  test('a directory fails with EISDIR', async () => {
    const port = newPort();
    const file = await port.open(temporaryDirectory());
    const error = await failureOf(async () => {
      for await (const chunk of file.chunks()) expect(chunk).toBeUndefined();
    });
    expect(error.code).toBe('EISDIR');
    expect(port.stats().allocatedBytes).toBe(0);
  });

  test('a FIFO gives what there is, until its writer closes it', async () => {
    const port = newPort();
    const { name, write, end } = await writtenFifo();
    const file = await port.open(name);
    let bytes = 0;
    let written = 0;
    const more = (): void => {
      if (written === 500_000) return end();
      written += 10_000;
      write('x'.repeat(10_000));
    };
    more();
    for await (const chunk of file.chunks({ depth: 8 })) {
      bytes += chunk.length;
      if (bytes === written) more();
    }
    expect(bytes).toBe(500_000);
  });
});

describe('positions', () => {
  test('without one, reads and writes follow each other', async () => {
    const port = newPort();
    const name = temporaryFile();
    const file = await port.open(name, 'w+');
    await Promise.all([file.write('one '), file.write('two '), file.write('three')]);
    expect(readFileSync(name, 'utf8')).toBe('one two three');
    const again = await port.open(name);
    const parts = await Promise.all([1, 2, 3].map(() => again.read({ length: 4 })));
    expect(parts.map(String)).toEqual(['one ', 'two ', 'thre']);
    expect(String(await again.read({ length: 4 }))).toBe('e');
    expect(await again.read({ length: 4 })).toHaveLength(0);
    expect(String(await again.read({ length: 3, position: 4n }))).toBe('two');
  });

  test('beyond 2 and 4 GiB, in a sparse file', async () => {
    const port = newPort();
    const name = temporaryFile();
    const file = await port.open(name, 'w+');
    for (const position of [2 ** 31 - 2, 2 ** 32 - 2, 2 ** 33 + 5]) {
      expect(await file.write(`at ${position}`, position)).toBe(`at ${position}`.length);
      const read = await file.read({ length: 20, position: BigInt(position) });
      expect(read.toString('latin1').replace(/\0+$/, '')).toBe(`at ${position}`);
    }
    expect((await file.stat()).size).toBe(2 ** 33 + 5 + 13);
    expect((await file.read({ length: 100, position: 2 ** 30 })).every((byte) => byte === 0)).toBe(
      true,
    );
    let bytes = 0;
    for await (const chunk of file.chunks({ position: 2 ** 33 - 10 })) bytes += chunk.length;
    expect(bytes).toBe(28);
    await file.truncate(0);
    expect(statSync(name).size).toBe(0);
  });

  test('a file for appending is written to at its end', async () => {
    const port = newPort();
    const name = temporaryFile('begin ');
    const file = await port.open(name, 'a');
    await file.write('one ', 0);
    await file.write('two');
    expect(readFileSync(name, 'utf8')).toBe('begin one two');
  });
});

test('vectored reads and writes, of own and of pool memory', async () => {
  const port = newPort();
  const name = temporaryFile();
  const file = await port.open(name, 'w+');
  for (const pool of [false, true]) {
    const make = (bytes: Buffer): Buffer => {
      if (!pool || bytes.length === 0) return bytes;
      const copy = port.allocate(bytes.length);
      bytes.copy(copy);
      return copy;
    };
    for (const count of [0, 1, 2, 7, 600]) {
      const parts = Array.from({ length: count }, (_, i) => make(pattern((i * 37) % 1000, i)));
      const all = Buffer.concat(parts);
      await file.truncate(0);
      expect(await file.writev(parts, 0)).toBe(all.length);
      expect(readFileSync(name).equals(all)).toBe(true);
      const targets = parts.map((part) => make(Buffer.alloc(part.length)));
      expect(await file.readv(targets, 0)).toBe(all.length);
      expect(await file.readv(targets, { position: all.length })).toBe(0);
      expect(Buffer.concat(targets).equals(all)).toBe(true);
      if (pool) for (const part of [...parts, ...targets]) if (part.length > 0) port.release(part);
    }
  }
  expect(port.stats().allocatedBytes).toBe(0);
});

test('typed arrays of any kind, strings, and large pieces of own memory', async () => {
  const port = newPort();
  const name = temporaryFile();
  const file = await port.open(name, 'w+');
  const doubles = Float64Array.from({ length: 1000 }, (_, i) => i / 3);
  expect(await file.write(doubles, 0)).toBe(8000);
  const view = new DataView(new ArrayBuffer(8016), 8, 8000);
  expect(await file.read(view, 0)).toBe(8000);
  expect(view.getFloat64(8 * 999, true)).toBe(333);
  expect(await file.write('größer', 0)).toBe(8);
  expect(readFileSync(name).toString('utf8', 0, 8)).toBe('größer');
  const big = pattern(70 * 1024 * 1024);
  expect(await file.write(big, 0)).toBe(big.length);
  expect(readFileSync(name).equals(big)).toBe(true);
  expect(port.stats().allocatedBytes).toBe(0);
});

test('O_DIRECT with pool memory', async ({ skip }) => {
  const port = newPort();
  const all = pattern(1_000_001);
  const name = temporaryFile(all);
  const opening = await port
    .open(name, 'r', { direct: true })
    .catch((error: unknown) => error as NodeJS.ErrnoException);
  if (opening instanceof Error) {
    expect(opening.message).toContain('EINVAL');
    return skip('the file system refuses direct I/O');
  }
  const memory = port.allocate(65_536);
  expect(await opening.read(memory, 4096)).toBe(65_536);
  expect(memory.equals(all.subarray(4096, 4096 + 65_536))).toBe(true);
  for (const size of [4096, 10_000, 1 << 20]) {
    const chunks: Buffer[] = [];
    for await (const chunk of opening.chunks({ size, depth: 3 })) chunks.push(Buffer.from(chunk));
    expect(Buffer.concat(chunks).equals(all)).toBe(true);
  }
});

test('devices', async (context) => {
  skipOnWindows(context, 'has neither /dev/zero nor /dev/full');
  const port = newPort();
  const zero = await port.open('/dev/zero', 'r+');
  const bytes = new Uint8Array(5000).fill(1);
  // It stops early when the thread is interrupted.
  const zeros = await zero.read(bytes);
  expect(zeros).toBeGreaterThan(0);
  expect(bytes.subarray(0, zeros).every((byte) => byte === 0)).toBe(true);
  const full = await port.open('/dev/full', 'r+');
  expect((await failureOf(() => full.write('x'))).code).toBe('ENOSPC');
});

test('a descriptor is duplicated; on Windows those of Node.js are ERR_NOT_OVERLAPPED', async () => {
  const port = newPort();
  const descriptor = openSync(temporaryFile('by descriptor'), 'r+');
  const opening = port.open(descriptor);
  if (windows) {
    const error = await failureOf(() => opening);
    expect(error).toMatchObject({ code: 'ERR_NOT_OVERLAPPED' });
    expect(error.message).toContain('FILE_FLAG_OVERLAPPED');
    closeSync(descriptor);
    return;
  }
  const file = await opening;
  closeSync(descriptor);
  expect(String(await file.read({ length: 99 }))).toBe('by descriptor');
});

test('stat, allocate', async () => {
  const port = newPort();
  const name = temporaryFile('of some length');
  const file = await port.open(name);
  const [ours, theirs] = [await file.stat(), statSync(name)];
  for (const key of [
    'size',
    'blocks',
    'ino',
    'dev',
    'nlink',
    'mode',
    'uid',
    'gid',
    'blksize',
  ] as const) {
    expect(ours[key]).toBe(theirs[key]);
  }
  expect(Math.abs(ours.mtimeMs - theirs.mtimeMs)).toBeLessThan(1);
  expect([ours.isFile(), ours.isDirectory(), ours.mtime instanceof Date]).toEqual([
    true,
    false,
    true,
  ]);
  const [exact, exactly] = [await file.stat({ bigint: true }), statSync(name, { bigint: true })];
  for (const key of ['size', 'ino', 'dev', 'mode', 'blksize', 'mtimeMs', 'mtimeNs'] as const) {
    expect(exact[key]).toBe(exactly[key]);
  }
  expect([exact.isFile(), exact.isFIFO(), exact.mtime]).toEqual([true, false, exactly.mtime]);
  expect(() => file.stat({ bigint: 1 as never })).toThrow(TypeError);
  const grown = await port.open(name, 'r+');
  const refused = await grown.allocate(0, 100_000).then(() => undefined, codeOf);
  if (refused) expect(refused).toBe(windows ? 'ENOTSUP' : 'EOPNOTSUPP');
  else expect(statSync(name).size).toBe(100_000);
});
