/**
 * Servers of Node.js in several threads, behind one listening socket.
 *
 * A connection is accepted by native code and given to one of the threads (native/driver's
 * acceptor), which has its server serve it (`sharing/`).
 */
import { Server } from 'node:net';
import { inspect } from 'node:util';
import { listenOnFirst, socketPath } from '../handles/opening';
import { binding, type NativeListener, type NativeListenerRequest } from '../native/binding';
import { coded, handleClosed, invalidState, notSupported, systemError } from '../support/errors';
import { EBADF } from '../support/errno';
import { mayUseNet } from '../support/permission';
import * as validate from '../support/validate';
import type * as api from './api';
import { attach } from './sharing/attach';

/** In the order of native/driver/acceptor.h. */
const policies = ['least-connections', 'lifo', 'round-robin'] as const;

const OPTIONS = ['host', 'port', 'path', 'fd', 'backlog', 'ipv6Only', 'reusePort', 'policy'];

/**
 * Listens for servers of several threads: give its `token` to the threads that call `serve`. It
 * accepts nothing before one of them does. A second call with the same `host` and `port`, or `fd`,
 * in whichever thread shares the listener of the first, whose other options hold. Rejects as
 * `net.Server` emits (`EADDRINUSE`, …); `ENOTSUP` on Windows for `path`, `fd` and `reusePort`.
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
 * On Windows, where Node.js opens no descriptor of a socket, a connection is a stream over the
 * thread's own port, as with `listenOver`; all of the above holds.
 *
 * Rejects as `net.Server` emits, and as `shareListener` does; `ERR_INVALID_STATE` where the server
 * listens already, `ERR_HANDLE_CLOSED` for a listener that is closed.
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
  if (process.platform === 'win32') refuseOnWindows({ path, fd, reusePort });
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

function refuseOnWindows({ path, fd, reusePort }: api.SharedListenerOptions): void {
  if (path !== undefined) throw notSupported('listen', 'threads share no named pipe');
  if (fd !== undefined) throw notSupported('listen', 'Windows has no descriptors of sockets');
  if (reusePort) throw notSupported('listen', 'Windows has no SO_REUSEPORT');
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
  try {
    return new binding.Listener(which);
  } catch (error) {
    const { errno } = error as NodeJS.ErrnoException;
    if (errno === undefined) throw error;
    return errno;
  }
}
