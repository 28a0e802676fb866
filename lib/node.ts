/**
 * completion-port/node: servers and packages of Node.js over a port.
 *
 * @module completion-port/node
 */
import { warnOnce } from './node/experimental';

warnOnce();

export { listenOver } from './node/servers';
export { over } from './node/over';
export { sendFile } from './node/send-file';

export type {
  Doors,
  FactoryOptions,
  IoredisConnector,
  IoredisOptions,
  SendFileOptions,
  UndiciConnectOptions,
} from './node/api';
