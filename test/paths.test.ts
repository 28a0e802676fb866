/** Paths of Windows: what node:fs makes of each is what the library makes of it. */
import { promises as fs, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, test } from 'vitest';
import { writtenFifo } from './support/fifo';
import { codeOf, newPort, temporaryDirectory, temporaryFile, windows } from './support/harness';

/** What opening it comes to: the contents of a file, or an error's code. */
async function ours(name: string): Promise<string> {
  const port = newPort();
  try {
    const file = await port.open(name);
    return (await file.read({ length: 64 })).toString();
  } catch (error) {
    return `${codeOf(error)}`;
  }
}

async function theirs(name: string): Promise<string> {
  try {
    const file = await fs.open(name);
    const { buffer, bytesRead } = await file.read(Buffer.alloc(64));
    await file.close();
    return buffer.toString('utf8', 0, bytesRead);
  } catch (error) {
    return `${codeOf(error)}`;
  }
}

/** `\\server\share\folder\file` of `C:\folder\file`, by the share each machine has of its drives. */
const administrative = (file: string): string => `\\\\localhost\\${file[0]}$\\${file.slice(3)}`;

describe.runIf(windows)('paths of Windows', () => {
  const file = (): string => path.resolve(temporaryFile('contents'));

  test.each<[string, (file: string) => string]>([
    ['a drive', (file) => file],
    ['slashes', (file) => file.replaceAll('\\', '/')],
    ['a drive in the other case', (file) => file[0]!.toLowerCase() + file.slice(1)],
    ['another case', (file) => file.toUpperCase()],
    ['dots', (file) => path.join(file, '..') + '\\.\\x\\..\\' + path.basename(file)],
    ['relative', (file) => path.relative('.', file)],
    ['relative to the root of the drive', (file) => file.slice(2)],
    ['a long namespace', (file) => `\\\\?\\${file}`],
    ['a device namespace', (file) => `\\\\.\\${file}`],
    ['UNC', administrative],
    ['UNC in the long namespace', (file) => `\\\\?\\UNC${administrative(file).slice(1)}`],
    ['UNC of a server there is not', () => '\\\\no-such-server.invalid\\share\\file'],
    ['a drive there is not', () => '1:\\file'],
    ['a folder there is not', (file) => path.join(path.dirname(file), 'missing', 'file')],
    ['a file as a folder', (file) => path.join(file, 'file')],
    ['a name with a character that is not allowed', (file) => `${file}<`],
    ['a stream there is not', (file) => `${file}:stream`],
    ['an empty name', () => ''],
    ['a pipe there is not', () => '\\\\.\\pipe\\completion-port-test-missing'],
    ['the null device in its namespace', () => '\\\\.\\NUL'],
    ['a device there is not', () => '\\\\.\\no-such-device'],
    ['a reserved name in a folder', (file) => path.join(path.dirname(file), 'com7')],
    ['a reserved name with an extension', (file) => path.join(path.dirname(file), 'lpt3.txt')],
    ['a trailing dot', (file) => `${file}.`],
    ['a trailing space', (file) => `${file} `],
  ])('%s: as node:fs', async (_what, change) => {
    const name = change(file());
    expect(await ours(name)).toBe(await theirs(name));
  });

  test('a name of any script', async () => {
    const name = path.join(temporaryDirectory(), 'ä 日本 😀');
    writeFileSync(name, 'contents');
    expect(await ours(name)).toBe('contents');
    const port = newPort();
    const created = await port.open(`${name} 2`, 'w');
    await created.write('ours');
    expect(readFileSync(`${name} 2`, 'utf8')).toBe('ours');
  });

  test('more than 260 characters', async () => {
    const folder = path.join(temporaryDirectory(), 'a'.repeat(200), 'b'.repeat(200));
    mkdirSync(folder, { recursive: true });
    const name = path.join(folder, 'file');
    const port = newPort();
    const created = await port.open(name, 'w');
    await created.write('ours');
    expect(await theirs(name)).toBe('ours');
    expect(await ours(name)).toBe('ours');
  });

  test('a URL', async () => {
    const port = newPort();
    const opened = await port.open(pathToFileURL(file()));
    expect((await opened.read({ length: 64 })).toString()).toBe('contents');
  });

  test('a pipe', async () => {
    const { name, write } = await writtenFifo();
    write('contents');
    expect(await ours(name)).toBe('contents');
  });

  test('a reserved name can be that of a file, as with node:fs', async () => {
    const name = path.join(temporaryDirectory(), 'aux.txt');
    const port = newPort();
    const outcome = await port.open(name, 'w').then(() => 'made', codeOf);
    expect(outcome).toBe(
      await fs.open(name, 'a').then((file) => file.close().then(() => 'made'), codeOf),
    );
  });
});
