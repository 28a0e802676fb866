/**
 * What the tests of the example programs share: running them, and clients to talk to them.
 */
import {
  spawn,
  spawnSync,
  type ChildProcess,
  type SpawnOptions,
  type StdioOptions,
} from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import type net from 'node:net';
import path from 'node:path';
import { Readable } from 'node:stream';
import { describe, onTestFinished, type TestContext } from 'vitest';
import {
  drivers,
  ended,
  root,
  sleep,
  temporaryDirectory,
  until,
  windows,
  wine,
  type Ended,
} from './harness';

export type Driver = (typeof drivers)[number];

/** Why a test is left out there. */
export const NO_SIGNALS = 'no signals';

/** How a server ends at SIGTERM. On Windows kill() ends the process then and there. */
export const stopped = windows
  ? { code: null, signal: 'SIGTERM', stderr: '' }
  : { code: 0, signal: null, stderr: '' };

const { COMPLETION_PORT_DRIVER: _, ...environment } = process.env;

function defaultDriver(): string {
  const script = 'console.log(require("./dist/binding.js").binding.defaultDriver().name)';
  const how = { cwd: root, env: environment, encoding: 'utf8' } as const;
  return spawnSync(process.execPath, ['-e', script], how).stdout.trim();
}

const withoutRing =
  !windows &&
  process.env['COMPLETION_PORT_TEST_DRIVERS'] === undefined &&
  defaultDriver() === 'epoll';

/** One suite for each driver; skipped where this machine doesn't grant it. */
export function describeDrivers(title: string, body: (driver: Driver) => void): void {
  for (const driver of drivers) {
    const skipped = withoutRing && driver === 'io_uring';
    describe.skipIf(skipped)(`${title} (${driver})`, () => body(driver));
  }
}

export function program(name: string): string {
  return path.join(root, 'examples', `${name}.mjs`);
}

export interface StartOptions {
  readonly stdio?: StdioOptions;
  readonly env?: NodeJS.ProcessEnv;
}

/** Starts an example, which is killed after the test. */
export function startExample(
  name: string,
  args: readonly string[],
  { stdio = ['ignore', 'pipe', 'pipe'], env }: StartOptions = {},
): ChildProcess {
  const all = [program(name), ...args];
  const how = { cwd: root, env: { ...environment, ...env } };
  const child = wine
    ? spawnWithFiles(all, how, stdio)
    : spawn(process.execPath, all, { ...how, stdio });
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}

/** Of Wine's pipes Node.js can't make its standard output: it writes to files, which are read. */
function spawnWithFiles(args: string[], how: SpawnOptions, stdio: StdioOptions): ChildProcess {
  const directory = temporaryDirectory();
  const wanted = Array.isArray(stdio) ? stdio : [stdio, stdio, stdio];
  const files = wanted.map((one, i) =>
    i > 0 && one === 'pipe' ? path.join(directory, `${i}`) : undefined,
  );
  const given = files.map((file, i) => (file === undefined ? wanted[i] : openSync(file, 'w')));
  const child = spawn(process.execPath, args, { ...how, stdio: given as StdioOptions });
  for (const [i, file] of files.entries()) if (file !== undefined) closeSync(given[i] as number);
  const streams = files.map((file) =>
    file === undefined ? null : Readable.from(growing(file, child), { objectMode: false }),
  );
  return Object.assign(child, { stdout: streams[1], stderr: streams[2] });
}

/** What a process writes to a file, until it ends. */
async function* growing(name: string, writer: ChildProcess): AsyncGenerator<Buffer> {
  const file = await open(name);
  try {
    for (;;) {
      const over = writer.exitCode !== null || writer.signalCode !== null;
      const { buffer, bytesRead } = await file.read();
      if (bytesRead > 0) yield buffer.subarray(0, bytesRead);
      else if (over) return;
      else await sleep(10);
    }
  } finally {
    await file.close();
  }
}

/** Runs an example to its end. */
export function runExample(name: string, args: readonly string[]): Promise<Ended> {
  return ended(startExample(name, args));
}

export interface ServerExample {
  readonly child: ChildProcess;
  /** The line it said when it was ready. */
  readonly ready: string;
  readonly port: number;
  readonly ended: Promise<Ended>;
  stop(signal?: NodeJS.Signals): Promise<Ended>;
}

/** The driver of a server, as arguments: those on node:net have none. */
export function driverArguments(driver: Driver | 'net'): string[] {
  return driver === 'net' ? [] : ['--driver', driver];
}

/** Starts a server on a port of its own, and waits for its ready line. */
export async function startServer(
  name: string,
  driver: Driver | 'net',
  threads: number,
  args: readonly string[] = [],
): Promise<ServerExample> {
  const options = ['--port', '0', ...driverArguments(driver), '--threads', String(threads)];
  const child = startExample(name, [...options, ...args]);
  let said = '';
  child.stdout!.on('data', (text) => (said += text));
  const end = ended(child);
  await until(() => said.includes('\n') || child.exitCode !== null);
  const port = Number(/^listening on \S+:(\d+) /.exec(said)?.[1]);
  if (!(port > 0)) throw new Error(`not ready: ${said}${(await end).stderr}`);
  return {
    child,
    ready: said,
    port,
    ended: end,
    stop(signal = 'SIGTERM') {
      child.kill(signal);
      return end;
    },
  };
}

/** The processes that a process has started, and what they run. */
export function childrenOf(pid: number): Map<number, string> {
  const children = new Map<number, string>();
  for (const entry of readdirSync('/proc')) {
    if (!/^\d+$/.test(entry)) continue;
    try {
      const parent = /^.*\) \S (\d+) /s.exec(readFileSync(`/proc/${entry}/stat`, 'latin1'))?.[1];
      if (Number(parent) !== pid) continue;
      children.set(Number(entry), readFileSync(`/proc/${entry}/cmdline`, 'latin1'));
    } catch {
      // ended meanwhile
    }
  }
  return children;
}

// ---- connections

export interface Outcome {
  readonly bytes: Buffer;
  /** 'end', or the code of an error. */
  readonly how: string;
}

/** All that comes, and how it ends. */
export function outcome(socket: net.Socket): Promise<Outcome> {
  const chunks: Buffer[] = [];
  return new Promise((resolve) => {
    const finish = (how: string) => resolve({ bytes: Buffer.concat(chunks), how });
    socket.on('data', (chunk: Buffer) => chunks.push(chunk));
    socket.once('end', () => finish('end'));
    socket.once('error', (error: NodeJS.ErrnoException) => finish(error.code ?? error.message));
    socket.once('close', () => finish('closed'));
  });
}

/** Writes, and waits until there is room for more. Does not fail when the other side is gone. */
export async function write(socket: net.Socket, bytes: Uint8Array): Promise<void> {
  if (socket.destroyed || socket.write(bytes)) return;
  const waiting = new AbortController();
  const { signal } = waiting;
  const events = ['drain', 'close'].map((event) => once(socket, event, { signal }));
  await Promise.race(events.map((event) => event.catch(() => undefined)));
  waiting.abort();
}

// ---- files

/** A file system in memory of so many bytes; the test is skipped where it can't be had. */
export function smallFileSystem(context: TestContext, bytes: number): string {
  const directory = temporaryDirectory();
  const options = ['-t', 'tmpfs', '-o', `size=${bytes}`, 'tmpfs', directory];
  const { status, stderr, error } = spawnSync('mount', options, { encoding: 'utf8' });
  if (status !== 0) context.skip(`no tmpfs can be mounted: ${error?.message ?? stderr.trim()}`);
  // Detached, because a process that was killed just now may still be ending.
  onTestFinished(() => void spawnSync('umount', ['--lazy', directory]));
  return directory;
}
