/**
 * `net.Socket` over a port: a stream of Node.js on both sides, and a connection of the port's below.
 *
 * What its public members do is what node:net documents; lib/node/api.ts says where it differs.
 */
import { AsyncResource } from 'node:async_hooks';
import net = require('node:net');
import { Duplex } from 'node:stream';
import { isDeepStrictEqual } from 'node:util';
import type { Data, FileHandle, ListenerAddress } from '../../api';
import { Kind } from '../../native/kinds';
import { abortError, coded, failure, invalidState } from '../../support/errors';
import { endWith, outlive } from '../../support/lifetime';
import { clearTimeout, nextTick, setTimeout } from '../../support/timers';
import * as validate from '../../support/validate';
import { TcpSocket } from '../../handles/socket';
import { LONGEST_KEEP_ALIVE, MOST_PROBES, type KeepAlive } from '../../handles/socket-options';
import type * as api from '../api';
import { portGiven, portOf } from '../default-port';
import { given } from './arguments';
import { clientSocket } from './channels';
import { Attempts, type Seeker, type Target } from './attempts';
import {
  closedBeforeConnection,
  invalidAddress,
  missingArguments,
  optionalBoolean,
  portNumber,
  socketClosed,
  timerDuration,
  unsupported,
} from './node-errors';
import { Pieces, type OnRead } from './onread';
import { Connection, type Receiver } from './connection';
import { Writing, type Done } from './writing';

export interface SocketOptions {
  readonly over?: unknown;
  readonly handle?: unknown;
  readonly fd?: unknown;
  readonly allowHalfOpen?: boolean;
  readonly readable?: boolean;
  readonly writable?: boolean;
  readonly signal?: AbortSignal;
  readonly noDelay?: boolean;
  readonly keepAlive?: boolean;
  readonly keepAliveInitialDelay?: number;
  readonly keepAliveInterval?: number;
  readonly keepAliveCount?: number;
  readonly typeOfService?: number;
  readonly highWaterMark?: number;
  readonly readableHighWaterMark?: number;
  readonly writableHighWaterMark?: number;
  readonly objectMode?: boolean;
  readonly readableObjectMode?: boolean;
  readonly writableObjectMode?: boolean;
  readonly onread?: OnRead | null;
  readonly blockList?: net.BlockList;
  readonly pauseOnCreate?: boolean;
  readonly manualStart?: boolean;
}

/** The server that a connection counts for. */
export interface Owner {
  /** @internal */
  _connectionEnded(): void;
}

interface Piece {
  readonly chunk: Buffer | string;
  readonly encoding: BufferEncoding;
}

/** Linux's number. */
const EBADF = -9;
const NO_OBJECTS = ['objectMode', 'readableObjectMode', 'writableObjectMode'] as const;
/** As libuv's eof_timeout, after which a named pipe counts as ended by its peer. */
const EOF_AFTER = 50;
/** Shortest time between attempts at two addresses, as node:net has it. */
const SHORTEST_ATTEMPT = 10;

export class Socket extends Duplex implements Receiver, Seeker {
  connecting = false;
  timeout: number | undefined = undefined;
  autoSelectFamilyAttemptedAddresses: string[] | undefined = undefined;
  server: Owner | null = null;
  /** As node:net has it: packages look whether there is one. */
  _handle: Connection | null = null;
  _server: Owner | null = null;
  _hadError = false;
  _parent: unknown = null;
  _host: string | null = null;
  bytesDispatched = 0;

  /** @internal Whether it, or its attempts to connect, keep the process alive. */
  _referenced = true;

  readonly #over: unknown;
  readonly #pieces: Pieces | undefined;
  readonly #blockList: net.BlockList | undefined;
  #writing: Writing | undefined = undefined;
  #attempts: Attempts | undefined = undefined;
  #timer: NodeJS.Timeout | undefined = undefined;
  /** This side has ended without a way to tell the peer. */
  #untold = false;
  /** Until that counts as the peer's end as well. */
  #endTimer: NodeJS.Timeout | undefined = undefined;
  /** Bytes that had gone out when the time was over last. */
  #sentBefore = 0;
  #filesUnderWay = 0;
  #noDelay = false;
  #keepAlive: KeepAlive | undefined = undefined;
  #typeOfService: number | undefined = undefined;
  #resets = false;
  #bytesRead = 0;
  #pendingWrite: Piece | readonly Piece[] | undefined = undefined;
  #local: ListenerAddress | undefined = undefined;
  #remote: ListenerAddress | undefined = undefined;
  /** What is received, and what was sent, is told in the context in which the socket was made. */
  readonly #context = new AsyncResource('CompletionPortSocket', {
    requireManualDestroy: false,
  });

  constructor(given?: SocketOptions | number) {
    const options: SocketOptions = typeof given === 'number' ? { fd: given } : { ...given };
    check(options);
    super({
      allowHalfOpen: Boolean(options.allowHalfOpen),
      // `close` tells whether there was an error, and comes when the connection is closed.
      emitClose: false,
      autoDestroy: true,
      decodeStrings: false,
      ...marksOf(options),
      readable: options.handle === undefined || options.readable !== false,
      writable: options.handle === undefined || options.writable !== false,
    } as object);
    this.#over = portGiven(options.over);
    this.#blockList = options.blockList;
    this.#pieces = options.onread ? new Pieces(options.onread, this) : undefined;
    this.#noDelay = Boolean(options.noDelay);
    if (options.keepAlive) this.#keepAlive = keepAliveIn(options);
    this.#typeOfService = typeOfServiceIn(options);
    this.on('end', endWritable);
    if (options.signal !== undefined) this.#endWith(options.signal);
    if (options.handle === undefined || options.handle === null) return;
    this.#adopt(handleOf(options.handle));
    if (this.destroyed) return;
    if (options.pauseOnCreate) super.pause();
    else if (!options.manualStart) this.read(0);
  }

  // ---- connecting

  connect(...args: unknown[]): this {
    const first = args[0];
    const list = Array.isArray(first) ? (first as unknown[]) : args;
    const { options, callback } = given(list);
    if (options['port'] === undefined && options['path'] == null) throw missingArguments();
    if (this.destroyed) this.#again();
    if (callback !== undefined) this.once('connect', callback);
    const target = options['path'] ? pathTarget(options['path']) : targetOf(options);
    this.#heed(options);
    if (clientSocket.hasSubscribers) clientSocket.publish({ socket: this });
    this.connecting = true;
    const { thread: portThread } = portOf(options['over'] ?? this.#over);
    portThread.assertOpen();
    this._host = target.path === undefined ? target.host : null;
    this.#attempts = new Attempts(portThread, this, {
      ...target,
      blockList: (options['blockList'] as net.BlockList | undefined) ?? this.#blockList,
    });
    try {
      this.#attempts.begin();
    } catch (error) {
      this.connecting = false;
      this.#attempts = undefined;
      throw error;
    }
    return this;
  }

  /** @internal */
  _connected(handle: TcpSocket<'await'>): void {
    this.#attempts = undefined;
    this.#context.runInAsyncScope(this.#whenConnected, this, handle);
  }

  /** @internal */
  _connectFailed(error: Error): void {
    this.#attempts = undefined;
    this.#context.runInAsyncScope(() => {
      this.connecting = false;
      this.destroy(error);
    });
  }

  #whenConnected(handle: TcpSocket<'await'>): void {
    if (this.destroyed) return handle.closeQuietly();
    this.connecting = false;
    this.#adopt(handle);
    if (this.destroyed) return;
    this.#timer?.refresh();
    this.emit('connect');
    this.emit('ready');
    if (this.readable && !this.isPaused()) this.read(0);
  }

  /** A socket that was destroyed connects once more. */
  #again(): void {
    const stream = this as unknown as { _undestroy(): void };
    stream._undestroy();
    this._handle = null;
    this.#writing = undefined;
    this.#local = this.#remote = undefined;
    this.bytesDispatched = 0;
    this.#bytesRead = 0;
  }

  /** Aborting the signal destroys it. */
  #endWith(signal: AbortSignal): void {
    validate.signal(signal);
    const end = (): void => void this.destroy(abortError(signal.reason));
    if (signal.aborted) {
      nextTick(end);
      return;
    }
    const life = { onAbort: end };
    endWith(signal, life);
    this.once('close', () => outlive(signal, life));
  }

  #adopt(handle: TcpSocket<'await'>): void {
    this._handle = new Connection(handle, this);
    this.#writing = new Writing(handle);
    // As in Node.js, a connection that waits for nothing keeps no process alive.
    handle.unref();
    try {
      if (this.#noDelay) handle.setNoDelay(true);
      if (this.#keepAlive !== undefined) probe(handle, this.#keepAlive);
      this.#sendTypeOfService(handle);
    } catch (error) {
      // Nobody has called: what the system refuses is this connection's failure.
      this.destroy(error as Error);
    }
  }

  #heed(options: Record<string, unknown>): void {
    optionalBoolean(options['noDelay'], 'options.noDelay');
    const { keepAlive, noDelay, timeout } = options;
    if (noDelay) this.#noDelay = true;
    if (keepAlive) this.#keepAlive = keepAliveIn(options);
    this.#typeOfService = typeOfServiceIn(options) ?? this.#typeOfService;
    if (timeout) this.setTimeout(timeout as number);
  }

  // ---- receiving

  override _read(): void {
    if (this.connecting || this._handle === null) {
      this.once('connect', this.#startReading);
    } else {
      this.#startReading();
    }
  }

  #startReading(): void {
    const reading = this._handle;
    const pieces = this.#pieces;
    if (reading === null || this.destroyed) return;
    if (pieces?.waiting && !pieces.resume()) return;
    reading.start();
    if (this.#endTimer === undefined) this.#awaitEnd();
    this.#stayAlive();
  }

  /** While something is awaited, and the program has not said that it does not care. */
  #stayAlive(): void {
    const handle = this._handle;
    if (handle === null) return;
    const awaits = handle.active || this.#writing!.busy;
    if (awaits && this._referenced) handle.handle.ref();
    else handle.handle.unref();
  }

  override read(size?: number): unknown {
    if (this.#pieces !== undefined && this.#idle) this.#startReading();
    return super.read(size) as unknown;
  }

  override resume(): this {
    super.resume();
    if (this.#pieces !== undefined && this.#idle) this.#startReading();
    return this;
  }

  override pause(): this {
    if (this.#pieces !== undefined) {
      this._handle?.pause();
      this.#stayAlive();
    }
    return super.pause();
  }

  get #idle(): boolean {
    return !this.connecting && this._handle !== null && !this._handle.active;
  }

  /** @internal */
  _received(bytes: Buffer): boolean {
    this.#bytesRead += bytes.length;
    this.#timer?.refresh();
    this.#awaitEnd();
    const more = this.#context.runInAsyncScope(this.#take, this, bytes);
    if (!more) nextTick(() => this.#stayAlive());
    return more;
  }

  #take(bytes: Buffer): boolean {
    if (this.destroyed) return false;
    if (this.#pieces === undefined) return this.push(bytes);
    const more = this.#pieces.give(bytes);
    return more && !this.isPaused();
  }

  /** @internal */
  _receivedEnd(): void {
    this.#context.runInAsyncScope(() => {
      if (this.destroyed) return;
      this.push(null);
      this.read(0);
      this.#stayAlive();
    });
  }

  /** @internal */
  _receiveFailed(error: Error): void {
    this.#context.runInAsyncScope(() => this.destroy(error));
  }

  // ---- sending

  override _write(chunk: Buffer | string, encoding: BufferEncoding, done: Done): void {
    this.#send({ chunk, encoding }, done);
  }

  override _writev(pieces: readonly Piece[], done: Done): void {
    this.#send(pieces, done);
  }

  #send(what: Piece | readonly Piece[], done: Done): void {
    if (this.connecting) {
      this.#sendLater(what, done);
      return;
    }
    this.#pendingWrite = undefined;
    const writing = this.#writing;
    if (writing === undefined || this._handle === null) {
      done(socketClosed());
      return;
    }
    if (this._handle.closed) {
      done(failure(EBADF, Kind.Send, { net: true }));
      return;
    }
    this.#timer?.refresh();
    const data = isList(what) ? what.map(dataOf) : dataOf(what);
    this.bytesDispatched += writing.send(data, (error) => {
      this.#context.runInAsyncScope(this.#sent, this, done, error);
    });
    this.#stayAlive();
  }

  #sent(done: Done, error: Error | null | undefined): void {
    if (!this.destroyed) this.#timer?.refresh();
    done(error);
    this.#stayAlive();
  }

  /** @internal A part of a file, between two writes. */
  async _sendFile(
    file: FileHandle,
    part: { readonly position: number; readonly length: number },
  ): Promise<number> {
    const connection = this._handle;
    if (connection === null || connection.closed) throw socketClosed();
    this.#filesUnderWay++;
    this.#timer?.refresh();
    try {
      const sent = await connection.handle.sendFile(file, part);
      this.bytesDispatched += sent;
      return sent;
    } finally {
      this.#filesUnderWay--;
      if (!this.destroyed) this.#timer?.refresh();
    }
  }

  #sendLater(what: Piece | readonly Piece[], done: Done): void {
    this.#pendingWrite = what;
    const connected = (): void => {
      this.off('close', closed);
      this.#send(what, done);
    };
    const closed = (): void => done(closedBeforeConnection());
    this.once('connect', connected);
    this.once('close', closed);
  }

  override _final(done: Done): void {
    if (this.connecting) {
      this.once('connect', () => this._final(done));
      return;
    }
    if (this.#writing === undefined || this._handle === null) return done();
    const { halfCloses } = this._handle;
    this.#writing.shutdown((error) => {
      this.#context.runInAsyncScope(this.#sent, this, done, error);
      this.#awaitEnd();
    });
    // What is refused at once has destroyed the socket.
    if (this.destroyed) return;
    this.#untold = !halfCloses;
    this.#awaitEnd();
    this.#stayAlive();
  }

  /**
   * The peer of a named pipe hears of an end when the pipe is closed. As libuv has it: where nothing
   * comes for a while, this side takes that for the peer's end, and closes. Only a receive in flight
   * tells that nothing comes: while reading is held back, no time passes, and the receive has the
   * last word, since after a loop that was blocked a timer fires before what has come is told.
   */
  #awaitEnd(): void {
    if (!this.#untold || this.destroyed) return;
    if (this.#endTimer !== undefined) {
      this.#endTimer.refresh();
      return;
    }
    this.#endTimer = setTimeout(() => {
      this.#endTimer = undefined;
      this._handle?.probe();
    }, EOF_AFTER);
  }

  override end(...args: unknown[]): this {
    super.end(...(args as [never]));
    return this;
  }

  // ---- ending

  destroySoon(): void {
    if (this.writable) this.end();
    if (this.writableFinished) this.destroy();
    else this.once('finish', () => this.destroy());
  }

  resetAndDestroy(): this {
    if (this.connecting) this.once('connect', () => this.#resetNow());
    else if (this._handle !== null) this.#resetNow();
    else this.destroy(socketClosed());
    return this;
  }

  #resetNow(): void {
    this.#resets = true;
    this.destroy();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.connecting = false;
    this.#attempts?.end();
    this.#attempts = undefined;
    clearTimeout(this.#timer);
    clearTimeout(this.#endTimer);
    this.#timer = this.#endTimer = undefined;
    this.#untold = false;
    const handle = this._handle;
    handle?.end();
    this.#writing?.abandon();
    this._hadError = error !== null && error !== undefined;
    if (handle === null) {
      done(error);
      nextTick(() => this.emit('close', this._hadError));
    } else {
      this.#closeHandle(handle.handle);
      this._handle = null;
      done(error);
    }
    const { _server } = this;
    this._server = null;
    _server?._connectionEnded();
  }

  #closeHandle(handle: TcpSocket<'await'>): void {
    const closed = (): void => {
      this.#context.runInAsyncScope(() => this.emit('close', this._hadError));
    };
    if (handle.closed || handle.thread.closed) {
      nextTick(closed);
      return;
    }
    if (handle.thread.submissions.chaining) {
      nextTick(() => this.#closeHandle(handle));
      return;
    }
    (this.#resets ? handle.reset() : handle.close()).then(closed, closed);
  }

  // ---- timeouts

  setTimeout(milliseconds: number, callback?: () => void): this {
    if (this.destroyed) return this;
    this.timeout = milliseconds;
    const duration = timerDuration(milliseconds, 'msecs');
    clearTimeout(this.#timer);
    this.#timer = undefined;
    if (callback !== undefined) validate.callback(callback, 'callback');
    if (duration === 0) {
      if (callback !== undefined) this.removeListener('timeout', callback);
      return this;
    }
    this.#timer = setTimeout(() => this._onTimeout(), duration).unref();
    if (callback !== undefined) this.once('timeout', callback);
    return this;
  }

  /** Bytes that go out are activity, too. */
  _onTimeout(): void {
    const sends = this.#filesUnderWay > 0 || this.#writing?.busy === true;
    const sent = sends ? (this._handle?.handle.bytesWritten ?? 0) : 0;
    const moves = sends && sent !== this.#sentBefore;
    this.#sentBefore = sent;
    if (moves) {
      this.#timer?.refresh();
      return;
    }
    this.#context.runInAsyncScope(() => this.emit('timeout'));
  }

  // ---- options of the connection

  setNoDelay(enable?: boolean): this {
    const wanted = enable === undefined ? true : Boolean(enable);
    if (wanted !== this.#noDelay) this._handle?.handle.setNoDelay(wanted);
    this.#noDelay = wanted;
    return this;
  }

  setKeepAlive(
    enable?: boolean | api.KeepAliveOptions,
    initialDelay?: number,
    interval?: number,
    count?: number,
  ): this {
    const given = typeof enable === 'object' ? enable : { enable, initialDelay, interval, count };
    const { enable: wanted } = given;
    const keepAlive = wanted ? keepAliveOf(given) : undefined;
    if (!isDeepStrictEqual(keepAlive, this.#keepAlive)) {
      const handle = this._handle?.handle;
      if (keepAlive === undefined) handle?.setKeepAlive(false);
      else if (handle !== undefined) probe(handle, keepAlive);
    }
    this.#keepAlive = keepAlive;
    return this;
  }

  /** A connection that is not there yet gets it when it is. */
  setTypeOfService(typeOfService: number): this {
    if (Number.isNaN(typeOfService)) throw validate.invalidType('tos', 'of type number', NaN);
    this.#typeOfService = validate.integer(typeOfService, 'tos', 0, 255);
    if (this._handle !== null) this.#sendTypeOfService(this._handle.handle);
    return this;
  }

  getTypeOfService(): number {
    return this._handle?.handle.getOptions().typeOfService ?? this.#typeOfService ?? 0;
  }

  /** As Node.js, which ignores that Windows refuses it, and leaves UNIX sockets alone. */
  #sendTypeOfService(handle: TcpSocket<'await'>): void {
    const typeOfService = this.#typeOfService;
    if (typeOfService === undefined || process.platform === 'win32') return;
    if (handle.localFamily !== undefined) handle.setOptions({ typeOfService });
  }

  ref(): this {
    return this.#refer(true);
  }

  unref(): this {
    return this.#refer(false);
  }

  #refer(referenced: boolean): this {
    this._referenced = referenced;
    this.#attempts?.refer(referenced);
    this.#stayAlive();
    return this;
  }

  // ---- what it is

  get pending(): boolean {
    return this._handle === null || this.connecting;
  }

  get _connecting(): boolean {
    return this.connecting;
  }

  get readyState(): 'opening' | 'open' | 'readOnly' | 'writeOnly' | 'closed' {
    if (this.connecting) return 'opening';
    if (this.readable && this.writable) return 'open';
    if (this.readable) return 'readOnly';
    return this.writable ? 'writeOnly' : 'closed';
  }

  get bufferSize(): number | undefined {
    return this._handle !== null || this.connecting ? this.writableLength : undefined;
  }

  get bytesRead(): number {
    return this.#bytesRead;
  }

  get _bytesDispatched(): number {
    return this.bytesDispatched;
  }

  get bytesWritten(): number | undefined {
    if (!(#bytesRead in this)) return undefined; // of the prototype
    const pendingWrite = this.#pendingWrite;
    const waiting = (this as unknown as { writableBuffer?: readonly Piece[] }).writableBuffer ?? [];
    const pending =
      pendingWrite === undefined ? [] : isList(pendingWrite) ? pendingWrite : [pendingWrite];
    let bytes = this.bytesDispatched;
    for (const piece of [...pending, ...waiting]) bytes += lengthOf(piece);
    return bytes;
  }

  address(): ListenerAddress | Record<string, never> {
    return this._getsockname();
  }

  _getsockname(): ListenerAddress | Record<string, never> {
    this.#local ??= this._handle?.handle.address();
    return this.#local ?? {};
  }

  _getpeername(): ListenerAddress | Record<string, never> {
    const handle = this._handle?.handle;
    if (this.#remote === undefined && handle !== undefined) {
      const { remoteAddress: address, remotePort: port, remoteFamily: family } = handle;
      if (address !== undefined) this.#remote = { address, port: port!, family: family! };
    }
    return this.#remote ?? {};
  }

  get localAddress(): string | undefined {
    return this._getsockname().address;
  }

  get localPort(): number | undefined {
    return this._getsockname().port;
  }

  get localFamily(): string | undefined {
    return this._getsockname().family;
  }

  get remoteAddress(): string | undefined {
    return this._getpeername().address;
  }

  get remotePort(): number | undefined {
    return this._getpeername().port;
  }

  get remoteFamily(): string | undefined {
    return this._getpeername().family;
  }
}

/** The peer has ended, and this side ends with it: what is written now can reach nobody. */
function endWritable(this: Socket): void {
  if (!this.allowHalfOpen) this.write = writeAfterEnd as never;
}

function writeAfterEnd(
  this: Socket,
  chunk: unknown,
  encoding?: BufferEncoding | Done,
  callback?: Done,
): boolean {
  if (!this.writableEnded)
    return Duplex.prototype.write.call(this, chunk, encoding as never, callback as never);
  const done = typeof encoding === 'function' ? encoding : callback;
  const error = coded(new Error('This socket has been ended by the other party'), 'EPIPE');
  if (typeof done === 'function') nextTick(done, error);
  this.destroy(error);
  return false;
}

function isList(what: Piece | readonly Piece[]): what is readonly Piece[] {
  return Array.isArray(what);
}

/** As native code takes it: strings are UTF-8 there. */
function dataOf({ chunk, encoding }: Piece): Data {
  if (typeof chunk !== 'string') return chunk;
  const isUtf8 = encoding === 'utf8' || encoding === 'utf-8' || encoding === undefined;
  return isUtf8 ? chunk : Buffer.from(chunk, encoding);
}

function lengthOf({ chunk, encoding }: Piece): number {
  return typeof chunk === 'string' ? Buffer.byteLength(chunk, encoding) : chunk.length;
}

function check(options: SocketOptions): void {
  for (const name of NO_OBJECTS) {
    if (!options[name]) continue;
    const reason = 'is not supported';
    throw validate.invalidValue(`options.${name}`, reason, options[name]);
  }
  if (options.keepAliveInitialDelay !== undefined) {
    validate.number(options.keepAliveInitialDelay, 'options.keepAliveInitialDelay');
  }
  checkBlockList(options.blockList);
  if (options.fd !== undefined) {
    throw unsupported('sockets of descriptors are node:net’s own');
  }
}

function checkBlockList(list: unknown): void {
  if (list === undefined || list instanceof net.BlockList) return;
  throw validate.invalidType('options.blockList', 'an instance of net.BlockList', list);
}

function marksOf(options: SocketOptions): object {
  const { highWaterMark, readableHighWaterMark, writableHighWaterMark } = options;
  const marks = { highWaterMark, readableHighWaterMark, writableHighWaterMark };
  return Object.fromEntries(Object.entries(marks).filter(([, mark]) => mark !== undefined));
}

function handleOf(handle: unknown): TcpSocket<'await'> {
  if (handle instanceof TcpSocket && handle.style === 'await') {
    if (handle.closed) throw invalidState('The connection is closed');
    if (handle.type !== 'stream') throw unsupported('a stream has no borders of messages');
    return handle as TcpSocket<'await'>;
  }
  throw validate.invalidType('options.handle', 'a SocketHandle', handle);
}

/** What is out of range Node.js would take for the nearest that is in it, or for what is usual. */
export function keepAliveIn(options: object): KeepAlive {
  const { keepAliveInitialDelay, keepAliveInterval, keepAliveCount } = options as SocketOptions;
  return keepAliveOf({
    initialDelay: keepAliveInitialDelay,
    interval: keepAliveInterval,
    count: keepAliveCount,
  });
}

function keepAliveOf({ initialDelay, interval, count }: api.KeepAliveOptions): KeepAlive {
  return {
    initialDelay: atMost(LONGEST_KEEP_ALIVE, initialDelay),
    interval: atMost(LONGEST_KEEP_ALIVE, interval) || undefined,
    count: atMost(MOST_PROBES, count) || undefined,
  };
}

function probe(handle: TcpSocket<'await'>, { initialDelay, interval, count }: KeepAlive): void {
  handle.setKeepAlive(true, initialDelay, interval, count);
}

/** A whole number from 0 to `most`. */
function atMost(most: number, value: unknown): number {
  return Math.min(most, Math.max(0, Math.trunc(Number(value ?? 0)) || 0));
}

function typeOfServiceIn(options: object): number | undefined {
  const { typeOfService } = options as SocketOptions;
  if (typeOfService === undefined) return undefined;
  return validate.integer(typeOfService, 'options.typeOfService', 0, 255);
}

function pathTarget(given: unknown): Target {
  const path = validate.string(given, 'options.path');
  return { host: '', port: 0, path, autoSelectFamily: false, attemptTimeout: 0 };
}

/** Checks what `connect` was given, but for paths. */
function targetOf(options: Record<string, unknown>): Target {
  const { localAddress, localPort, autoSelectFamily, autoSelectFamilyAttemptTimeout } = options;
  if (localAddress && net.isIP(localAddress as string) === 0) throw invalidAddress(localAddress);
  if (localPort) validate.number(localPort, 'options.localPort');
  const { port } = options;
  if (typeof port !== 'number' && typeof port !== 'string') {
    throw validate.invalidType('options.port', 'one of type number or string', port);
  }
  optionalBoolean(autoSelectFamily, 'options.autoSelectFamily');
  checkBlockList(options['blockList']);
  const host = options['host'] ? validate.string(options['host'], 'options.host') : 'localhost';
  return {
    host,
    port: portNumber(port, 'options.port'),
    family: options['family'] as number | undefined,
    hints: options['hints'] as number | undefined,
    lookup: options['lookup'] as Target['lookup'],
    autoSelectFamily: (autoSelectFamily as boolean | undefined) ?? net.getDefaultAutoSelectFamily(),
    attemptTimeout: attemptTimeoutOf(autoSelectFamilyAttemptTimeout),
    localAddress: (localAddress as string | undefined) || undefined,
    localPort: localPort ? portNumber(localPort, 'options.localPort') : undefined,
  };
}

function attemptTimeoutOf(given: unknown): number {
  if (given === undefined) return net.getDefaultAutoSelectFamilyAttemptTimeout();
  validate.integer(given, 'options.autoSelectFamilyAttemptTimeout', 1, 2 ** 31 - 1);
  return Math.max(SHORTEST_ATTEMPT, given as number);
}
