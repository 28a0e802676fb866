/**
 * Standard input and output, terminals and FIFOs, by descriptor: what others share stays as it is.
 * O_NONBLOCK belongs to the open file, which a shell, a parent and a child have together.
 */
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, constants, openSync, readFileSync, writeSync } from 'node:fs';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { describe, expect, onTestFinished, test } from 'vitest';
import { drivers, library, newPort, temporaryDirectory, until, windows } from './support/harness';

/** F_GETFL of a descriptor of this process. */
function flagsOf(descriptor: number): number {
  const text = readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8');
  return parseInt(/^flags:\s+(\d+)$/m.exec(text)![1]!, 8) & ~0o2000000; // without O_CLOEXEC
}

function newFifo(): string {
  const name = path.join(temporaryDirectory(), 'fifo');
  execFileSync('mkfifo', [name]);
  return name;
}

/** A program that copies its standard input to its standard output, and tells their flags. */
const copies = `
  import { readFileSync } from 'node:fs';
  const flags = () => [0, 1].map((fd) => /flags:\\s+(\\d+)/.exec(readFileSync('/proc/self/fdinfo/' + fd, 'utf8'))[1]);
  const before = flags();
  const { CompletionPort } = await import(${JSON.stringify(library)});
  const port = new CompletionPort();
  const input = await port.open(0);
  const output = await port.open(1, 'w');
  let during = before;
  for await (const bytes of input.chunks()) {
    await output.write(bytes);
    during = flags();
    if (String(bytes).includes('quit')) break;
  }
  await port.close();
  const same = [during, flags()].every((each) => each.join() === before.join());
  process.stderr.write(same ? 'flags are the same' : JSON.stringify([before, during, flags()]));
`;

describe.runIf(!windows).each(drivers)('%s', (driver) => {
  test.each([0, constants.O_NONBLOCK])('a FIFO keeps its flags (%i)', async (nonBlocking) => {
    const port = newPort({ driver });
    const descriptor = openSync(newFifo(), constants.O_RDWR | nonBlocking);
    onTestFinished(() => closeSync(descriptor));
    const before = flagsOf(descriptor);
    expect(before & constants.O_NONBLOCK).toBe(nonBlocking);
    const file = await port.open(descriptor);
    const waiting = file.read(Buffer.alloc(100));
    await new Promise((resolve) => setTimeout(resolve, 20));
    expect(flagsOf(descriptor)).toBe(before);
    writeSync(descriptor, 'hello');
    expect(await waiting).toBe(5);
    const output = await port.open(descriptor, 'w');
    expect(await output.write('back')).toBe(4);
    expect(flagsOf(descriptor)).toBe(before);
    const cancelled = file.read(Buffer.alloc(4));
    expect(await cancelled).toBe(4);
    const none = file.read(Buffer.alloc(4));
    none.cancel();
    // A thread that reads a blocking descriptor ends with what comes: it is asked to end, and told so.
    writeSync(descriptor, 'more');
    await none.catch(() => undefined);
    expect(flagsOf(descriptor)).toBe(before);
    await port.close();
    expect(flagsOf(descriptor)).toBe(before);
  });

  test('standard streams that are pipes are copied, and keep their flags', async () => {
    const env = { ...process.env, COMPLETION_PORT_DRIVER: driver };
    const child = spawn(process.execPath, ['--input-type=module', '-e', copies], { env });
    const [output, said] = [buffer(child.stdout), buffer(child.stderr)];
    const sent = Buffer.alloc(300_000, 'some text ');
    child.stdin.end(sent);
    expect((await output).equals(sent)).toBe(true);
    expect(String(await said)).toBe('flags are the same');
  });

  test('a terminal is read line by line, and keeps its flags', async (context) => {
    if (spawnSync('script', ['--version']).error !== undefined)
      context.skip('there is no script(1)');
    const program = path.join(temporaryDirectory(), 'copies.mjs');
    const { writeFileSync } = await import('node:fs');
    writeFileSync(program, copies);
    const command = `${process.execPath} ${program}`;
    const env = { ...process.env, COMPLETION_PORT_DRIVER: driver };
    const child = spawn('script', ['-qec', command, '/dev/null'], { env });
    onTestFinished(() => void child.kill());
    let shown = '';
    child.stdout.on('data', (text: Buffer) => (shown += String(text)));
    child.stdin.write('first\n');
    // As it was typed, and as it was copied.
    await until(() => shown.split('first').length > 2);
    child.stdin.write('quit\n');
    await once(child, 'close');
    expect(shown).toContain('flags are the same');
  });
});
