/**
 * What the test files share: ports, files and connections that are cleaned up after the test,
 * processes, and waiting for something without ever asserting a time.
 */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { getSystemErrorMap } from 'node:util';
import { onTestFinished, type TestContext, TestRunner } from 'vitest';
import {
  CompletionPort,
  type Packet,
  type PacketObject,
  type PacketType,
  type DriverName,
  type PortOptions,
  type ListenerHandle,
  type KeyedSocket,
  type SocketHandle,
} from '../../dist/index.js';

export { CompletionPort, sleep };
export type * from '../../dist/index.js';

export const root = fileURLToPath(new URL('../..', import.meta.url));
/** The built library, for child processes. */
export const library = new URL('../../dist/index.js', import.meta.url).href;
export const driver = process.env['COMPLETION_PORT_DRIVER'] ?? '';

export const windows = process.platform === 'win32';
/** Those of the system. */
export const drivers = windows ? (['iocp'] as const) : (['io_uring', 'epoll'] as const);
/** Wine instead of Windows: a test that it can't pass says why when it is skipped. */
export const wine = process.env['COMPLETION_PORT_TEST_WINE'] === '1';

/** For a test of something that Wine gets wrong. */
export function skipUnderWine(context: TestContext, reason: string): void {
  if (wine) context.skip(`Wine: ${reason}`);
}
/** For a test that needs something Windows has not. */
export function skipOnWindows(context: TestContext, reason: string): void {
  if (windows) context.skip(`Windows: ${reason}`);
}

/** The connections are those of a world in memory (docs/internals/simulator.md). */
export const simulated = driver === 'sim';
/** The driver that the suite runs on, as an option. The simulated one is no program's to choose. */
export const ofDriver = simulated ? {} : { driver: driver as DriverName };

/** For a test of something that a world has not. What needs a peer of Node.js's need not ask. */
export function skipInWorld(reason: string): void {
  if (simulated) TestRunner.getCurrentTest()!.context.skip(`simulated world: ${reason}`);
}

/** Node's number for an error on this platform, as it stands in `errno`. */
export function errnoOf(code: string): number {
  for (const [errno, [name]] of getSystemErrorMap()) if (name === code) return errno;
  throw new Error(`no error is called ${code}`);
}

/** A port that is closed after the test. */
export function newPort(options: PortOptions = {}): CompletionPort {
  const port = new CompletionPort(options);
  onTestFinished(() => port.close());
  return port;
}

/** Waits until `condition` holds: the test's own time limit ends the waiting. */
export async function until(condition: () => unknown): Promise<void> {
  for (let i = 0; !condition(); i++) await (i < 100 ? new Promise(setImmediate) : sleep(2));
}

/** Lets the event loop, and other threads, go on for a while. */
export async function turns(count = 50): Promise<void> {
  for (let i = 0; i < count; i++) await (i % 10 === 9 ? sleep(1) : new Promise(setImmediate));
}

// ---- files

/** A directory that is removed after the test. */
export function temporaryDirectory(): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'completion-port-'));
  onTestFinished(() => removeDirectory(directory));
  return directory;
}

/** Under Windows a file stays in its directory while a port that is closed later has it open. */
function removeDirectory(directory: string): void {
  const remove = (): void => rmSync(directory, { recursive: true, force: true });
  if (!windows) return remove();
  try {
    remove();
  } catch {
    onTestFinished(remove);
  }
}

/** The path of a new file with these contents. */
export function temporaryFile(contents: string | Uint8Array = '', name = 'file'): string {
  const file = path.join(temporaryDirectory(), name);
  writeFileSync(file, contents);
  return file;
}

/** Bytes that tell where they belong: each four are their own position. */
export function pattern(length: number, from = 0): Buffer {
  const bytes = Buffer.alloc(Math.ceil(length / 4) * 4);
  for (let at = 0; at < bytes.length; at += 4) bytes.writeUInt32LE((from + at) >>> 0, at);
  return bytes.subarray(0, length);
}

/** Random numbers that can be had again: xorshift. */
export class Random {
  constructor(private state: number) {
    this.state = state >>> 0 || 1;
  }
  /** An integer from 0 to `end` - 1. */
  below(end: number): number {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state = (this.state ^ (this.state << 5)) >>> 0;
    return this.state % end;
  }
  bytes(length: number): Buffer {
    const bytes = Buffer.alloc(length);
    for (let i = 0; i < length; i++) bytes[i] = this.below(256);
    return bytes;
  }
}

/** A seed that is printed; COMPLETION_PORT_TEST_SEED repeats a run. */
export function newSeed(what: string): number {
  const given = Number(process.env['COMPLETION_PORT_TEST_SEED'] ?? 0);
  const seed = given || 1 + Math.floor(Math.random() * 0x7ffffffe);
  console.log(`${what}: COMPLETION_PORT_TEST_SEED=${seed}`);
  return seed;
}

// ---- packets

/** Takes packets on the event loop and keeps copies. */
export class Collector {
  readonly packets: PacketObject[] = [];
  private readonly service: { stop(): void };

  /** `handler` sees each packet before the copy is made. */
  constructor(port: CompletionPort, handler?: (packet: Packet) => void) {
    this.service = port.consume((packet) => {
      handler?.(packet);
      this.packets.push(packet.toObject());
    });
    onTestFinished(() => this.service.stop());
  }

  stop(): void {
    this.service.stop();
  }

  async count(count: number): Promise<PacketObject[]> {
    await until(() => this.packets.length >= count);
    return this.packets;
  }

  of(type: PacketType): PacketObject[] {
    return this.packets.filter((packet) => packet.type === type);
  }

  async first(type: PacketType): Promise<PacketObject> {
    await until(() => this.of(type).length > 0);
    return this.of(type)[0]!;
  }
}

/** Takes `count` packets with `get`, polling, so that the event loop goes on in between. */
export async function take(port: CompletionPort, count: number): Promise<PacketObject[]> {
  const packets: PacketObject[] = [];
  await until(() => {
    if (packets.length < count) {
      for (const packet of port.get(Math.min(256, count - packets.length), 0))
        packets.push(packet.toObject());
    }
    return packets.length >= count;
  });
  return packets;
}

export function codeOf(error: unknown): string | undefined {
  return (error as NodeJS.ErrnoException | undefined)?.code;
}

/** What `fn` throws, or rejects with. */
export async function failureOf(fn: () => unknown): Promise<NodeJS.ErrnoException> {
  try {
    await fn();
  } catch (error) {
    return error as NodeJS.ErrnoException;
  }
  throw new Error('nothing was thrown');
}

/** What `fn` throws at once. */
export function failureNow(fn: () => unknown): NodeJS.ErrnoException {
  try {
    fn();
  } catch (error) {
    return error as NodeJS.ErrnoException;
  }
  throw new Error('nothing was thrown');
}

// ---- connections

export interface Pair {
  readonly listener: ListenerHandle;
  readonly client: SocketHandle;
  readonly server: SocketHandle;
}

/** Two ends of a connection, both of await style. */
export async function connectedPair(port: CompletionPort): Promise<Pair> {
  const listener = await port.listen({ host: '127.0.0.1', port: 0 });
  const accepting = listener.accept();
  const client = await port.connect({ host: '127.0.0.1', port: listener.address()!.port });
  const server = await accepting;
  return { listener, client, server };
}

/** A raw client that does nothing by itself, and is destroyed after the test. */
export async function rawClient(port: number, host = '127.0.0.1'): Promise<net.Socket> {
  skipInWorld('nobody of the system connects to it');
  const socket = net.connect({ host, port, allowHalfOpen: true });
  socket.on('error', () => undefined);
  onTestFinished(() => void socket.destroy());
  await new Promise<void>((resolve) => socket.once('connect', resolve));
  return socket;
}

export interface RawServer {
  readonly port: number;
  readonly sockets: net.Socket[];
}

export async function rawServer(handler?: (socket: net.Socket) => void): Promise<RawServer> {
  skipInWorld('nobody in it connects to the system');
  const sockets: net.Socket[] = [];
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined);
    sockets.push(socket);
    handler?.(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    for (const socket of sockets) socket.destroy();
    server.close();
  });
  return { port: (server.address() as net.AddressInfo).port, sockets };
}

/** A connection of await style with a raw peer. */
export async function withRawPeer(
  port: CompletionPort,
): Promise<{ socket: SocketHandle; peer: net.Socket }> {
  const server = await rawServer();
  const socket = await port.connect({ host: '127.0.0.1', port: server.port });
  await until(() => server.sockets.length === 1);
  return { socket, peer: server.sockets[0]! };
}

/** A connection under `key` with a raw peer. */
export async function keyedWithRawPeer(
  port: CompletionPort,
  key: number,
): Promise<{ socket: KeyedSocket; peer: net.Socket }> {
  const server = await rawServer();
  const socket = await port.connect({ host: '127.0.0.1', port: server.port, key });
  await until(() => server.sockets.length === 1);
  return { socket, peer: server.sockets[0]! };
}

// ---- processes

export interface ProcessOptions {
  /** Nothing is loaded before the module's own text. */
  readonly bare?: boolean;
  readonly env?: NodeJS.ProcessEnv;
  /** Run in front of Node.js: `['taskset', '-c', '0']`. */
  readonly launcher?: readonly string[];
  readonly nodeArguments?: readonly string[];
  readonly args?: readonly string[];
  readonly uid?: number;
}

export interface Ended {
  readonly code: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

/** Longer than any step of a test, shorter than the test's own limit. */
const LONGEST = 50_000;

/** A process that is killed after the test. */
export function startProcess(
  nodeArguments: readonly string[],
  options: ProcessOptions = {},
): ChildProcess {
  const command = [...(options.launcher ?? []), process.execPath, ...nodeArguments];
  const child = spawn(command[0]!, command.slice(1), {
    cwd: root,
    env: { ...process.env, ...options.env },
    stdio: ['pipe', 'pipe', 'pipe'],
    uid: options.uid,
    gid: options.uid,
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}

/** Runs a module given as text, with CompletionPort in scope, to its end. */
export async function runModule(code: string, options: ProcessOptions = {}): Promise<Ended> {
  const prelude = `import { CompletionPort } from ${JSON.stringify(library)};\n`;
  const text = options.bare === true ? code : prelude + code;
  if (/['"](node:)?net['"]/.test(code)) skipInWorld('its program has a peer of the system');
  const flags = [...(options.nodeArguments ?? []), '--input-type=module', '-e', text];
  return ended(startProcess([...flags, ...(options.args ?? [])], options));
}

/** What it printed, when it has ended; it is killed after `longest` milliseconds. */
export async function ended(child: ChildProcess, longest = LONGEST): Promise<Ended> {
  let stdout = '';
  let stderr = '';
  child.stdout!.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr!.setEncoding('utf8').on('data', (text: string) => (stderr += text));
  const watchdog = setTimeout(() => {
    stderr += '\n(it did not end by itself)';
    child.kill('SIGKILL');
  }, longest);
  const [code, signal] = await new Promise<[number | null, NodeJS.Signals | null]>((resolve) =>
    child.once('close', (...how) => resolve(how)),
  );
  clearTimeout(watchdog);
  return { code, signal, stdout, stderr };
}

/** What a module printed; fails when it did not end with code 0. */
export async function outputOf(code: string, options: ProcessOptions = {}): Promise<string> {
  const result = await runModule(code, options);
  if (result.code !== 0) {
    throw new Error(`ended with ${result.code ?? result.signal}\n${result.stdout}${result.stderr}`);
  }
  return result.stdout.trim();
}
