/**
 * `net.Server` over a port: connections are accepted ahead, as many as come, and each becomes a
 * `Socket`.
 */
import { EventEmitter, captureRejectionSymbol } from 'node:events';
import net = require('node:net');
import dns = require('node:dns');
import type { ListenerAddress } from '../../api';
import { handleAt, Slot, SubmissionFlag } from '../../native/layout';
import { Kind } from '../../native/kinds';
import { ECANCELED } from '../../support/errno';
import { failure, systemError } from '../../support/errors';
import { endWith, outlive } from '../../support/lifetime';
import { mayUseNet } from '../../support/permission';
import { nextTick, setTimeout } from '../../support/timers';
import * as validate from '../../support/validate';
import { TcpListener } from '../../handles/listener';
import { listenOnOneOf, makeAccessible, socketPath } from '../../handles/opening';
import { SocketSettings } from '../../handles/socket-options';
import { TcpSocket } from '../../handles/socket';
import type { Entry, PortThread } from '../../thread/port-thread';
import { portGiven, portOf } from '../default-port';
import { given } from './arguments';
import { serverListen, serverSocket } from './channels';
import { alreadyListening, notRunning, portNumber, unsupported } from './node-errors';
import { keepAliveIn, Socket, type Owner } from './socket';

export interface ServerOptions {
  readonly over?: unknown;
  readonly allowHalfOpen?: boolean;
  readonly pauseOnConnect?: boolean;
  readonly noDelay?: boolean;
  readonly keepAlive?: boolean;
  readonly keepAliveInitialDelay?: number;
  readonly keepAliveInterval?: number;
  readonly keepAliveCount?: number;
  readonly highWaterMark?: number;
  readonly blockList?: net.BlockList;
}

type Callback = (error?: Error) => void;
type Address = ListenerAddress;

const BACKLOG = 511;
/** After an accept has failed, for lack of descriptors perhaps. */
const PAUSE = 100;

export class Server extends EventEmitter implements Owner {
  allowHalfOpen: boolean;
  pauseOnConnect: boolean;
  noDelay: boolean;
  keepAlive: boolean;
  keepAliveInitialDelay: number;
  keepAliveInterval: number | undefined;
  keepAliveCount: number | undefined;
  highWaterMark: number | undefined;
  blockList: net.BlockList | undefined;
  maxConnections: number | undefined = undefined;
  dropMaxConnection = false;
  _handle: TcpListener<'await'> | null = null;
  _connections = 0;
  /** Family, address, and the port that was asked for. */
  _connectionKey: string | undefined = undefined;
  readonly #over: unknown;
  #known: Address | undefined = undefined;
  #referenced = true;
  /** Between `listen` and the first address, and while the listener is being closed. */
  #opening = false;
  #closing = false;
  #accepting: Accepting | undefined = undefined;

  constructor(
    options?: ServerOptions | ((socket: Socket) => void),
    listener?: (socket: Socket) => void,
  ) {
    super();
    const isListener = typeof options === 'function';
    const onConnection = isListener ? options : listener;
    if (!isListener && options !== undefined && options !== null && typeof options !== 'object') {
      throw validate.invalidType('options', 'of type object', options);
    }
    const settings: ServerOptions = isListener ? {} : { ...options };
    if (typeof onConnection === 'function') this.on('connection', onConnection);
    if (settings.keepAliveInitialDelay !== undefined) {
      validate.number(settings.keepAliveInitialDelay, 'options.keepAliveInitialDelay');
    }
    if (settings.highWaterMark !== undefined) {
      const most = Number.MAX_SAFE_INTEGER;
      validate.integer(settings.highWaterMark, 'options.highWaterMark', 0, most);
    }
    if (settings.blockList !== undefined && !(settings.blockList instanceof net.BlockList)) {
      const type = 'an instance of net.BlockList';
      throw validate.invalidType('options.blockList', type, settings.blockList);
    }
    keepAliveIn(settings); // what no number can be made of throws here, not when somebody connects
    this.#over = portGiven(settings.over);
    this.allowHalfOpen = Boolean(settings.allowHalfOpen);
    this.pauseOnConnect = Boolean(settings.pauseOnConnect);
    this.noDelay = Boolean(settings.noDelay);
    this.keepAlive = Boolean(settings.keepAlive);
    this.keepAliveInitialDelay = Math.max(0, settings.keepAliveInitialDelay ?? 0);
    this.keepAliveInterval = settings.keepAliveInterval;
    this.keepAliveCount = settings.keepAliveCount;
    this.highWaterMark = settings.highWaterMark;
    this.blockList = settings.blockList;
  }

  get listening(): boolean {
    return this._handle !== null;
  }

  /** @internal Whether the listener is still there although it was told to close. */
  get isClosing(): boolean {
    return this.#closing;
  }

  listen(...args: unknown[]): this {
    if (this._handle !== null || this.#opening) throw alreadyListening();
    const { options, callback } = given(args);
    const plain = typeof args[0] === 'object' && args[0] !== null;
    if (callback !== undefined) this.once('listening', callback);
    const wanted = wantedOf(options, args, plain);
    if (wanted.signal !== undefined) this.#heed(wanted.signal);
    const { thread: portThread } = portOf(options['over'] ?? this.#over);
    portThread.assertOpen();
    portThread.submissions.assertUnchained();
    mayUseNet(wanted.path ?? (wanted.host || '::'));
    if (serverListen.asyncStart.hasSubscribers) {
      serverListen.asyncStart.publish({ server: this, options });
    }
    if (wanted.path !== undefined) this.#open(portThread, [wanted.path], wanted);
    else if (!wanted.host) this.#open(portThread, ['::', '0.0.0.0'], wanted);
    else if (net.isIP(wanted.host) !== 0) this.#open(portThread, [wanted.host], wanted);
    else this.#resolve(portThread, wanted);
    return this;
  }

  address(): Address | string | null {
    if (this._handle === null) return null;
    this.#known ??= this._handle.address();
    if (this.#known?.family === 'unix') return this.#known.address;
    return this.#known ?? null;
  }

  getConnections(callback: (error: Error | null, count: number) => void): this {
    nextTick(() => callback(null, this._connections));
    return this;
  }

  close(callback?: Callback): this {
    if (typeof callback === 'function') {
      const running = this._handle !== null || this.#opening;
      this.once('close', () => (running ? callback() : callback(notRunning())));
    }
    this.#opening = false;
    const handle = this._handle;
    if (handle !== null) {
      this._handle = null;
      this.#closing = true;
      this.#accepting?.end();
      const closed = (): void => {
        this.#closing = false;
        this.#closeIfDone();
      };
      if (handle.closed || handle.thread.closed) nextTick(closed);
      else handle.close().then(closed, closed);
    } else {
      this.#closeIfDone();
    }
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this._handle === null) return;
    await new Promise<void>((resolve, reject) => {
      this.close((error) => (error ? reject(error) : resolve()));
    });
  }

  ref(): this {
    this.#referenced = true;
    this._handle?.ref();
    return this;
  }

  unref(): this {
    this.#referenced = false;
    this._handle?.unref();
    return this;
  }

  override [captureRejectionSymbol](error: Error, event: string, socket: Socket): void {
    if (event === 'connection') socket.destroy(error);
    else this.emit('error', error);
  }

  /**
   * @internal The server of Node.js that listens in the place of this one, and is the one to say that
   * it is closed.
   */
  _listener: { _emitCloseIfDrained(): void } | undefined = undefined;

  /** @internal A connection is there; `noDelay`: which it has not of a listener of its port. */
  _accepted(handle: TcpSocket<'await'>, noDelay = false): void {
    if (this.maxConnections != null && this._connections >= this.maxConnections) {
      return this.#drop(handle);
    }
    const { blockList } = this;
    if (blockList !== undefined && isBlocked(blockList, handle)) {
      return this.#drop(handle);
    }
    const socket = new Socket({
      handle,
      allowHalfOpen: this.allowHalfOpen,
      pauseOnCreate: this.pauseOnConnect,
      readable: true,
      writable: true,
      noDelay,
      ...(this.highWaterMark === undefined ? {} : { highWaterMark: this.highWaterMark }),
      keepAlive: this.keepAlive,
      keepAliveInitialDelay: this.keepAliveInitialDelay,
      ...(this.keepAliveInterval ? { keepAliveInterval: this.keepAliveInterval } : {}),
      ...(this.keepAliveCount ? { keepAliveCount: this.keepAliveCount } : {}),
    });
    socket.server = this;
    if (!socket.destroyed) {
      this._connections++;
      socket._server = this;
    }
    this.emit('connection', socket);
    if (serverSocket.hasSubscribers) serverSocket.publish({ socket });
  }

  /** @internal */
  _acceptFailed(error: Error): void {
    this.emit('error', error);
  }

  /** @internal */
  _connectionEnded(): void {
    this._connections--;
    if (this._listener === undefined) this.#closeIfDone();
    else this._listener._emitCloseIfDrained();
  }

  #closeIfDone(): void {
    if (this._handle !== null || this.#closing || this._connections > 0) return;
    nextTick(() => {
      if (this._handle === null && this._connections === 0) this.emit('close');
    });
  }

  #drop(handle: TcpSocket<'await'>): void {
    const { localAddress, localPort, localFamily } = handle;
    const { remoteAddress, remotePort, remoteFamily } = handle;
    handle.closeQuietly();
    this.emit('drop', {
      localAddress,
      localPort,
      localFamily,
      remoteAddress,
      remotePort,
      remoteFamily,
    });
  }

  #heed(signal: AbortSignal): void {
    const close = (): unknown => this.close();
    if (signal.aborted) {
      nextTick(close);
      return;
    }
    const life = { onAbort: close };
    endWith(signal, life);
    this.once('close', () => outlive(signal, life));
  }

  #resolve(portThread: PortThread, wanted: Wanted): void {
    this.#opening = true;
    dns.lookup(wanted.host!, (error, address) => {
      if (!this.#opening) return;
      this.#opening = false;
      if (error) this.emit('error', error);
      else this.#open(portThread, [address], wanted);
    });
  }

  /** Listens on the first of `addresses` that there is, or at the path. */
  #open(portThread: PortThread, addresses: readonly string[], wanted: Wanted): void {
    const { port, path, backlog, reusePort, ipv6Only } = wanted;
    const { native } = portThread;
    portThread.flush();
    const { result: id, address } = listenOnOneOf(addresses, (one) => {
      const place = path === undefined ? one : socketPath(path);
      const access = SocketSettings.ofAccess(wanted).array;
      const { noDelay } = this;
      return native.listen(place, port, backlog, reusePort, ipv6Only, -1, false, noDelay, access);
    });
    if (id < 0) {
      const at = path === undefined ? { address, port } : { address };
      const error = systemError(id, 'listen', { net: true, ...at });
      if (serverListen.error.hasSubscribers) serverListen.error.publish({ server: this, error });
      nextTick(() => this.emit('error', error));
      return;
    }
    makeAccessible(portThread, id, wanted);
    const handle = new TcpListener<'await'>(portThread, id, undefined, this.#referenced);
    this._handle = handle;
    this._connectionKey = keyOf(address, wanted);
    this.#known = undefined;
    this.#accepting = new Accepting(handle, this);
    this.#accepting.begin();
    if (serverListen.asyncEnd.hasSubscribers) serverListen.asyncEnd.publish({ server: this });
    nextTick(() => {
      if (this._handle === handle) this.emit('listening');
    });
  }
}

/** Accepts whatever comes, until the listener is closed. */
class Accepting implements Entry {
  private over = false;

  constructor(
    private readonly handle: TcpListener<'await'>,
    private readonly server: Server,
  ) {}

  begin(): void {
    const { handle } = this;
    const { thread: portThread } = handle;
    if (this.over || handle.closed || portThread.closed) return;
    portThread.submissions.accept(handle.id, portThread.add(this), SubmissionFlag.Multishot);
  }

  end(): void {
    this.over = true;
  }

  answered(error: number, _result: number, at: number, more: boolean): void {
    const { thread: portThread } = this.handle;
    if (error === 0) {
      const id = handleAt(portThread.words, at + Slot.ACCEPTED / 4);
      // A listener of `connection` that throws stops nothing.
      try {
        this.take(new TcpSocket<'await'>(portThread, id, undefined, true));
      } finally {
        if (!more) this.begin();
      }
      return;
    }
    if (more || this.over) return;
    if (error === ECANCELED || portThread.closed) return;
    setTimeout(() => this.begin(), PAUSE).unref();
    this.server._acceptFailed(failure(error, Kind.Accept, { net: true }));
  }

  private take(socket: TcpSocket<'await'>): void {
    if (this.over) socket.closeQuietly();
    else this.server._accepted(socket);
  }
}

interface Wanted {
  readonly host: string | undefined;
  readonly port: number;
  /** Of a UNIX socket. */
  readonly path?: string | undefined;
  readonly readableAll?: boolean | undefined;
  readonly writableAll?: boolean | undefined;
  readonly backlog: number;
  readonly reusePort: boolean;
  readonly ipv6Only: boolean;
  readonly signal: AbortSignal | undefined;
}

/** What `listen` is asked for. `plain`: by an object of options. */
function wantedOf(
  options: Record<string, unknown>,
  args: readonly unknown[],
  plain: boolean,
): Wanted {
  const { host, port, path, signal } = options;
  const elsewhere = ['path', 'fd', '_handle', 'handle'].find((name) =>
    isGiven(name, options[name]),
  );
  if (signal !== undefined) validate.signal(signal);
  if (!plain || typeof port === 'number' || typeof port === 'string') {
    if (port !== undefined && port !== null && path === undefined) {
      if (typeof port !== 'number' && typeof port !== 'string') throw invalidListen(options);
      portNumber(port, 'options.port');
    }
  }
  const backlog = backlogOf(
    options['backlog'] ?? args[plain ? 1 : typeof args[1] === 'number' ? 1 : 2],
  );
  const settings = {
    host: typeof host === 'string' ? host : undefined,
    backlog,
    reusePort: Boolean(options['reusePort']),
    ipv6Only: Boolean(options['ipv6Only']),
    signal: signal as AbortSignal | undefined,
  };
  const free = args.length === 0 || typeof args[0] === 'function';
  if (free || (!plain && (port === undefined || port === null) && path === undefined)) {
    return { ...settings, port: 0 };
  }
  if (typeof port === 'number' || typeof port === 'string') {
    return { ...settings, port: portNumber(port, 'options.port') };
  }
  if (elsewhere !== undefined) {
    if (elsewhere === 'path') {
      socketPath(path);
      const modes = {
        readableAll: Boolean(options['readableAll']),
        writableAll: Boolean(options['writableAll']),
      };
      return { ...settings, ...modes, port: 0, path: path as string };
    }
    throw unsupported(`listen({ ${elsewhere} }) is node:net’s own: use a port`);
  }
  if (plain && 'port' in options && (port === undefined || port === null)) {
    return { ...settings, port: 0 };
  }
  throw invalidListen(options);
}

function keyOf(address: string, { port, path }: Wanted): string {
  if (path !== undefined) return `-1:${path}:-1`;
  return `${address.includes(':') ? 6 : 4}:${address}:${port}`;
}

function isGiven(name: string, value: unknown): boolean {
  if (name === 'fd') return typeof value === 'number' && value >= 0;
  if (name === 'path') return typeof value === 'string';
  return typeof value === 'object' && value !== null;
}

function invalidListen(options: object): TypeError {
  const named = 'port' in options || 'path' in options;
  const reason = named ? 'is invalid' : 'must have the property "port" or "path"';
  return validate.invalidValue('options', reason, options);
}

function backlogOf(value: unknown): number {
  const backlog = Number(value);
  return backlog > 0 ? Math.trunc(backlog) : BACKLOG;
}

function isBlocked(list: net.BlockList, handle: TcpSocket<'await'>): boolean {
  const { remoteAddress, remoteFamily } = handle;
  if (remoteAddress === undefined) return false;
  return list.check(remoteAddress, remoteFamily === 'IPv6' ? 'ipv6' : 'ipv4');
}
