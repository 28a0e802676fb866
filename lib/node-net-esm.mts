/** What `import` gets: the same as `require`, and as `node:net` all of it as the default, too. */
import net from './node-net.js';
export {
  BlockList,
  connect,
  createConnection,
  createServer,
  getDefaultAutoSelectFamily,
  getDefaultAutoSelectFamilyAttemptTimeout,
  isIP,
  isIPv4,
  isIPv6,
  Server,
  setDefaultAutoSelectFamily,
  setDefaultAutoSelectFamilyAttemptTimeout,
  Socket,
  SocketAddress,
  Stream,
} from './node-net.js';
export type * from './node-net.js';
export default net;
