/**
 * completion-port/node: doors to Node.js's own sockets and servers, and to packages that use them.
 *
 * @module completion-port/node
 */
import { warnOnce } from './node/experimental';

warnOnce();

export { adoptServer, adoptSocket, detach } from './node/adopt';
export { listenOver } from './node/servers';
export { over } from './node/over';
export { sendFile } from './node/send-file';
export { serve, shareListener } from './node/serve';

export type {
  AdoptedSocket,
  AdoptOptions,
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
