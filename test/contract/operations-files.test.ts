import { constants, promises as fs, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { readFifo, writtenFifo } from '../support/fifo';
import {
  codeOf,
  Collector,
  errnoOf,
  failureOf,
  newPort,
  outputOf,
  pattern,
  Random,
  newSeed,
  take,
  temporaryDirectory,
  temporaryFile,
  turns,
  type CompletionPort,
  type FileHandle,
} from '../support/harness';

/** A FIFO whose writing end is held open, so that reading it waits. */
async function fifo(
  port: CompletionPort,
): Promise<{ file: FileHandle; write(text: string): void }> {
  const { name, write } = await writtenFifo();
  const file = await port.open(name, 'r');
  return { file, write };
}

describe('O1', () => {
  test('O1: submitting neither waits nor calls back before the current code has ended', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile('abc'), 'r+', { key: 1 });
    const memory = port.allocate(4096);
    let handled = 0;
    const collector = new Collector(port, () => handled++);
    for (let i = 0; i < 1000; i++) {
      file.read(memory.subarray(0, 3), 0);
      port.post(1, i);
      expect(handled).toBe(0);
    }
    await collector.count(2000);
  });

  test('O1: an awaited result is not there before the current code has ended', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile('abc'));
    let ended = false;
    const operation = file.read(port.allocate(16), 0);
    void operation.then(() => (ended = true));
    const others = Array.from({ length: 1000 }, () => file.stat());
    expect(ended).toBe(false);
    expect(operation.pending).toBe(true);
    await Promise.all([operation, ...others]);
  });

  test('O1: every operation ends with exactly one packet, whatever becomes of it', async () => {
    const port = newPort();
    const random = new Random(newSeed('O1'));
    const collector = new Collector(port);
    const file = await port.open(temporaryFile(pattern(100_000)), 'r+', { key: 1 });
    const memory = port.allocate(65536);
    const expected: Record<string, number> = {};
    let submitted = 0;
    const count = (type: string): void => {
      expected[type] = (expected[type] ?? 0) + 1;
      submitted++;
    };
    for (let round = 0; round < 200; round++) {
      for (let i = random.below(20); i >= 0; i--) {
        const length = 1 + random.below(60_000);
        switch (random.below(7)) {
          case 0:
            file.read(memory.subarray(0, length), random.below(120_000));
            count('read');
            break;
          case 1:
            file.write(memory.subarray(0, length), random.below(120_000));
            count('written');
            break;
          case 2:
            file.sync({ timeout: random.below(3) });
            count('synced');
            break;
          case 3:
            file.truncate(random.below(150_000));
            count('truncated');
            break;
          case 5:
            file.utimes(i, i, { timeout: random.below(3) });
            count('changed');
            break;
          case 4:
            file.link(() => {
              file.write('linked', 0);
              file.datasync();
            });
            count('written');
            count('synced');
            break;
          default:
            file.cancel();
        }
      }
      if (random.below(3) === 0) await turns(1);
    }
    file.close();
    count('closed');
    await collector.count(submitted);
    await turns();
    const got: Record<string, number> = {};
    for (const { type } of collector.packets) got[type] = (got[type] ?? 0) + 1;
    expect(got).toEqual(expected);
    expect(collector.packets.at(-1)!.type).toBe('closed');
    expect(collector.packets.every(({ more }) => !more)).toBe(true);
  });
});

describe('O2', () => {
  test('O2: pool memory released while it is read into is given to nobody else until the end', async () => {
    const port = newPort({ memoryLimit: 64 * 1024 });
    const { file, write } = await fifo(port);
    const target = port.allocate(4096);
    const reading = file.read(target);
    await turns();
    port.release(target);
    const others: Buffer[] = [];
    for (let i = 0; i < 8; i++) others.push(port.allocate(4096).fill(0xee));
    write('late');
    expect(await reading).toBe(4);
    for (const other of others) {
      expect(other.buffer === target.buffer && other.byteOffset === target.byteOffset).toBe(false);
      expect(other.every((byte) => byte === 0xee)).toBe(true);
    }
  });

  test('O2: memory of the program may be transferred while it is read into, which fails then', async () => {
    const port = newPort();
    const { file, write } = await fifo(port);
    const target = new Uint8Array(4096);
    const reading = file.read(target);
    await turns();
    const moved = structuredClone(target, { transfer: [target.buffer] });
    expect(target.byteLength).toBe(0);
    write('late');
    expect((await failureOf(() => reading)).code).toBe('ERR_INVALID_STATE');
    expect(moved.every((byte) => byte === 0)).toBe(true);
  });

  test('O2: pool memory is not detached by a transfer: it is refused, or copies', async () => {
    const port = newPort();
    const { file, write } = await fifo(port);
    const memory = port.allocate(4096);
    const reading = file.read(memory);
    await turns();
    try {
      structuredClone(memory, { transfer: [memory.buffer as ArrayBuffer] });
    } catch (error) {
      expect(error).toMatchObject({ name: 'DataCloneError' });
    }
    expect(memory.byteLength).toBe(4096);
    write('kept');
    expect(await reading).toBe(4);
    expect(memory.toString('utf8', 0, 4)).toBe('kept');
  });

  test('a file that is there is emptied as it is opened, and none is made', async () => {
    const port = newPort();
    const { O_APPEND, O_RDWR, O_TRUNC, O_WRONLY } = constants;
    for (const more of [O_WRONLY, O_RDWR, O_WRONLY | O_APPEND]) {
      const name = temporaryFile('what was there');
      const file = await port.open(name, more | O_TRUNC);
      await file.write(Buffer.from('new'), 0);
      await file.close();
      expect(readFileSync(name, 'utf8')).toBe('new');
    }
    const none = `${temporaryFile()}-none`;
    await expect(port.open(none, O_WRONLY | O_TRUNC)).rejects.toMatchObject({ code: 'ENOENT' });
  });

  test('O2: memory of the program may be transferred after write was called', async () => {
    const port = newPort();
    const name = temporaryFile();
    const file = await port.open(name, 'r+');
    const source = new Uint8Array(pattern(300_000));
    const expected = Buffer.from(source);
    const writing = file.write(source, 0);
    structuredClone(source, { transfer: [source.buffer] });
    expect(await writing).toBe(300_000);
    expect(readFileSync(name).equals(expected)).toBe(true);
  });

  test('O2: memory nobody refers to any more is read into all the same', async () => {
    const script = `
      import { writeFileSync, mkdtempSync, rmSync } from 'node:fs';
      import { tmpdir } from 'node:os';
      const directory = mkdtempSync(tmpdir() + '/completion-port-');
      const name = directory + '/file';
      writeFileSync(name, Buffer.alloc(1 << 20, 7));
      const port = new CompletionPort();
      const file = await port.open(name);
      let sum = 0;
      for (let round = 0; round < 50; round++) {
        const reads = [];
        for (let i = 0; i < 20; i++) reads.push(file.read(new Uint8Array(50_000), i * 50_000));
        globalThis.gc();
        for (const bytes of await Promise.all(reads)) sum += bytes;
      }
      console.log(sum, port.stats().allocatedBytes);
      await port.close();
      rmSync(directory, { recursive: true });`;
    const output = await outputOf(script, { nodeArguments: ['--expose-gc'] });
    expect(output).toBe(`${50 * 20 * 50_000} 0`);
  });

  test('O2: closing the handle ends a pending read before its memory is anyone else’s', async () => {
    const port = newPort();
    const { file, write } = await fifo(port);
    const target = port.allocate(4096).fill(0);
    const reading = failureOf(() => file.read(target));
    await turns();
    await file.close();
    expect((await reading).code).toBe('ECANCELED');
    write('nobody reads this');
    await turns();
    expect(target.every((byte) => byte === 0)).toBe(true);
  });
});

describe('O3', () => {
  test('O3: a missing file is told as node:fs tells it', async () => {
    const port = newPort();
    const name = path.join(temporaryDirectory(), 'missing');
    const ours = await failureOf(() => port.open(name));
    const theirs = await failureOf(() => fs.open(name));
    for (const key of ['code', 'errno', 'syscall', 'path', 'message'] as const) {
      expect(ours[key]).toBe(theirs[key]);
    }
  });

  test('O3: a failure arrives in the packet', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile('abc'), 'r', { key: 1 });
    file.write('x', 0);
    const [packet] = await take(port, 1);
    expect(packet).toMatchObject({
      type: 'written',
      error: { code: 'EBADF', errno: errnoOf('EBADF'), syscall: 'write' },
    });
  });

  test('O3: a wrong argument throws at once, also in packet style', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile('abc'), 'r', { key: 1 });
    expect(() => file.read(port.allocate(1), -1)).toThrow(RangeError);
    expect(() => file.read('abc' as never, 0)).toThrow(TypeError);
    expect(() => file.truncate(1.5)).toThrow(expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }));
    await turns();
    expect([...port.get(64, 0)]).toEqual([]);
  });
});

describe('O4, O5, O6', () => {
  test('O4: cancelled reads end once, with ECANCELED or with their bytes', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile(pattern(65536)));
    let cancelled = 0;
    for (let round = 0; round < 200; round++) {
      const target = port.allocate(65536).fill(0);
      const reading = file.read(target, 0);
      if (round % 3 > 0) await Promise.resolve();
      reading.cancel();
      try {
        expect(await reading).toBe(65536);
        expect(target.equals(pattern(65536))).toBe(true);
      } catch (error) {
        expect((error as NodeJS.ErrnoException).code).toBe('ECANCELED');
        cancelled++;
      }
      port.release(target);
    }
    expect(cancelled).toBeLessThanOrEqual(200);
  });

  test('O4: what is written to a FIFO after a cancelled read is read by the next', async () => {
    const port = newPort();
    const { file, write } = await fifo(port);
    for (let round = 0; round < 50; round++) {
      const reading = file.read({ length: 16 });
      if (round % 2) await turns(3);
      if (round % 3 === 0) write('abc');
      reading.cancel();
      const first = await reading.catch((error: unknown) => {
        expect(codeOf(error)).toBe('ECANCELED');
        return Buffer.alloc(0);
      });
      if (round % 3 !== 0) write('abc');
      const rest = first.length === 3 ? Buffer.alloc(0) : await file.read({ length: 16 });
      expect(Buffer.concat([first, rest]).toString()).toBe('abc');
    }
  });

  test('O5: closing a file delivers every packet, the closed packet last', async () => {
    const port = newPort();
    const collector = new Collector(port);
    const file = await port.open(temporaryFile(pattern(100_000)), 'r+', { key: 1 });
    const memory = port.allocate(65536);
    for (let i = 0; i < 50; i++) file.read(memory, 0);
    for (let i = 0; i < 50; i++) file.write(memory, 0);
    file.close();
    await collector.count(101);
    await turns();
    const types = collector.packets.map(({ type }) => type);
    expect(types).toHaveLength(101);
    expect(types.indexOf('closed')).toBe(100);
  });

  test('O5: a descriptor is not given back before the operations on it have ended', async () => {
    const port = newPort();
    const other = temporaryFile(pattern(4096, 4096));
    for (let round = 0; round < 100; round++) {
      const { file } = await fifo(port);
      const reading = failureOf(() => file.read({ length: 64 }));
      if (round % 2) await turns(2);
      const closing = file.close();
      const [error, , fresh] = await Promise.all([reading, closing, port.open(other)]);
      expect(error.code).toBe('ECANCELED');
      expect((await fresh.read({ length: 4096, position: 0 })).equals(pattern(4096, 4096))).toBe(
        true,
      );
      await fresh.close();
    }
  });

  test('O6: a read of a FIFO ends with ETIMEDOUT, and the next one has the bytes', async () => {
    const port = newPort();
    const { file, write } = await fifo(port);
    const error = await failureOf(() => file.read(port.allocate(16), undefined, { timeout: 5 }));
    expect(error).toMatchObject({ code: 'ETIMEDOUT', syscall: 'read' });
    write('later');
    expect((await file.read({ length: 16 })).toString()).toBe('later');
  });

  test('O6: a timeout that is not reached changes nothing', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile('abc'));
    const read = await file.read({ length: 16, position: 0, timeout: 2 ** 32 - 1 });
    expect(read.toString()).toBe('abc');
  });
});

describe('O7, O8', () => {
  test('O7: writes to a FIFO go out in the order submitted', async () => {
    const port = newPort();
    const { name, everything } = await readFifo();
    const file = await port.open(name, 'w');
    const all = pattern(2_000_000);
    const writes: PromiseLike<number>[] = [];
    for (let at = 0; at < all.length; at += 50_000)
      writes.push(file.write(all.subarray(at, at + 50_000)));
    for (const written of await Promise.all(writes)) expect(written).toBe(50_000);
    await file.close();
    expect((await everything).equals(all)).toBe(true);
  });

  test('O8: reading at and behind the end of a file is a result of 0', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile('abc'));
    expect(await file.read(new Uint8Array(10), 0)).toBe(3);
    expect(await file.read(new Uint8Array(10), 3)).toBe(0);
    expect(await file.read(new Uint8Array(10), 3000)).toBe(0);
    const keyed = await port.open(temporaryFile('abc'), 'r', { key: 1 });
    keyed.read(port.allocate(10), 3);
    const [packet] = await take(port, 1);
    expect(packet).toMatchObject({ type: 'read', bytes: 0, error: undefined });
  });

  test('O8: the last writer of a FIFO closing it is a read of 0', async () => {
    const port = newPort();
    const { name, write, end } = await writtenFifo();
    const file = await port.open(name);
    write('end');
    end();
    expect((await file.read({ length: 10 })).toString()).toBe('end');
    expect(await file.read({ length: 10 })).toHaveLength(0);
  });
});

describe('O9', () => {
  test('O9: linked operations run in order', async () => {
    const port = newPort();
    const name = temporaryFile();
    const file = await port.open(name, 'r+');
    for (let round = 0; round < 50; round++) {
      const target = port.allocate(4096);
      const text = `round ${round} `.repeat(100);
      const answers = file.link(() => [
        file.truncate(0),
        file.write(text, 0),
        file.sync(),
        file.read(target, 0),
        file.truncate(0),
        file.write('x', 0),
      ]);
      const [, written, , read] = await Promise.all(answers);
      expect(written).toBe(text.length);
      expect(target.toString('utf8', 0, read as number)).toBe(text);
      expect(readFileSync(name, 'utf8')).toBe('x');
      port.release(target);
    }
  });

  test('O9: a failure cancels the rest of the chain, and nothing else', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile('abc'), 'r');
    const answers = file.link(() => [
      file.read(new Uint8Array(3), 0),
      file.write('x', 0),
      file.sync(),
      file.sync(),
    ]);
    const outside = file.read(new Uint8Array(3), 0);
    const results = await Promise.allSettled(answers);
    const codes = results.map((result) =>
      result.status === 'fulfilled' ? 'ok' : (result.reason as NodeJS.ErrnoException).code,
    );
    expect(codes).toEqual(['ok', 'EBADF', 'ECANCELED', 'ECANCELED']);
    expect(await outside).toBe(3);
  });

  test('O9: packets of a chain come in its order', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile('abc'), 'r+', { key: 1 });
    file.link(() => {
      file.write('0123456789', 0);
      file.datasync();
      file.truncate(4);
      file.read(port.allocate(64), 0);
    });
    const packets = await take(port, 4);
    expect(packets.map(({ type, bytes }) => [type, bytes])).toEqual([
      ['written', 10],
      ['synced', 0],
      ['truncated', 0],
      ['read', 4],
    ]);
  });

  test('O9: write with sync is one operation, which fails as its write does', async () => {
    const port = newPort();
    const name = temporaryFile();
    const file = await port.open(name, 'r+');
    expect(await file.write('abc', 0, { sync: true })).toBe(3);
    expect(readFileSync(name, 'utf8')).toBe('abc');
    writeFileSync(name, 'abc');
    const readOnly = await port.open(name, 'r');
    expect((await failureOf(() => readOnly.write('x', 0, { sync: true }))).code).toBe('EBADF');
  });

  test('O9: cancelling the first of a chain cancels all of it', async () => {
    const port = newPort();
    const { file } = await fifo(port);
    const answers = file.link(() => [file.read({ length: 8 }), file.read({ length: 8 })]);
    const settled = Promise.allSettled(answers);
    await turns();
    answers[0]!.cancel();
    const codes = (await settled).map((result) => (result as PromiseRejectedResult).reason.code);
    expect(codes).toEqual(['ECANCELED', 'ECANCELED']);
  });
});
