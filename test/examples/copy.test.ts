import {
  chmodSync,
  closeSync,
  existsSync,
  ftruncateSync,
  linkSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  statSync,
  symlinkSync,
  writeFileSync,
  writeSync,
} from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import {
  ended,
  newSeed,
  pattern,
  Random,
  skipOnWindows,
  skipUnderWine,
  temporaryDirectory,
  until,
} from '../support/harness';
import {
  describeDrivers,
  NO_SIGNALS,
  runExample,
  smallFileSystem,
  startExample,
} from '../support/examples';

const MiB = 2 ** 20;

describeDrivers('copy', (driver) => {
  const copy = (...args: string[]) => runExample('copy', ['--driver', driver, ...args]);
  const done = { code: 0, signal: null, stdout: '', stderr: '' };

  /** A directory with a file of these contents. */
  function sourceWith(contents: Uint8Array | string) {
    const directory = temporaryDirectory();
    const source = path.join(directory, 'source');
    writeFileSync(source, contents);
    return { directory, source, target: path.join(directory, 'target') };
  }

  const expectSame = (target: string, contents: Buffer) =>
    expect(readFileSync(target).equals(contents), target).toBe(true);

  test.each([1, 4096, MiB - 1, MiB, 5 * MiB + 7])('%i random bytes', async (size) => {
    const contents = new Random(newSeed(`copy, ${driver}`)).bytes(size);
    const { directory, source, target } = sourceWith(contents);
    expect(await copy(source, target)).toEqual(done);
    expectSame(target, contents);
    expect(readdirSync(directory).sort()).toEqual(['source', 'target']);
  });

  test.each(['1', '64'])('--depth %s', async (depth) => {
    const contents = pattern(9 * MiB + 1);
    const { source, target } = sourceWith(contents);
    expect(await copy('--depth', depth, source, target)).toEqual(done);
    expectSame(target, contents);
  });

  test('an empty file', async () => {
    const { source, target } = sourceWith('');
    expect(await copy(source, target)).toEqual(done);
    expect(statSync(target).size).toBe(0);
  });

  test('over a longer file, which is replaced', async () => {
    const { source, target } = sourceWith('short');
    writeFileSync(target, pattern(2 * MiB));
    expect(await copy(source, target)).toEqual(done);
    expect(readFileSync(target, 'utf8')).toBe('short');
  });

  test('a sparse file stays sparse, byte for byte', async () => {
    const { source, target } = sourceWith('');
    const file = openSync(source, 'r+');
    // Data at the beginning, across chunks, in single blocks, and a hole at the end.
    for (const [at, length] of [
      [0, 10],
      [3 * MiB - 5000, 10_000],
      [10 * MiB, 4096],
      [10 * MiB + 20_000, 1],
      [20 * MiB + 1, 2 * MiB],
    ] as const) {
      writeSync(file, pattern(length, 1), 0, length, at);
    }
    ftruncateSync(file, 48 * MiB + 123);
    closeSync(file);
    expect(await copy(source, target)).toEqual(done);
    expectSame(target, readFileSync(source));
    const [from, to] = [statSync(source), statSync(target)];
    expect(from.blocks * 512).toBeLessThan(8 * MiB); // otherwise the test is of no use here
    expect(to.blocks).toBeLessThanOrEqual(from.blocks + (256 * 1024) / 512);
  });

  test('nothing but a hole', async () => {
    const { source, target } = sourceWith('');
    const file = openSync(source, 'r+');
    ftruncateSync(file, 16 * MiB + 1);
    closeSync(file);
    expect(await copy(source, target)).toEqual(done);
    expect(statSync(target).size).toBe(16 * MiB + 1);
    expect(statSync(target).blocks * 512).toBeLessThanOrEqual(256 * 1024);
    expect(readFileSync(target).every((byte) => byte === 0)).toBe(true);
  });

  test.for(['the same path', 'a hard link', 'a symbolic link', 'its directory'])(
    'onto itself is refused: %s',
    async (how, context) => {
      if (how === 'a symbolic link') skipUnderWine(context, 'no symbolic links');
      const contents = pattern(100_000);
      const { directory, source, target } = sourceWith(contents);
      if (how === 'a hard link') linkSync(source, target);
      if (how === 'a symbolic link') symlinkSync('source', target);
      const before = readdirSync(directory);
      const to = { 'the same path': source, 'its directory': directory }[how] ?? target;
      const { code, stderr } = await copy(source, to);
      expect(code).toBe(1);
      expect(stderr).toMatch(/^copy: .*are the same file\n$/);
      expectSame(source, contents);
      expect(readdirSync(directory)).toEqual(before);
    },
  );

  test('a missing source, a directory and a missing directory: a message and code 1', async () => {
    const { directory, source, target } = sourceWith('text');
    const missing = await copy(path.join(directory, 'missing'), target);
    expect(missing.code).toBe(1);
    expect(missing.stderr).toMatch(/^copy: .*ENOENT.*\n$/);
    const notFile = await copy(directory, target);
    expect(notFile.code).toBe(1);
    expect(notFile.stderr).toMatch(/^copy: .*not a regular file\n$/);
    const nowhere = await copy(source, path.join(directory, 'nowhere', 'target'));
    expect(nowhere.code).toBe(1);
    expect(nowhere.stderr).toMatch(/^copy: .*ENOENT.*\n$/);
    expect(readdirSync(directory)).toEqual(['source']);
  });

  test.for([0o640, 0o755, 0o400])('the mode is kept: %o', async (mode, context) => {
    skipOnWindows(context, 'no permission bits');
    const { source, target } = sourceWith('text');
    chmodSync(source, mode);
    expect(await copy(source, target)).toEqual(done);
    expect(statSync(target).mode & 0o7777).toBe(mode);
  });

  test('into a directory, and through a symbolic link', async (context) => {
    skipUnderWine(context, 'no symbolic links');
    const { directory, source, target } = sourceWith('text');
    const other = temporaryDirectory();
    expect(await copy(source, other)).toEqual(done);
    expect(readFileSync(path.join(other, 'source'), 'utf8')).toBe('text');
    writeFileSync(path.join(other, 'real'), 'old');
    symlinkSync(path.join(other, 'real'), target);
    expect(await copy(source, target)).toEqual(done);
    expect(readlinkSync(target)).toBe(path.join(other, 'real'));
    expect(readFileSync(path.join(other, 'real'), 'utf8')).toBe('text');
    expect(readdirSync(directory).sort()).toEqual(['source', 'target']);
  });

  test('a full device: a message, code 1, and no half file', async (context) => {
    const { source } = sourceWith(pattern(5 * MiB));
    const device = smallFileSystem(context, 2 * MiB);
    const { code, stderr } = await copy(source, path.join(device, 'target'));
    expect(code).toBe(1);
    expect(stderr).toMatch(/^copy: .*ENOSPC.*\n$/);
    expect(readdirSync(device)).toEqual([]);
    writeFileSync(path.join(device, 'target'), 'old');
    expect((await copy(source, path.join(device, 'target'))).code).toBe(1);
    expect(readdirSync(device)).toEqual(['target']);
    expect(readFileSync(path.join(device, 'target'), 'utf8')).toBe('old');
  });

  test.for(['SIGINT', 'SIGTERM'] as const)(
    '%s ends it with code 130, and no half file',
    async (signal, context) => {
      skipOnWindows(context, NO_SIGNALS);
      const { directory, source, target } = sourceWith('');
      const file = openSync(source, 'r+');
      ftruncateSync(file, 2 ** 40); // nobody reads all of that meanwhile
      closeSync(file);
      const child = startExample('copy', ['--driver', driver, source, target]);
      const end = ended(child);
      await until(() => readdirSync(directory).some((name) => name.endsWith('.part')));
      child.kill(signal);
      expect(await end).toEqual({ code: 130, signal: null, stdout: '', stderr: '' });
      expect(existsSync(target)).toBe(false);
      expect(readdirSync(directory)).toEqual(['source']);
    },
  );
});
