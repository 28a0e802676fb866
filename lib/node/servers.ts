/**
 * Servers of Node.js whose connections come over a port. The server stays what it is, `http.Server`
 * perhaps: it only listens elsewhere. What it asks of its handle is answered by `Server`.
 */
import type * as nodeNet from 'node:net';
import { portGiven } from './default-port';
import { Server } from './net/server';
import type { CompletionPort } from '../api';
import { invalidState } from '../support/errors';
import { invalidType } from '../support/validate';

/** What `net.Server` of Node.js has of its own listening socket. */
interface Inner {
  _handle: object | null;
  _connections: number;
  _pipeName: string | undefined;
  _emitCloseIfDrained(): void;
  allowHalfOpen?: boolean;
  pauseOnConnect?: boolean;
  noDelay?: boolean;
  keepAlive?: boolean;
  keepAliveInitialDelay?: number;
  highWaterMark?: number;
  blockList?: nodeNet.BlockList;
}

/**
 * Has a server of Node.js (http, https, http2, net, tls) listen over the port: from `listen` on its
 * connections are the port's. Default: the port that each thread has for itself. Returns `server`.
 */
export function listenOver<S extends nodeNet.Server>(server: S, over?: CompletionPort): S {
  const node = server as unknown as Inner;
  if (typeof (node as Partial<Inner> | undefined)?._emitCloseIfDrained !== 'function') {
    throw invalidType('server', 'a server of Node.js', server);
  }
  portGiven(over, 'over');
  const ours = serverBehind(server, over);
  const listen = (...args: unknown[]): S => {
    const callback = args.at(-1);
    const rest = typeof callback === 'function' ? args.slice(0, -1) : args;
    if (typeof callback === 'function') server.once('listening', callback as () => void);
    ours._listener = undefined; // it listens itself
    ours.listen(...rest);
    node._handle = handleOf(ours);
    const address = ours.address();
    if (typeof address === 'string') node._pipeName = address;
    return server;
  };
  Object.defineProperty(server, 'listen', { value: listen, writable: true, configurable: true });
  return server;
}

interface Behind {
  readonly ours: Server;
  readonly over: CompletionPort | undefined;
}

/** A server that is closed and listens again still has its connections to count. */
const known = new WeakMap<nodeNet.Server, Behind>();

/** One that has the connections of `server`, and tells it of them. */
export function serverBehind(server: nodeNet.Server, over?: CompletionPort): Server {
  const behind = known.get(server);
  if (behind === undefined) {
    const ours = makeBehind(server, over);
    known.set(server, { ours, over });
    return ours;
  }
  if (behind.over === over) return behind.ours;
  throw invalidState('The connections of this server come over another port already');
}

function makeBehind(server: nodeNet.Server, over: CompletionPort | undefined): Server {
  const node = server as unknown as Inner;
  const { allowHalfOpen, pauseOnConnect, noDelay, keepAlive, keepAliveInitialDelay } = node;
  const { blockList } = node;
  const settings = {
    allowHalfOpen,
    pauseOnConnect,
    noDelay,
    keepAlive,
    keepAliveInitialDelay,
    blockList,
  };
  const given = Object.entries(settings).filter(([, value]) => value !== undefined);
  const { highWaterMark } = node;
  const ours = new Server({
    over,
    ...Object.fromEntries(given),
    ...(highWaterMark ? { highWaterMark } : {}),
  });
  relay(ours, server);
  Object.defineProperty(ours, 'maxConnections', { get: () => server.maxConnections as unknown });
  let others = node._connections;
  // What is being closed counts, so that `close` comes when it is.
  const count = (): number => others + ours._connections + (ours.isClosing ? 1 : 0);
  Object.defineProperty(node, '_connections', {
    configurable: true,
    get: count,
    // Node.js counts those that it had accepted before.
    set: (connections: number) => {
      others += connections - count();
    },
  });
  return ours;
}

function relay(ours: Server, server: nodeNet.Server): void {
  const node = server as unknown as Inner;
  for (const event of ['connection', 'listening', 'drop']) {
    ours.on(event, (...args: unknown[]) => server.emit(event, ...args));
  }
  ours.on('error', (error) => {
    if (!ours.listening) node._handle = null;
    server.emit('error', error);
  });
  ours.on('close', () => node._emitCloseIfDrained());
}

/** What net.Server asks of a listening socket. */
function handleOf(ours: Server): object {
  const getsockname = (into: object): number => {
    Object.assign(into, ours.address());
    return 0;
  };
  return {
    // Without it the server tells its path.
    ...(typeof ours.address() === 'string' ? {} : { getsockname }),
    close: () => void ours.close(),
    ref: () => void ours.ref(),
    unref: () => void ours.unref(),
    hasRef: () => true,
  };
}
