/**
 * What the tests of the example programs share: running them, and clients to talk to them.
 */
import { spawn, spawnSync, type ChildProcess, type StdioOptions } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import type net from 'node:net';
import path from 'node:path';
import { describe, onTestFinished, type TestContext } from 'vitest';
import { drivers, ended, root, temporaryDirectory, until, windows, type Ended } from './harness';

export type Driver = (typeof drivers)[number];

/** Why a test is left out there. */
export const NO_SIGNALS = 'no signals';

/** How a server ends at SIGTERM. On Windows kill() ends the process then and there. */
export const stopped = windows
  ? { code: null, signal: 'SIGTERM', stderr: '' }
  : { code: 0, signal: null, stderr: '' };

const { COMPLETION_PORT_DRIVER: _, ...environment } = process.env;

function defaultDriver(): string {
  const script = 'console.log(require("./dist/native/binding.js").binding.defaultDriver().name)';
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

/** Of an example that is there in two forms the one with options. */
export function program(name: string): string {
  const large = path.join(root, 'examples', 'programs', `${name}.mjs`);
  return existsSync(large) ? large : path.join(root, 'examples', `${name}.mjs`);
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
  const child = spawn(process.execPath, [program(name), ...args], {
    cwd: root,
    env: { ...environment, ...env },
    stdio,
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
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
