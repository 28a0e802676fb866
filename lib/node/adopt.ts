/**
 * Sockets that go from Node.js to a port, and back.
 */
import { Server, Socket } from 'node:net';
import type * as api from '../api';
import type { ByKey, KeyOption } from '../api';
import { closeHandle, Handle, keyOf, type Style } from '../handles/handle';
import { TcpListener } from '../handles/listener';
import { TcpSocket } from '../handles/socket';
import { CompletionPort } from '../port';
import { EINVAL } from '../support/errno';
import { invalidState, notSupported, systemError } from '../support/errors';
import type { PortThread } from '../thread/port-thread';
import * as validate from '../support/validate';
import type { AdoptedSocket, AdoptOptions } from './api';

const NO_DESCRIPTOR = 'Node.js opens no descriptor of a socket there';

/**
 * Takes a connected socket over into a port. A `net.Socket` is no longer Node.js's afterwards: it is
 * destroyed, without an end for the peer, and what Node.js had read of it already is `head`. So it
 * has to be paused, or without listeners for `data`, and to have nothing left to send; then
 * `ERR_INVALID_STATE` is thrown otherwise, and for one that is not connected, or speaks TLS.
 *
 * A number is a descriptor of this process. It is duplicated, and stays the caller's to close; who
 * reads from it as well takes bytes away. The socket is non-blocking then. Throws `ENOTSOCK`,
 * `ENOTCONN`, `EBADF`, `EINVAL` where it is another socket, `ENOTSUP` for one of datagrams, also of
 * `node:dgram`, and on Windows.
 */
export function adoptSocket<K extends KeyOption | undefined = undefined>(
  port: api.CompletionPort,
  socket: Socket | number,
  options: AdoptOptions<K> = {},
): AdoptedSocket<ByKey<K, api.SocketHandle, api.KeyedSocket>> {
  const thread = threadOf(port);
  const key = keyOf(thread, keyIn(options));
  const handle = new TcpSocket<Style>(thread, adopted(thread, socket, key), key, true);
  const head = typeof socket === 'number' ? Buffer.alloc(0) : forgottenBy(socket);
  return { handle: handle as unknown as ByKey<K, api.SocketHandle, api.KeyedSocket>, head };
}

/**
 * Takes the listening socket of a server over into a port; the server is closed, and keeps the
 * connections that it has. With a key: connections are accepted from now on. For a descriptor there
 * is `port.listen({ fd })`. Throws `ERR_INVALID_STATE` for a server that does not listen, or at a
 * path, whose file Node.js removes; `ENOTSUP` on Windows.
 */
export function adoptServer<K extends KeyOption | undefined = undefined>(
  port: api.CompletionPort,
  server: Server,
  options: AdoptOptions<K> = {},
): ByKey<K, api.ListenerHandle, api.KeyedListener> {
  const thread = threadOf(port);
  if (!(server instanceof Server)) {
    throw validate.invalidType('server', 'an instance of net.Server', server);
  }
  if (typeof server.address() === 'string') throw invalidState('The server listens at a path');
  const key = keyOf(thread, keyIn(options));
  const descriptor = descriptorOf(server);
  if (descriptor === undefined) throw invalidState('The server has no listening socket of its own');
  const id = opened(thread, descriptor, key, 'listener');
  const listener = new TcpListener<Style>(thread, id, key, true);
  server.close();
  if (key !== undefined) void listener.accept({ multishot: true });
  thread.schedule();
  return listener as unknown as ByKey<K, api.ListenerHandle, api.KeyedListener>;
}

/**
 * Takes a socket or a listener out of its port. What is in flight on it is cancelled and answered,
 * so what the port had received comes as ever: in packets, or by the operations and loops that were
 * waiting. Then it resolves to the descriptor, which is the caller's to close from then on:
 * `new net.Socket({ fd, readable: true, writable: true })`. The peer notices nothing. The handle is
 * closed; one with a key has no `closed` packet.
 *
 * Throws `ERR_HANDLE_CLOSED` for a handle that was closed, handed to another port or detached before,
 * `ENOTSUP` on Windows, where a socket belongs to its port for life.
 */
export function detach(
  handle: api.SocketHandle | api.KeyedSocket | api.ListenerHandle | api.KeyedListener,
): api.Operation<number> {
  const given: unknown = handle;
  if (!(given instanceof Handle) || (given.kind !== 'socket' && given.kind !== 'listener')) {
    throw validate.invalidType('handle', 'a socket or a listener of a port', handle);
  }
  if (process.platform === 'win32') {
    throw notSupported('detach', 'a socket belongs to its port for life there');
  }
  return given.letGo();
}

function threadOf(port: api.CompletionPort): PortThread {
  if (!(port instanceof CompletionPort)) {
    throw validate.invalidType('port', 'an instance of CompletionPort', port);
  }
  if (process.platform === 'win32') throw notSupported('adopt', NO_DESCRIPTOR);
  port.thread.assertOpen();
  return port.thread;
}

function keyIn(options: AdoptOptions<KeyOption | undefined>): KeyOption | undefined {
  validate.options(options);
  validate.known(options, 'options', ['key']);
  return options.key;
}

/** The handle of a duplicate. */
function adopted(thread: PortThread, socket: Socket | number, key: number | undefined): number {
  if (typeof socket === 'number') {
    validate.integer(socket, 'socket', 0, 0x7fffffff);
    return opened(thread, socket, key, 'socket');
  }
  if (!(socket instanceof Socket)) {
    const { constructor } = Object(socket) as object;
    const dgram = process.getBuiltinModule('node:dgram');
    if (constructor === dgram.Socket) throw notSupported('adopt', 'ports have no datagrams');
    throw validate.invalidType('socket', 'an instance of net.Socket or of type number', socket);
  }
  if ('encrypted' in socket) throw invalidState('A port receives what TLS has encrypted');
  const descriptor = socket.connecting ? undefined : descriptorOf(socket);
  if (descriptor === undefined) throw invalidState('The socket is not connected');
  if (socket.writableLength > 0 || socket.writableEnded) {
    throw invalidState('The socket has something left to send, or has ended');
  }
  if (socket.readableFlowing === true || socket.readableEncoding !== null) {
    throw invalidState('The socket is read by others: pause it, and set no encoding');
  }
  return opened(thread, descriptor, key, 'socket');
}

function opened(
  thread: PortThread,
  descriptor: number,
  key: number | undefined,
  kind: 'socket' | 'listener',
): number {
  thread.flush();
  const id = thread.native.adoptSocket(descriptor, key ?? -1);
  const fits = id >= 0 && thread.native.handleInfo(id)?.kind === kind;
  if (fits) return id;
  if (id >= 0) closeHandle(thread, id).catch(() => undefined);
  throw systemError(id < 0 ? id : EINVAL, 'adopt', { net: true });
}

/** In the same turn of the event loop as the duplicate: nothing is read in between. */
function forgottenBy(socket: Socket): Buffer {
  const head = (socket.read() as Buffer | null) ?? Buffer.alloc(0);
  socket.destroy();
  return head;
}

/** What Node.js's handle of a socket or server says; undefined where there is none. */
function descriptorOf(owner: Socket | Server): number | undefined {
  const { _handle: handle } = owner as unknown as { _handle: { fd?: number } | null };
  const descriptor = handle?.fd ?? -1;
  return descriptor >= 0 ? descriptor : undefined;
}
