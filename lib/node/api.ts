/**
 * The public types of Node's doors (`completion-port/node` and `completion-port/node/net`).
 *
 * What is not said here is as node:net has it: names, defaults, events and errors are Node's.
 */
import type * as http from 'node:http';
import type * as https from 'node:https';
import type * as net from 'node:net';
import type * as tls from 'node:tls';
import type { CompletionPort, KeyOption, ListenerAddress, SocketHandle } from '../api';

/** Which port carries connections out. */
export interface OverOptions {
  /**
   * The port. Default: one that each thread has for itself, made with the first socket or server
   * that names none, with the defaults of `new CompletionPort()` but for `concurrency`, 1.
   */
  readonly over?: CompletionPort | undefined;
}

/** What `setKeepAlive` takes in one object: the times in milliseconds. */
export interface KeepAliveOptions {
  readonly enable?: boolean | undefined;
  /** Before the first probe. Default: 0, two hours. */
  readonly initialDelay?: number | undefined;
  /** Between probes, in whole seconds. Default: 1000. */
  readonly interval?: number | undefined;
  /** Probes without an answer that end the connection. Default: 10. */
  readonly count?: number | undefined;
}

interface ProbeOptions {
  /** Milliseconds between keepalive's probes, in whole seconds. Default: 1000. */
  readonly keepAliveInterval?: number | undefined;
  /** Probes without an answer that end the connection. Default: 10. */
  readonly keepAliveCount?: number | undefined;
}

/** What `new Socket` takes. */
export interface SocketOptions
  extends Omit<net.SocketConstructorOpts, 'fd'>, OverOptions, ProbeOptions {
  /** As that of `port.connect`. */
  readonly typeOfService?: number | undefined;
  /** A connection of a port's that becomes a stream; it is the stream's from then on. */
  readonly handle?: SocketHandle | undefined;
  /** Bytes that the stream holds in each direction before it says that it is enough. */
  readonly highWaterMark?: number | undefined;
}

/** What `createServer` takes. */
export interface ServerOptions extends net.ServerOpts, OverOptions, ProbeOptions {
  /** Connections from these addresses are closed as they come, with a `drop` event. */
  readonly blockList?: net.BlockList | undefined;
}

/** What `connect` takes. */
export type ConnectOptions = (net.TcpSocketConnectOpts | net.IpcSocketConnectOpts) &
  SocketOptions & { timeout?: number | undefined };

/**
 * `net.Socket` over a port: a `stream.Duplex` with Node's methods, properties and events. Not an
 * `instanceof` Node's own class. On Windows `connect({ path })` takes the name of a pipe.
 * What is received is copied once, into Buffers that stay; what is written is copied when it is
 * submitted, so its memory is the program's again at once, but for writes of more than 256 KiB, which
 * are copied in parts as they go out.
 */
export interface Socket extends net.Socket {
  connect(options: ConnectOptions, listener?: () => void): this;
  connect(port: number, host: string, listener?: () => void): this;
  connect(port: number, listener?: () => void): this;
  connect(path: string, listener?: () => void): this;
  connect(options: net.SocketConnectOpts, listener?: () => void): this;
  /** In Node's newer form, too: `interval` and `count` are as in `KeepAliveOptions`. */
  setKeepAlive(enable?: boolean, initialDelay?: number, interval?: number, count?: number): this;
  setKeepAlive(options: KeepAliveOptions): this;
  /** The byte of that name in each packet, 0 to 255, as in newer versions of Node.js. */
  setTypeOfService(typeOfService: number): this;
  getTypeOfService(): number;
}

/** The class; may be called without `new`, as Node's. */
export interface SocketConstructor {
  readonly prototype: Socket;
  new (options?: SocketOptions): Socket;
  (options?: SocketOptions): Socket;
}

/** `net.Server` over a port. `listen({ fd })` throws `ENOTSUP`. */
export type Server = net.Server;

/** The class; may be called without `new`, as Node's. */
export interface ServerConstructor {
  readonly prototype: Server;
  new (
    options?: ServerOptions | ((socket: Socket) => void),
    listener?: (socket: Socket) => void,
  ): Server;
  (
    options?: ServerOptions | ((socket: Socket) => void),
    listener?: (socket: Socket) => void,
  ): Server;
}

/** What `sendFile` takes. */
export interface SendFileOptions {
  /** Where in the file to begin. Default: 0. */
  readonly position?: number | undefined;
  /** Bytes to send at most. Default: up to the end of the file. */
  readonly length?: number | undefined;
}

/** What Fastify gives to `serverFactory`. */
export interface FactoryOptions {
  readonly http?: unknown;
  readonly https?: unknown;
}

/** What undici gives to `connect`. */
export interface UndiciConnectOptions {
  readonly hostname: string;
  readonly host?: string | undefined;
  readonly protocol: string;
  readonly port: string;
  readonly servername?: string | null | undefined;
}

/** Those of ioredis that its connector looks at. */
export interface IoredisOptions {
  readonly host?: string | undefined;
  readonly port?: number | undefined;
  readonly tls?: tls.ConnectionOptions | boolean | undefined;
}

/** What ioredis takes as `Connector`. */
export type IoredisConnector = new (options: IoredisOptions) => {
  connecting: boolean;
  check(): boolean;
  connect(): Promise<net.Socket>;
  disconnect(): void;
};

/** What `over` returns: each under the name by which a package asks for it. */
export interface Doors {
  /** `http.createServer`, listening over the port. */
  createServer(listener?: http.RequestListener): http.Server;
  createServer(options: http.ServerOptions, listener?: http.RequestListener): http.Server;
  /** `https.createServer`, listening over the port. */
  createSecureServer(options: https.ServerOptions, listener?: http.RequestListener): https.Server;
  /** Fastify: `fastify({ serverFactory })`. */
  serverFactory(handler: http.RequestListener, options: FactoryOptions): http.Server;
  /** `http.request({ createConnection })`, and of an `http.Agent`. */
  createConnection(options: object): net.Socket;
  /** `https.request({ createConnection })`. */
  createSecureConnection(options: tls.ConnectionOptions): tls.TLSSocket;
  /** undici: `new Agent({ connect })`. */
  connect(
    options: UndiciConnectOptions,
    callback: (error: Error | null, socket: net.Socket | null) => void,
  ): void;
  /** pg: `new Client({ stream })`. */
  stream(): net.Socket;
  /** ioredis: `new Redis({ Connector })`. */
  readonly Connector: IoredisConnector;
}

// ---- one listener for several threads

/**
 * Which thread gets a new connection, of those whose event loop comes for what it is given:
 * - `'least-connections'`: the one with the fewest open ones. For servers whose connections live
 *   long, and as a rule.
 * - `'lifo'`: the one that took a connection last, as long as nothing waits for it: few threads do
 *   all the work while there is little of it, and their caches stay warm.
 * - `'round-robin'`: one after another.
 */
export type SharePolicy = 'least-connections' | 'lifo' | 'round-robin';

/** Where threads of the process listen together. */
export interface SharedListenerOptions {
  /** Name or address. Default: `'::'`, or `'0.0.0.0'` where there is no IPv6. */
  readonly host?: string | undefined;
  /** 0: one the system picks, for this call alone; other threads then need the `token`. */
  readonly port?: number | undefined;
  /**
   * The path of a UNIX socket, as `port.listen` takes it: in the place of `port`. `ENOTSUP` on
   * Windows.
   */
  readonly path?: string | undefined;
  /**
   * A socket that listens already, such as the first of systemd's (`LISTEN_FDS`), 3: in the place of
   * `port`. It is duplicated, and made non-blocking; the number stays the caller's. `ENOTSUP` on
   * Windows.
   */
  readonly fd?: number | undefined;
  /** Connections that wait to be accepted at most. Default: 511. */
  readonly backlog?: number | undefined;
  /** IPV6_V6ONLY. Default: false. */
  readonly ipv6Only?: boolean | undefined;
  /** SO_REUSEPORT, for other processes. Default: false. `ENOTSUP` on Windows. */
  readonly reusePort?: boolean | undefined;
  /** Which thread gets a new connection. Default: `'least-connections'`. */
  readonly policy?: SharePolicy | undefined;
}

/** Names a shared listener to other threads of the process: a plain value, for `workerData`. */
export interface SharedListenerToken {
  readonly sharedListener: number;
  /** Names the copy of the package, in this process, that the listener belongs to. */
  readonly instance: string;
}

/** What `sharedListener.stats()` returns. */
export interface SharedListenerStats {
  /** Threads that serve it. */
  readonly threads: number;
  /** Open connections of their servers. */
  readonly connections: number;
  /** Connections that were accepted and that no thread has come for yet. */
  readonly waiting: number;
  /** Connections accepted so far. */
  readonly accepted: number;
  /** Connections that went to another thread than `policy` says: that one was busy, or has gone. */
  readonly moved: number;
}

/**
 * A listening socket that servers of several threads share: `await shareListener({ port })`. It is
 * open as long as this object is, or a thread serves it.
 */
export interface SharedListener extends AsyncDisposable {
  /** For `serve` in other threads. */
  readonly token: SharedListenerToken;
  /** Whether it was closed here. */
  readonly closed: boolean;
  /** Where it listens; undefined when it is closed. */
  address(): ListenerAddress | undefined;
  stats(): SharedListenerStats;
  /**
   * Closes it for all threads: no connection is accepted any more, and each thread's server is
   * closed as by `server.close()`, which lets its connections end. The same promise each time.
   */
  close(): Promise<void>;
  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** What `adoptSocket` and `adoptServer` take. */
export interface AdoptOptions<K extends KeyOption | undefined = undefined> {
  /** Makes it answer in packets. Default: none, it is awaited. */
  readonly key?: K;
}

/** What `adoptSocket` returns. */
export interface AdoptedSocket<H> {
  readonly handle: H;
  /** What Node.js had read already, and what comes before all that the handle receives. */
  readonly head: Buffer;
}
