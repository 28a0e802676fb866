/**
 * completion-port/node/net: `node:net` over a port.
 *
 * @module completion-port/node/net
 */
import { warnOnce } from './node/experimental';

warnOnce();

export { connect, createConnection, createServer, Server, Socket, Stream } from './node/net/net';
export {
  BlockList,
  getDefaultAutoSelectFamily,
  getDefaultAutoSelectFamilyAttemptTimeout,
  isIP,
  isIPv4,
  isIPv6,
  setDefaultAutoSelectFamily,
  setDefaultAutoSelectFamilyAttemptTimeout,
  SocketAddress,
} from 'node:net';
