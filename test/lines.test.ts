/**
 * `file.readLines()`: the lines that FileHandle's readLines gives, with a bound on their length.
 */
import { promises } from 'node:fs';
import { describe, expect, test } from 'vitest';
import { writtenFifo } from './support/fifo';
import {
  codeOf,
  drivers,
  failureOf,
  newPort,
  newSeed,
  Random,
  temporaryFile,
  turns,
  type FileHandle,
  type ReadLinesOptions,
} from './support/harness';

/** Bytes of one read. */
const CHUNK = 65_536;

async function linesOf(file: FileHandle, options?: ReadLinesOptions): Promise<string[]> {
  const lines: string[] = [];
  for await (const line of file.readLines(options)) lines.push(line);
  return lines;
}

async function theirs(name: string, encoding: BufferEncoding = 'utf8'): Promise<string[]> {
  const lines: string[] = [];
  const file = await promises.open(name);
  for await (const line of file.readLines({ encoding })) lines.push(line);
  return lines;
}

/** Text of all that ends lines, and of characters of one to four bytes. */
function randomText(random: Random, length: number): string {
  const pieces = [
    '\n',
    '\r\n',
    '\r',
    '\u2028',
    '\u2029',
    '\n\n',
    'ä',
    '€',
    '🙂',
    'x'.repeat(200),
    ' ',
  ];
  let text = '';
  while (text.length < length) text += pieces[random.below(pieces.length)]!;
  return text;
}

describe.each(drivers)('%s', (driver) => {
  test('the lines of node:fs, whatever ends them', async () => {
    const port = newPort({ driver });
    const texts = ['', '\n', 'a', 'a\n', 'a\r', '\r\n\r\n', 'a\rb\n\rd\r\ne', '\ufeffx\ny'];
    for (const text of texts) {
      const name = temporaryFile(text);
      const file = await port.open(name);
      expect(await linesOf(file)).toEqual(await theirs(name));
      expect(file.closed).toBe(false);
      await file.close();
    }
    expect(port.stats().allocatedBytes).toBe(0);
  });

  test('the same where an end of a line, or a character, lies across two reads', async () => {
    const port = newPort({ driver });
    for (const end of ['\n', '\r\n', '\r', 'ä\n', '🙂\r\n']) {
      for (let before = CHUNK - 6; before <= CHUNK + 1; before++) {
        const name = temporaryFile(`${'x'.repeat(before)}${end}${end}rest`);
        const file = await port.open(name);
        expect(await linesOf(file)).toEqual(await theirs(name));
        await file.close();
      }
    }
  });

  test('random text, in the encodings of Node.js', async () => {
    const port = newPort({ driver });
    const random = new Random(newSeed('lines'));
    for (const encoding of ['utf8', 'utf16le', 'latin1'] as const) {
      // Node.js 24 takes these for ends of lines, and older ones don't.
      const text = randomText(random, 300_000).replace(/[\u2028\u2029]/g, ' ');
      const name = temporaryFile(Buffer.from(text, encoding));
      const file = await port.open(name);
      expect(await linesOf(file, { encoding })).toEqual(await theirs(name, encoding));
      await file.close();
    }
    expect(port.stats().allocatedBytes).toBe(0);
  });

  test('what may stand within a line of JSON ends none, whatever Node.js does', async () => {
    const port = newPort({ driver });
    const file = await port.open(temporaryFile('"\u2028"\n"\u2029"\r"\u0085"\n'));
    expect(await linesOf(file)).toEqual(['"\u2028"', '"\u2029"', '"\u0085"']);
  });

  test('a line beyond maxLength is an error; the lines before it are given, and nothing is kept', async () => {
    const port = newPort({ driver });
    const file = await port.open(temporaryFile(`short\n${'x'.repeat(5 * CHUNK)}\nlast\n`));
    const lines: string[] = [];
    const reading = async (): Promise<void> => {
      for await (const line of file.readLines({ maxLength: CHUNK })) lines.push(line);
    };
    expect(codeOf(await failureOf(reading))).toBe('ERR_LINE_TOO_LONG');
    expect(lines).toEqual(['short']);
    expect(port.stats().allocatedBytes).toBe(0);
    expect((await linesOf(file, { maxLength: 5 * CHUNK })).map((line) => line.length)).toEqual([
      5,
      5 * CHUNK,
      4,
    ]);
    const code = codeOf(await failureOf(() => linesOf(file, { maxLength: 5 * CHUNK - 1 })));
    expect(code).toBe('ERR_LINE_TOO_LONG');
    // The last line has no end; and one that is long for a text of several lines in one read.
    const open = await port.open(temporaryFile('a\nfour\nfive5'));
    expect(await linesOf(open, { maxLength: 5 })).toEqual(['a', 'four', 'five5']);
    expect(codeOf(await failureOf(() => linesOf(open, { maxLength: 4 })))).toBe(
      'ERR_LINE_TOO_LONG',
    );
  });

  test('begins where reads without a position ended, or at one, and leaves that', async () => {
    const port = newPort({ driver });
    const file = await port.open(temporaryFile('0123\n4567\n89'));
    await file.read({ length: 2 });
    expect(await linesOf(file)).toEqual(['23', '4567', '89']);
    expect(await linesOf(file, { position: 0, length: 7 })).toEqual(['0123', '45']);
    expect(await linesOf(file, { position: 9n })).toEqual(['', '89']);
    expect(String(await file.read({ length: 2 }))).toBe('23');
  });

  test('leaving it early gives everything back; the file stays open', async () => {
    const port = newPort({ driver });
    const file = await port.open(temporaryFile('line\n'.repeat(200_000)));
    let count = 0;
    for await (const line of file.readLines()) {
      expect(line).toBe('line');
      if (++count === 3) break;
    }
    expect(port.stats().allocatedBytes).toBe(0);
    {
      await using loop = file.readLines();
      expect(await loop.next()).toEqual({ done: false, value: 'line' });
    }
    expect(port.stats().allocatedBytes).toBe(0);
    expect(file.closed).toBe(false);
  });

  test('a signal ends it at once, also between lines that are there', async () => {
    const port = newPort({ driver });
    const file = await port.open(temporaryFile('line\n'.repeat(1000)));
    const controller = new AbortController();
    let count = 0;
    const error = await failureOf(async () => {
      for await (const _ of file.readLines({ signal: controller.signal })) {
        if (++count === 2) controller.abort();
      }
    });
    expect([error.name, count]).toEqual(['AbortError', 2]);
    expect(port.stats().allocatedBytes).toBe(0);
  });

  test('the program itself closes the file: the loop ends, and half a line is none', async () => {
    const port = newPort({ driver });
    const file = await port.open(temporaryFile('whole\n'.repeat(20_000) + 'x'.repeat(10 * CHUNK)));
    const lines = new Set<string>();
    for await (const line of file.readLines()) {
      lines.add(line);
      if (lines.size === 1 && !file.closed) await file.close();
    }
    expect([...lines]).toEqual(['whole']);
  });

  test('of a FIFO, as they come; a \\n that follows later belongs to its \\r', async () => {
    const port = newPort({ driver });
    const { name, write, end } = await writtenFifo();
    const loop = (await port.open(name)).readLines();
    write('first\r');
    expect(await loop.next()).toEqual({ done: false, value: 'first' });
    const second = loop.next();
    await expect(loop.next()).rejects.toMatchObject({ code: 'ERR_INVALID_STATE' });
    write('\nsec');
    await turns(2);
    write('ond\nlast');
    expect(await second).toEqual({ done: false, value: 'second' });
    end();
    expect(await loop.next()).toEqual({ done: false, value: 'last' });
    expect(await loop.next()).toEqual({ done: true, value: undefined });
    expect(await loop.next()).toEqual({ done: true, value: undefined });
  });

  test('it is over with a failure, although a line was begun', async () => {
    const port = newPort({ driver });
    const { name, write } = await writtenFifo();
    const loop = (await port.open(name)).readLines({ timeout: 50 });
    write('begun');
    expect(await failureOf(() => loop.next())).toMatchObject({ code: 'ETIMEDOUT', timeout: true });
    expect(await loop.next()).toEqual({ done: true, value: undefined });
  });

  test('leaving it while it waits ends it', async () => {
    const port = newPort({ driver });
    const { name, write } = await writtenFifo();
    const loop = (await port.open(name)).readLines();
    write('begun');
    const waiting = loop.next();
    await turns(2);
    expect(await loop.return()).toEqual({ done: true, value: undefined });
    expect(await waiting).toEqual({ done: true, value: undefined });
    expect(port.stats().allocatedBytes).toBe(0);
  });

  test('a micro-thread goes over it', async () => {
    const { each, spawn } = await import('../dist/micro.js');
    const port = newPort({ driver });
    const file = await port.open(temporaryFile('a\nb\nc'));
    const lines: string[] = [];
    await spawn(function* () {
      for (const line of yield* each(file.readLines())) {
        lines.push(line);
        yield* each.next();
      }
    });
    expect(lines).toEqual(['a', 'b', 'c']);
  });

  test('what the read fails with; wrong arguments throw', async () => {
    const port = newPort({ driver });
    const file = await port.open(temporaryFile('x'), 'w');
    const code = codeOf(await failureOf(() => file.read({ length: 1 })));
    expect(codeOf(await failureOf(() => linesOf(file)))).toBe(code);
    expect(() => file.readLines({ encoding: 'utf9' as BufferEncoding })).toThrow(/not an encoding/);
    expect(() => file.readLines({ maxLenght: 5 } as never)).toThrow(
      /'options.maxLenght' is unknown/,
    );
    expect(() => file.readLines({ lend: true } as never)).toThrow(/'options.lend' is unknown/);
    expect(() => file.readLines({ maxLength: 0 })).toThrow(RangeError);
    expect(() => file.readLines({ maxLength: Infinity })).not.toThrow();
    expect(() => file.readLines({ position: -1 })).toThrow(RangeError);
    expect(() => file.readLines('utf8' as never)).toThrow(TypeError);
    const keyed = await port.open(temporaryFile('x'), 'r', { key: 1 });
    const bare = keyed as unknown as { readLines(): unknown };
    expect(() => bare.readLines()).toThrow(expect.objectContaining({ code: 'ERR_INVALID_STATE' }));
  });
});
