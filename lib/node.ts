/**
 * completion-port/node: doors to Node.js's own sockets and servers.
 *
 * @module completion-port/node
 */
process.emitWarning('completion-port/node may change in any minor version', 'ExperimentalWarning');

export { serve, shareListener } from './node/serve';

export type {
  SharedListener,
  SharedListenerOptions,
  SharedListenerStats,
  SharedListenerToken,
  SharePolicy,
} from './node/api';
export type { ListenerAddress } from './api';
