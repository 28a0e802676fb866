/**
 * completion-port/node: doors to Node.js's own sockets and servers, and to packages that use them.
 *
 * @module completion-port/node
 */
import { warnOnce } from './node/experimental';

warnOnce();

export { listenOver } from './node/servers';
export { over } from './node/over';
export { sendFile } from './node/send-file';
export { serve, shareListener } from './node/serve';

export type {
  Doors,
  FactoryOptions,
  IoredisConnector,
  IoredisOptions,
  SendFileOptions,
  SharedListener,
  SharedListenerOptions,
  SharedListenerStats,
  SharedListenerToken,
  SharePolicy,
  UndiciConnectOptions,
} from './node/api';
export type { ListenerAddress } from './api';
