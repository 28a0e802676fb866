import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, readSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import {
  ended,
  newSeed,
  pattern,
  Random,
  root,
  skipOnWindows,
  temporaryDirectory,
} from '../support/harness';
import { describeDrivers, program, startExample } from '../support/examples';

/** Its output as bytes: `ended` reads text. */
async function outputOf(child: ReturnType<typeof startExample>): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of child.stdout!) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function run(args: readonly string[], input: Uint8Array | number | null = null) {
  // Windows: pipes that can complete through a port.
  const stdin = typeof input === 'number' ? input : input === null ? 'ignore' : 'overlapped';
  const child = startExample('cat', args, { stdio: [stdin, 'overlapped', 'pipe'] });
  let stderr = '';
  child.stderr!.on('data', (text) => (stderr += text));
  const closed = new Promise((resolve) => child.once('close', resolve));
  if (typeof input === 'object' && input !== null) child.stdin!.end(input);
  const stdout = await outputOf(child);
  return { code: await closed, stdout, stderr };
}

function openFile(file: string, flags: string): number {
  const descriptor = openSync(file, flags);
  onTestFinished(() => closeSync(descriptor));
  return descriptor;
}

/** NUL is not among them: it does not complete through a port (ERR_NOT_OVERLAPPED). */
const NO_DEVICES = 'no devices to read from and write to';

describeDrivers('cat', (driver) => {
  const options = ['--driver', driver];

  /** Files of these sizes, and what they hold. */
  function files(...sizes: number[]) {
    const directory = temporaryDirectory();
    const random = new Random(newSeed(`cat, ${driver}`));
    const contents = sizes.map((size) => random.bytes(size));
    const paths = contents.map((_, i) => path.join(directory, `file ${i}`));
    for (const [i, file] of paths.entries()) writeFileSync(file, contents[i]!);
    return { directory, paths, all: Buffer.concat(contents) };
  }

  const same = (got: Buffer, expected: Buffer) =>
    expect(got.equals(expected), `${got.length} of ${expected.length} bytes`).toBe(true);

  test('prints files one after another', async () => {
    const { paths, all } = files(10, 0, 256 * 1024, 3_000_001, 4095, 1);
    const { code, stdout, stderr } = await run([...options, ...paths]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    same(stdout, all);
  });

  test('a missing file and a directory are reported, and the others printed', async () => {
    const { directory, paths, all } = files(100, 300_000);
    const missing = path.join(directory, 'missing');
    const args = [...options, paths[0]!, missing, directory, paths[1]!];
    const { code, stdout, stderr } = await run(args);
    expect(code).toBe(1);
    const lines = stderr.split('\n');
    expect(lines).toHaveLength(3);
    expect(lines[0]).toMatch(/^cat: .*ENOENT/);
    expect(lines[0]).toContain(missing);
    expect(lines[1]).toMatch(/^cat: .*EISDIR/);
    same(stdout, all);
  });

  test.each([[['-']], [[]]])('standard input, a pipe, with the arguments %j', async (args) => {
    const input = pattern(2_000_003);
    const { code, stdout, stderr } = await run([...options, ...args], input);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    same(stdout, input);
  });

  test('standard input between files', async () => {
    const { paths } = files(1000, 2000);
    const input = pattern(500);
    const { code, stdout } = await run([...options, paths[0]!, '-', paths[1]!], input);
    expect(code).toBe(0);
    same(stdout, Buffer.concat([readFileSync(paths[0]!), input, readFileSync(paths[1]!)]));
  });

  test('standard input that is a file is read from where it is, and is at its end then', async () => {
    const { paths, all } = files(700_000);
    const descriptor = openFile(paths[0]!, 'r');
    readSync(descriptor, Buffer.alloc(1000));
    const { code, stdout } = await run([...options, '-'], descriptor);
    expect(code).toBe(0);
    same(stdout, all.subarray(1000));
    expect(readSync(descriptor, Buffer.alloc(10))).toBe(0);
  });

  test('nothing to read', async (context) => {
    skipOnWindows(context, NO_DEVICES);
    const { code, stdout, stderr } = await run(options);
    expect({ code, stdout: stdout.length, stderr }).toEqual({ code: 0, stdout: 0, stderr: '' });
  });

  test('output to /dev/null', async (context) => {
    skipOnWindows(context, NO_DEVICES);
    const { paths } = files(1_000_000);
    const stdio = ['ignore', openFile('/dev/null', 'w'), 'pipe'] as const;
    const child = startExample('cat', [...options, ...paths], { stdio: [...stdio] });
    let stderr = '';
    child.stderr!.on('data', (text) => (stderr += text));
    const code = await new Promise((resolve) => child.once('close', resolve));
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
  });

  test('output to a file goes behind what is there; that file itself is refused', async () => {
    const { directory, paths, all } = files(600_000);
    const output = path.join(directory, 'output');
    const descriptor = openFile(output, 'w');
    writeFileSync(descriptor, 'before\n');
    const args = [...options, ...paths, output];
    const child = startExample('cat', args, { stdio: ['ignore', descriptor, 'pipe'] });
    let stderr = '';
    child.stderr!.on('data', (text) => (stderr += text));
    const code = await new Promise((resolve) => child.once('close', resolve));
    expect(code).toBe(1);
    expect(stderr).toMatch(/^cat: .*output is the output as well\n$/);
    writeFileSync(descriptor, 'after\n');
    same(
      readFileSync(output),
      Buffer.concat([Buffer.from('before\n'), all, Buffer.from('after\n')]),
    );
  });

  test('a full device: a message and code 1', async (context) => {
    skipOnWindows(context, NO_DEVICES);
    const { paths } = files(1_000_000);
    const stdio = ['ignore', openFile('/dev/full', 'w'), 'pipe'] as const;
    const child = startExample('cat', [...options, ...paths], { stdio: [...stdio] });
    let stderr = '';
    child.stderr!.on('data', (text) => (stderr += text));
    const code = await new Promise((resolve) => child.once('close', resolve));
    expect(code).toBe(1);
    expect(stderr).toMatch(/^cat: .*ENOSPC.*\n$/);
  });

  test('a reader that has seen enough ends it, quietly', async (context) => {
    skipOnWindows(context, 'no sh');
    const { paths, all } = files(4_000_000);
    const script = '{ "$@"; echo "code $?" >&2; } | head -c 1000';
    const command = [process.execPath, program('cat'), ...options, ...paths, ...paths];
    // In a group of its own, to end all of the pipeline.
    const child = spawn('sh', ['-c', script, 'sh', ...command], {
      cwd: root,
      detached: true,
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    const result = { code: null as number | null };
    onTestFinished(() => {
      if (result.code === null) process.kill(-child.pid!, 'SIGKILL');
    });
    const how = await ended(child);
    result.code = how.code;
    expect(how).toMatchObject({ code: 0, stderr: 'code 0\n' });
    expect(how.stdout).toBe(all.toString('utf8', 0, 1000));
  });
});
