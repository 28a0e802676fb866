/**
 * How handles come about: opening files, listening.
 */
import type { AsyncResource } from 'node:async_hooks';
import { toNamespacedPath } from 'node:path';
import { fileURLToPath } from 'node:url';
import { addressesOf } from '../support/addresses';
import type * as api from '../api';
import type { KeyOption } from '../api';
import { handleAt, Slot } from '../native/layout';
import { Kind } from '../native/kinds';
import { abortError, notSupported, systemError } from '../support/errors';
import { EADDRNOTAVAIL, EAFNOSUPPORT, EINVAL } from '../support/errno';
import { File, type FileTraits } from './file';
import { closeHandle, contextOf, keyOf, type Style } from './handle';
import type { PortThread } from '../thread/port-thread';
import { TcpListener } from './listener';
import {
  ComposedOperation,
  Operation,
  operationOf,
  AWAIT_OPTIONS,
  watchSignal,
  type Decode,
  type OperationOptions,
} from '../await/operation';
import { HIGH_WATER_MARK, setHighWaterMark } from '../thread/outgoing';
import { mayUseNet } from '../support/permission';
import { setIdleTimeout, type TcpSocket } from './socket';
import { refuseOfTcp, SOCKET_OPTIONS, SocketSettings } from './socket-options';
import * as validate from '../support/validate';

/** Of either style. */
export type ListenOptions = api.ListenOptions<KeyOption | undefined>;

export interface OpenRequest extends OperationOptions {
  readonly path: Buffer;
  readonly flags: number;
  readonly mode: number;
  readonly key: number | undefined;
  /** The asynchronous context that the handle keeps. */
  readonly context: AsyncResource | undefined;
  readonly traits: Omit<FileTraits, 'fileKind'>;
}

export function pathBytes(path: unknown): Buffer {
  const plain = path instanceof URL ? fileURLToPath(path) : path;
  if (typeof plain !== 'string' && !Buffer.isBuffer(plain)) {
    throw validate.invalidType('path', 'of type string or an instance of Buffer or URL', path);
  }
  const bytes = Buffer.from(plain as string);
  if (bytes.includes(0)) throw validate.invalidValue('path', 'must be without null bytes', path);
  return bytes;
}

/** The path that `systemPath` was made of, but for being absolute then. */
export function plainPath(path: string): string {
  if (process.platform !== 'win32') return path;
  return path.replace(/^\\\\\?\\UNC\\/, '\\\\').replace(/^\\\\\?\\/, '');
}

/**
 * As the system wants it. Windows takes paths beyond 260 characters, and names that MS-DOS
 * reserved, only in the namespace `\\\\?\\`; Node.js does the same for node:fs.
 */
function systemPath(path: Buffer): Buffer {
  if (process.platform !== 'win32') return path;
  return Buffer.from(toNamespacedPath(path.toString()));
}

export function openPath(thread: PortThread, request: OpenRequest): Operation<File> {
  const { key, context, traits } = request;
  const subject = { path: traits.path };
  const decode: Decode<File> = (_result, at) => {
    const id = handleAt(thread.words, at + Slot.HANDLE / 4);
    const file = openedFile(thread, id, key, traits, context);
    if (request.signal !== undefined) file.closeOn(request.signal);
    return file;
  };
  const operation = operationOf(thread, Kind.Open, subject, decode, undefined);
  const timeout = validate.timeout(request.timeout);
  if (!watchSignal(operation, request)) return operation;
  begin(thread, operation, (token) => {
    const { path, flags, mode } = request;
    return thread.native.open(systemPath(path), flags, mode, key ?? -1, token, timeout);
  });
  return operation;
}

export function openDescriptor(
  thread: PortThread,
  descriptor: number,
  key: number | undefined,
  traits: Omit<FileTraits, 'fileKind'>,
  context: AsyncResource | undefined,
  signal: AbortSignal | undefined,
): Operation<File> {
  validate.integer(descriptor, 'path', 0, 0x7fffffff);
  if (signal?.aborted) return Operation.failed(thread, Kind.Open, abortError(signal.reason));
  thread.flush();
  const id = thread.native.openDescriptor(descriptor, key ?? -1);
  return duplicated(thread, id, key, traits, context, signal);
}

/** Another handle for a file that one of the process's ports has open, for reading. */
export function reopen(thread: PortThread, handle: number, signal?: AbortSignal): Operation<File> {
  if (signal?.aborted) return Operation.failed(thread, Kind.Open, abortError(signal.reason));
  thread.flush();
  const traits = { path: undefined, append: false, direct: false };
  return duplicated(thread, thread.native.reopen(handle, -1), undefined, traits, undefined, signal);
}

function duplicated(
  thread: PortThread,
  id: number,
  key: number | undefined,
  traits: Omit<FileTraits, 'fileKind'>,
  context: AsyncResource | undefined,
  signal: AbortSignal | undefined,
): Operation<File> {
  if (id < 0) return Operation.failed(thread, Kind.Open, systemError(id, 'dup', {}));
  const file = openedFile(thread, id, key, traits, context);
  if (signal !== undefined) file.closeOn(signal);
  return Operation.done(thread, Kind.Open, file);
}

/** `accepts` false: somebody else is going to accept. */
export function listen(
  thread: PortThread,
  options: ListenOptions,
  accepts = true,
): Operation<TcpListener> {
  checkListenOptions(options);
  const key = keyOf(thread, options.key);
  const context = contextOf(thread, key, options.asyncResource);
  const highWaterMark = markOf(options);
  const settings = SocketSettings.ofListener(options).array;
  mayUseNet(options.path ?? (options.host || '::'));
  const run = async (): Promise<TcpListener> => {
    const { backlog = 511, reusePort = false, ipv6Only = false, noDelay = true } = options;
    const port = Number(options.port ?? 0);
    const keyed = key !== undefined;
    const name = key ?? -1;
    const listenOn = (address: string): number => {
      thread.assertOpen();
      const { native } = thread;
      if (options.fd !== undefined) return adoptListener(thread, options.fd, name);
      return native.listen(
        address,
        port,
        backlog,
        reusePort,
        ipv6Only,
        name,
        keyed,
        noDelay,
        settings,
        options.type === 'seqpacket',
      );
    };
    const id = await listenOnFirst(options, listenOn);
    makeAccessible(thread, id, options);
    setHighWaterMark(id, highWaterMark);
    const listener = listening(thread, id, key, accepts, options);
    listener.asyncResource = context;
    return listener;
  };
  return new ComposedOperation(thread, Kind.Accept, 'listen', options, run, discard);
}

/** The handle of a socket that listens already. */
function adoptListener(thread: PortThread, descriptor: number, key: number): number {
  const id = thread.native.adoptSocket(descriptor, key);
  if (id < 0 || thread.native.handleInfo(id)?.kind === 'listener') return id;
  closeHandle(thread, id).catch(() => undefined);
  return EINVAL;
}

const LISTEN_OPTIONS = [
  'host',
  'port',
  'path',
  'readableAll',
  'writableAll',
  'type',
  'fd',
  'key',
  'asyncResource',
  'backlog',
  'reusePort',
  'ipv6Only',
  'deferAccept',
  'fastOpen',
  ...SOCKET_OPTIONS,
  'highWaterMark',
  'idleTimeout',
  'maxConnections',
  ...AWAIT_OPTIONS,
];

export function checkListenOptions(options: ListenOptions): void {
  validate.knownOfPlace(options, LISTEN_OPTIONS);
  checkPlace(options);
  const { host, backlog = 511, reusePort = false, ipv6Only = false, noDelay = true } = options;
  const { maxConnections = Infinity } = options;
  if (host !== undefined) validate.string(host, 'options.host');
  validate.integer(backlog, 'options.backlog', 1, 0x7fffffff);
  validate.boolean(reusePort, 'options.reusePort');
  validate.boolean(ipv6Only, 'options.ipv6Only');
  validate.boolean(noDelay, 'options.noDelay');
  SocketSettings.ofListener(options);
  markOf(options);
  idleTimeoutIn(options);
  validate.maxConnections(maxConnections, 'options.maxConnections');
}

/** A port, the path of a socket, or a socket that listens. */
function checkPlace(options: ListenOptions): void {
  const { path, fd } = options;
  if (path === undefined && fd === undefined) validate.tcpPort(options.port, 'options.port');
  else refuseWith(path === undefined ? 'fd' : 'path', options, ['host', 'port', 'ipv6Only']);
  if (path === undefined && fd !== undefined) refuseWith('fd', options, ['backlog', 'reusePort']);
  if (path !== undefined && fd !== undefined) refuseWith('path', options, ['fd']);
  if (path !== undefined) {
    socketPath(path);
    refuseOfTcp(options);
  }
  if (fd !== undefined) validate.integer(fd, 'options.fd', 0, 0x7fffffff);
  socketType(options);
  for (const name of ['readableAll', 'writableAll'] as const) {
    validate.flag(options[name], `options.${name}`);
    if (path !== undefined || options[name] === undefined) continue;
    throw validate.invalidValue(`options.${name}`, 'is for a path', options[name]);
  }
  if (fd !== undefined && process.platform === 'win32') {
    throw notSupported('listen', 'Node.js opens no descriptor of a socket there');
  }
}

/** Throws for options that mean nothing beside `name`. */
export function refuseWith(name: string, options: object, others: readonly string[]): void {
  for (const other of others) {
    const value = (options as Record<string, unknown>)[other];
    if (value === undefined) continue;
    throw validate.invalidValue(`options.${other}`, `can't be given with options.${name}`, value);
  }
}

/** Whether a socket at `options.path` is to keep the borders of messages. */
export function socketType(options: { readonly path?: unknown; readonly type?: unknown }): boolean {
  const { path, type = 'stream' } = options;
  validate.oneOf(type, 'options.type', ['stream', 'seqpacket']);
  if (type === 'stream') return false;
  if (path === undefined) {
    throw validate.invalidValue('options.type', 'is of sockets with options.path', type);
  }
  if (process.platform === 'win32') throw notSupported('socket', 'named pipes are streams here');
  return true;
}

/** The path of a socket, as native code is told it; one that begins with NUL is no file. */
export function socketPath(path: unknown): string {
  validate.string(path, 'options.path');
  const name = path as string;
  if (name === '') throw validate.invalidValue('options.path', 'must not be empty', name);
  if (name.indexOf('\0', 1) > 0) {
    throw validate.invalidValue('options.path', 'must be without null bytes but the first', name);
  }
  return `unix:${name}`;
}

export function markOf(options: Pick<ListenOptions, 'highWaterMark'>): number {
  return validate.highWaterMark(options.highWaterMark ?? HIGH_WATER_MARK, 'options.highWaterMark');
}

/** Milliseconds; 0: none. */
export function idleTimeoutIn(options: Pick<ListenOptions, 'idleTimeout'>): number {
  return validate.timeout(options.idleTimeout, 'options.idleTimeout');
}

/**
 * The handle of a listener on the first address that `listenOn` can have one on, of those that the
 * options mean.
 */
export async function listenOnFirst(
  options: ListenOptions,
  listenOn: (address: string) => number,
): Promise<number> {
  const { host = '', path, fd } = options;
  if (path !== undefined || fd !== undefined) return listenThere(options, listenOn);
  // As node:net takes an empty name.
  const addresses = host === '' ? ['::', '0.0.0.0'] : (await addressesOf(host)).slice(0, 1);
  const { result, address } = listenOnOneOf(addresses, listenOn);
  if (result >= 0) return result;
  throw systemError(result, 'listen', { net: true, address, port: Number(options.port) });
}

/** On the first that this machine has; a handle or an error, and of which address. */
export function listenOnOneOf(
  addresses: readonly string[],
  listenOn: (address: string) => number,
): { readonly result: number; readonly address: string } {
  let tried = { result: 0, address: '' };
  for (const address of addresses) {
    tried = { result: listenOn(address), address };
    if (tried.result !== EAFNOSUPPORT && tried.result !== EADDRNOTAVAIL) break;
  }
  return tried;
}

interface Accessible {
  readonly path?: string | undefined;
  readonly readableAll?: boolean | undefined;
  readonly writableAll?: boolean | undefined;
}

/** Lets others at the file of a UNIX socket; a listener that they can't get at is closed. */
export function makeAccessible(thread: PortThread, id: number, options: Accessible): void {
  const { path } = options;
  if (path === undefined) return;
  try {
    openModes(path, options);
  } catch (error) {
    closeHandle(thread, id).catch(() => undefined);
    throw error;
  }
}

function openModes(path: string, options: Accessible): void {
  const modes = (options.readableAll ? 0o444 : 0) | (options.writableAll ? 0o222 : 0);
  // Of a named pipe the settings have said it.
  if (modes === 0 || path.startsWith('\0') || process.platform === 'win32') return;
  const { chmodSync, statSync } = process.getBuiltinModule('node:fs');
  chmodSync(path, (statSync(path).mode & 0o777) | modes);
}

function listenThere(options: ListenOptions, listenOn: (address: string) => number): number {
  const { path } = options;
  const result = listenOn(path === undefined ? '' : socketPath(path));
  if (result < 0) throw systemError(result, 'listen', { net: true, address: path });
  return result;
}

/**
 * Has native code begin an operation that makes a handle, answered under a token. `explain` may know
 * more of a failure than what the operation is about.
 */
export function begin(
  thread: PortThread,
  operation: Operation<unknown>,
  start: (token: number) => number,
  explain?: (error: number) => Error | undefined,
): void {
  thread.flush();
  operation.token = thread.add(operation);
  const result = start(operation.token);
  if (result < 0) {
    thread.remove(operation.token);
    operation.token = -1;
    operation.fail(explain?.(result) ?? operation.errorOf(result));
    return;
  }
  thread.hold(1);
  operation.aftermath = {
    after(error) {
      thread.hold(-1);
      return explain?.(error);
    },
  };
  thread.schedule();
}

function openedFile(
  thread: PortThread,
  id: number,
  key: number | undefined,
  traits: Omit<FileTraits, 'fileKind'>,
  context: AsyncResource | undefined,
): File {
  const info = thread.native.handleInfo(id);
  const file = new File<Style>(thread, id, key, true, {
    path: traits.path,
    // Of a descriptor only the system knows.
    append: traits.append || (info?.append ?? false),
    direct: traits.direct || (info?.direct ?? false),
    fileKind: info?.fileKind ?? 'regular',
  });
  file.asyncResource = context;
  return file;
}

function listening(
  thread: PortThread,
  id: number,
  key: number | undefined,
  accepts: boolean,
  options: ListenOptions,
): TcpListener {
  const listener = new TcpListener<Style>(thread, id, key, true);
  try {
    if (options.fd !== undefined) settingsOfAdopted(options).apply(thread.native, id);
  } catch (error) {
    listener.closeQuietly();
    throw error;
  }
  const { maxConnections = Infinity } = options;
  const idleTimeout = idleTimeoutIn(options);
  if (maxConnections !== Infinity) listener.maxConnections = maxConnections;
  if (idleTimeout > 0) setIdleTimeout(listener, idleTimeout);
  if (options.signal !== undefined) listener.closeOn(options.signal);
  if (key !== undefined && accepts) void listener.accept({ multishot: true });
  thread.schedule();
  return listener;
}

/** Of a socket that listens already, which keeps what is not given. */
function settingsOfAdopted(options: ListenOptions): SocketSettings {
  const settings = SocketSettings.ofListener(options);
  if (options.noDelay !== undefined) settings.noDelay(options.noDelay);
  return settings;
}

/** What came after its operation was given up. */
export function discard(late: TcpListener | TcpSocket): void {
  late.closeQuietly();
}
