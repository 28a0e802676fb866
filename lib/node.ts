/**
 * completion-port/node: doors to Node.js's own sockets and servers.
 *
 * @module completion-port/node
 */
process.emitWarning('completion-port/node may change in any minor version', 'ExperimentalWarning');

export { adoptServer, adoptSocket, detach } from './node/adopt';
export { serve, shareListener } from './node/serve';

export type {
  AdoptedSocket,
  AdoptOptions,
  SharedListener,
  SharedListenerOptions,
  SharedListenerStats,
  SharedListenerToken,
  SharePolicy,
} from './node/api';
export type {
  AwaitOptions,
  KeyedListener,
  KeyedSocket,
  KeyOption,
  ListenerAddress,
  ListenerHandle,
  Operation,
  SocketHandle,
} from './api';
