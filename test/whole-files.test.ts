/**
 * `readFile`, `writeFile` and `appendFile` of a file that is open, as those of node:fs do.
 */
import { promises, readFileSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { writtenFifo } from './support/fifo';
import {
  codeOf,
  failureOf,
  newPort,
  pattern,
  temporaryFile,
  turns,
  windows,
} from './support/harness';

describe('readFile', () => {
  test.each([0, 1, 4095, 4096, 4097, 524_288, 524_289, 3_000_000])(
    '%d bytes, like node:fs',
    async (length) => {
      const port = newPort();
      const name = temporaryFile(pattern(length));
      const file = await port.open(name);
      const theirs = await promises.readFile(name);
      expect((await file.readFile()).equals(theirs)).toBe(true);
      // What is at the end stays there, until the file grows.
      expect(await file.readFile()).toHaveLength(0);
      expect(file.closed).toBe(false);
      expect(port.stats().allocatedBytes).toBe(0);
    },
  );

  test('goes on where the last read ended', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile('header and the rest'));
    await file.read({ length: 7 });
    expect(await file.readFile('utf8')).toBe('and the rest');
  });

  test('gives strings in the encoding asked for', async () => {
    const port = newPort();
    const name = temporaryFile('grüße');
    for (const encoding of ['utf8', 'latin1', 'hex', 'base64'] as const) {
      const file = await port.open(name);
      expect(await file.readFile(encoding)).toBe(readFileSync(name, encoding));
      await file.close();
    }
    const file = await port.open(name);
    expect(await file.readFile({ encoding: 'utf8' })).toBe('grüße');
  });

  test('reads what has no size: a FIFO, and files of /proc', async () => {
    const port = newPort();
    const { name, write, end } = await writtenFifo();
    const fifo = await port.open(name);
    const reading = fifo.readFile('utf8');
    write('one ');
    await turns(2);
    write('two');
    end();
    expect(await reading).toBe('one two');
    if (windows) return;
    const proc = await port.open('/proc/self/cmdline');
    expect(await proc.readFile('latin1')).toBe(readFileSync('/proc/self/cmdline', 'latin1'));
  });

  test('is ended by a signal, by a timeout, by cancel() and by close()', async () => {
    const port = newPort();
    const { name } = await writtenFifo();
    const file = await port.open(name);
    const controller = new AbortController();
    const aborted = failureOf(() => file.readFile({ signal: controller.signal }));
    await turns(2);
    controller.abort();
    expect((await aborted).name).toBe('AbortError');
    const late = await failureOf(() => file.readFile({ timeout: 5 }));
    expect(late).toMatchObject({ code: 'ETIMEDOUT', timeout: true });
    const reading = file.readFile();
    await turns(2);
    reading.cancel();
    expect(codeOf(await failureOf(() => reading))).toBe('ECANCELED');
    const closing = failureOf(() => file.readFile());
    await turns(2);
    await file.close();
    expect(codeOf(await closing)).toBe('ECANCELED');
    expect(codeOf(await failureOf(() => file.readFile()))).toBe('ERR_HANDLE_CLOSED');
    expect(port.stats().allocatedBytes).toBe(0);
  });

  test('is cancelled by a close at whichever step it is', async () => {
    const port = newPort();
    const { name } = await writtenFifo();
    for (let count = 0; count < 6; count++) {
      const file = await port.open(name);
      const reading = failureOf(() => file.readFile());
      await turns(count);
      await file.close();
      expect(codeOf(await reading)).toBe('ECANCELED');
    }
    async function* parts() {
      yield 'one';
      await file.close();
      yield 'two';
    }
    const file = await port.open(temporaryFile(''), 'w');
    expect(codeOf(await failureOf(() => file.writeFile(parts())))).toBe('ECANCELED');
    expect(codeOf(await failureOf(() => file.writeFile(['x'])))).toBe('ERR_HANDLE_CLOSED');
  });

  test('of a directory fails as its read does; wrong arguments throw', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile('x'));
    expect(() => file.readFile('utf9' as BufferEncoding)).toThrow(TypeError);
    expect(() => file.readFile({ encodin: 'utf8' } as never)).toThrow(
      /'options.encodin' is unknown/,
    );
    expect(() => file.readFile({ timeout: -1 })).toThrow(RangeError);
    if (windows) return;
    const directory = await port.open('/');
    expect(codeOf(await failureOf(() => directory.readFile()))).toBe('EISDIR');
  });
});

describe('writeFile', () => {
  test('strings, views, and what iterables give, one after the other', async () => {
    const port = newPort();
    const name = temporaryFile('');
    const file = await port.open(name, 'w');
    await file.writeFile('grüße ');
    await file.writeFile(Buffer.from('and '), { flush: true });
    await file.writeFile(['a ', Buffer.from('list ')]);
    await file.writeFile(
      (async function* () {
        await turns(1);
        yield 'an ';
        yield new Uint8Array([0x69, 0x74]);
      })(),
    );
    await file.writeFile('21', 'hex');
    expect(readFileSync(name, 'utf8')).toBe('grüße and a list an it!');
    expect(port.stats().allocatedBytes).toBe(0);
  });

  test('a part that is no data fails, and what came before is written', async () => {
    const port = newPort();
    const name = temporaryFile('');
    const file = await port.open(name, 'w');
    let left = false;
    const parts = function* (): Generator<string> {
      try {
        yield 'good';
        yield 5 as never;
        yield 'never';
      } finally {
        left = true;
      }
    };
    const error = await failureOf(() => file.writeFile(parts()));
    expect([codeOf(error), left]).toEqual(['ERR_INVALID_ARG_TYPE', true]);
    expect(readFileSync(name, 'utf8')).toBe('good');
    expect(() => file.writeFile(5 as never)).toThrow(TypeError);
    expect(() => file.writeFile('x', { flush: 1 as never })).toThrow(TypeError);
  });

  test('a signal ends it between two parts', async () => {
    const port = newPort();
    const name = temporaryFile('');
    const file = await port.open(name, 'w');
    const controller = new AbortController();
    const parts = async function* (): AsyncGenerator<string> {
      yield 'first';
      controller.abort();
      await turns(1);
      yield 'second';
    };
    const error = await failureOf(() => file.writeFile(parts(), { signal: controller.signal }));
    expect(error.name).toBe('AbortError');
    await turns(2);
    expect(readFileSync(name, 'utf8')).toBe('first');
  });

  test('appendFile adds to a file opened for appending, whatever its position', async () => {
    const port = newPort();
    const name = temporaryFile('begun');
    const [file, other] = [await port.open(name, 'a'), await port.open(name, 'a')];
    await file.appendFile(', ours');
    await other.appendFile(', theirs');
    await file.appendFile(', ours again');
    expect(readFileSync(name, 'utf8')).toBe('begun, ours, theirs, ours again');
  });

  test('is for files without a key', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile('x'), 'r+', { key: 1 });
    const bare = file as unknown as { readFile(): unknown; writeFile(data: string): unknown };
    const state = expect.objectContaining({ code: 'ERR_INVALID_STATE' }) as Error;
    expect(() => bare.readFile()).toThrow(state);
    expect(() => bare.writeFile('y')).toThrow(state);
  });
});
