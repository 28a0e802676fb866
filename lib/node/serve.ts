/**
 * Servers of Node.js in several threads, behind one listening socket.
 *
 * A connection is accepted by native code and given to one of the threads (native/driver's
 * acceptor), which makes a handle of Node.js of the descriptor and gives that to its server, as
 * the server's own listening handle would. So everything behind it is Node.js's own.
 */
import { closeSync } from 'node:fs';
import { Server, Socket } from 'node:net';
import { inspect } from 'node:util';
import { listenOnFirst, socketPath } from '../handles/opening';
import {
  binding,
  type NativeListener,
  type NativeListenerRequest,
  type NativeSeat,
} from '../native/binding';
import { coded, handleClosed, invalidState, notSupported, systemError } from '../support/errors';
import { EBADF } from '../support/errno';
import { mayUseNet } from '../support/permission';
import * as validate from '../support/validate';
import type * as api from './api';

/** In the order of native/driver/linux/acceptor.h. */
const policies = ['least-connections', 'lifo', 'round-robin'] as const;

/** Connections that a server is given before its event loop goes on. */
const MOST_TOGETHER = 32;

const OPTIONS = ['host', 'port', 'path', 'fd', 'backlog', 'ipv6Only', 'reusePort', 'policy'];

/** What net.Server and its handle have of each other, in all versions, for node:cluster's sake. */
interface Internals {
  _handle: unknown;
  _connections: number;
  _pipeName?: string;
  _listen2(address: string | null, port: number | null, family: number, backlog: number): void;
}

/** A handle of Node.js for a connection: TCP or Pipe. */
interface ClientHandle {
  open(descriptor: number): number;
  close(): void;
}
type ClientClass = new (type: number) => ClientHandle;
/** `TCP.SOCKET` and `Pipe.SOCKET`. */
const SOCKET = 0;

/**
 * Listens for servers of several threads: give its `token` to the threads that call `serve`. It
 * accepts nothing before one of them does. A second call with the same `host` and `port`, or `fd`,
 * in whichever thread shares the listener of the first, whose other options hold. Rejects as
 * `net.Server` emits (`EADDRINUSE`, …); Linux alone, `ENOTSUP` elsewhere.
 */
export async function shareListener(
  options: api.SharedListenerOptions,
): Promise<api.SharedListener> {
  return new OpenListener(await listenerOf(options));
}

/**
 * Has the server of this thread serve connections that threads of the process share: in the place of
 * `server.listen`. Any server that is a `net.Server` does: of node:http, https, http2, net or tls, and
 * so those of the frameworks upon them. `listener`: what `shareListener` gave, its `token`, or its
 * options, which need no call before: threads that name the same `host` and `port` find to one
 * another.
 *
 * Resolves to the server when it listens. From then on its `address`, `close`, `ref`, `unref`,
 * `getConnections`, `maxConnections` and `drop` are as ever, each for this thread; `close` leaves the
 * listener to the other threads. A thread whose event loop does not come for a connection for 10 ms
 * gets no more of them until it does, and what it was given goes to others, as when it ends.
 *
 * Rejects as `net.Server` emits; `ERR_INVALID_STATE` where the server listens already,
 * `ERR_HANDLE_CLOSED` for a listener that is closed, `ENOTSUP` outside of Linux.
 */
export async function serve<S extends Server>(
  server: S,
  listener: api.SharedListener | api.SharedListenerToken | api.SharedListenerOptions,
): Promise<S> {
  if (!(server instanceof Server)) {
    throw validate.invalidType('server', 'an instance of net.Server', server);
  }
  const native = await holdOn(listener);
  try {
    if (server.listening) throw invalidState('The server listens already');
    attach(server, native);
  } finally {
    native.release();
  }
  await new Promise<void>((resolve) => {
    server.once('listening', resolve).once('close', resolve);
  });
  return server;
}

function attach(server: Server, native: NativeListener): void {
  checkInternals(server);
  const handle = new SharedHandle(server, native);
  const internals = server as unknown as Internals;
  internals._handle = handle;
  const { address = '', port = 0, family } = native.address() ?? {};
  if (family === 'unix') internals._pipeName = address;
  internals._listen2(address, port, family === 'IPv6' ? 6 : 4, 0);
}

/**
 * What `serve` relies on has been there since the first versions of Node.js, but nothing promises it:
 * a version without it is to be told from a program's mistake, before anything was taken.
 */
function checkInternals(server: Server): void {
  const internals = server as unknown as Partial<Internals>;
  if (typeof internals._listen2 !== 'function') throw missing('_listen2');
  if (internals._handle === undefined) throw missing('_handle');
  if (typeof internals._connections !== 'number') throw missing('_connections');
}

function missing(name: string): Error {
  const reason = `net.Server of Node.js ${process.version} has no ${name}, which this needs`;
  return notSupported('serve', `${reason}: listenOver does without`);
}

/** What a server of Node.js calls its handle, as far as it asks of one. */
class SharedHandle {
  /** As Node.js's handles of UNIX sockets have none. */
  readonly getsockname?: (out: object) => number;
  /** Written by the server. */
  declare onconnection: (error: number, client: ClientHandle) => void;
  private readonly server: Server;
  private readonly seat: NativeSeat;
  private readonly Client: ClientClass;

  constructor(server: Server, native: NativeListener) {
    this.server = server;
    const address = native.address();
    if (address?.family !== 'unix') {
      this.getsockname = (out) => {
        Object.assign(out, address);
        return 0;
      };
    }
    this.Client = clientClassOf(native);
    this.seat = native.join(binding.Seat);
    countConnections(server, new Int32Array(this.seat.open));
  }

  listen(): number {
    this.seat.start(() => this.deliver());
    this.seat.ref();
    return 0;
  }

  ref(): void {
    this.seat.ref();
  }

  unref(): void {
    this.seat.unref();
  }

  close(): void {
    this.seat.leave();
  }

  /**
   * Nothing stands between `take` and `open` at which V8 could end the thread: nobody else closes
   * the descriptor, and once it is open the handle does.
   */
  private deliver(): void {
    const { seat, Client } = this;
    for (let i = 0; i < MOST_TOGETHER && seat.waits(); i++) {
      const client = new Client(SOCKET);
      const descriptor = seat.take();
      const error = client.open(descriptor);
      if (error === 0) {
        this.onconnection(0, client);
        continue;
      }
      client.close();
      if (descriptor >= 0) closeSync(descriptor);
    }
    if (seat.closed() && this.server.listening) this.server.close();
  }
}

/** The class of Node.js's handles of such connections, which it exports to nobody. */
function clientClassOf(native: NativeListener): ClientClass {
  const fd = native.duplicate();
  if (fd < 0) throw systemError(fd, 'dup', { net: true });
  const socket = new Socket({ fd, readable: false, writable: false });
  const { _handle } = socket as unknown as { _handle: Partial<ClientHandle> | null };
  socket.destroy();
  if (typeof _handle?.open !== 'function') throw missing('handle to open');
  return _handle.constructor as ClientClass;
}

/** The policy sees how many connections the server has, when it sees that itself. */
function countConnections(server: Server, count: Int32Array): void {
  count[0] = (server as unknown as Internals)._connections;
  Object.defineProperty(server, '_connections', {
    configurable: true,
    enumerable: true,
    get: () => count[0],
    set: (connections: number) => {
      count[0] = connections;
    },
  });
}

// ---- the listener -----------------------------------------------------------------------------

/** Those of this thread that are open: the program may have no more than their tokens. */
const open = new Set<OpenListener>();

class OpenListener implements api.SharedListener {
  readonly token: api.SharedListenerToken;
  private readonly native: NativeListener;
  private closing: Promise<void> | undefined = undefined;

  constructor(native: NativeListener) {
    this.native = native;
    this.token = Object.freeze({ sharedListener: native.id, instance: binding.instance });
    open.add(this);
  }

  get closed(): boolean {
    return this.closing !== undefined;
  }

  address(): ReturnType<api.SharedListener['address']> {
    return this.native.address();
  }

  stats(): api.SharedListenerStats {
    return this.native.stats();
  }

  close(): Promise<void> {
    if (this.closing !== undefined) return this.closing;
    this.native.close();
    this.native.release();
    open.delete(this);
    return (this.closing = Promise.resolve());
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  [inspect.custom](_depth: number, options: object, show: typeof inspect): string {
    const state = this.closed ? 'closed' : 'open';
    return `SharedListener ${show({ address: this.address(), state, ...this.stats() }, options)}`;
  }
}

/** A hold on the listener, for the caller to release. */
async function holdOn(
  listener: api.SharedListener | api.SharedListenerToken | api.SharedListenerOptions,
): Promise<NativeListener> {
  if (typeof listener !== 'object' || (listener as unknown) === null) {
    throw validate.invalidType('listener', 'of type object', listener);
  }
  const token = listener instanceof OpenListener ? listener.token : listener;
  if (!('sharedListener' in token)) return listenerOf(token as api.SharedListenerOptions);
  if (token.instance !== binding.instance) {
    const message = 'The listener belongs to another copy of completion-port, or another process';
    throw coded(new Error(message), 'ERR_PORT_FOREIGN');
  }
  validate.u32(token.sharedListener, 'listener.sharedListener');
  const result = made(token.sharedListener);
  if (result === EBADF) throw handleClosed();
  if (typeof result === 'number') throw systemError(result, 'listen', { net: true });
  return result;
}

async function listenerOf(options: api.SharedListenerOptions): Promise<NativeListener> {
  validate.knownOfPlace(options, OPTIONS);
  const { host, path, fd, backlog = 511, ipv6Only = false, reusePort = false } = options;
  const policy = validate.oneOf(options.policy ?? policies[0], 'options.policy', policies);
  validate.integer(backlog, 'options.backlog', 1, 0x7fffffff);
  validate.boolean(ipv6Only, 'options.ipv6Only');
  validate.boolean(reusePort, 'options.reusePort');
  if (host !== undefined) validate.string(host, 'options.host');
  const how = { policy: policies.indexOf(policy), backlog, ipv6Only, reusePort };
  if (fd !== undefined) return listenerOfDescriptor(fd, how);
  if (path !== undefined) return listenerAt(path, how);
  const port = validate.tcpPort(options.port, 'options.port');
  mayUseNet(host || '::');
  const name = port === 0 ? '' : JSON.stringify([host || '', port]);
  let native: NativeListener | undefined;
  await listenOnFirst({ host, port }, (address) => {
    const result = made({ ...how, name, address, port });
    if (typeof result === 'number') return result;
    native = result;
    return 0;
  });
  return native!;
}

type How = Pick<NativeListenerRequest, 'policy' | 'backlog' | 'ipv6Only' | 'reusePort'>;

function listenerAt(path: string, how: How): NativeListener {
  const address = socketPath(path);
  mayUseNet(path);
  const result = made({ ...how, name: address, address, port: 0 });
  if (typeof result === 'number') throw systemError(result, 'listen', { net: true, address: path });
  return result;
}

function listenerOfDescriptor(fd: number, how: How): NativeListener {
  validate.integer(fd, 'options.fd', 0, 0x7fffffff);
  const result = made({ ...how, name: `fd ${fd}`, descriptor: fd });
  if (typeof result === 'number') throw systemError(result, 'listen', { net: true });
  return result;
}

/** A hold, or a negative errno. */
function made(which: number | NativeListenerRequest): NativeListener | number {
  const { Listener } = binding;
  if (Listener === undefined)
    throw notSupported('listen', 'Node.js opens no descriptor of a socket there');
  try {
    return new Listener(which);
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    if (errno === undefined) throw error;
    return errno;
  }
}
