/**
 * completion-port/node/net: `node:net` over a port.
 *
 * @module completion-port/node/net
 */
import nodeNet = require('node:net');
import type * as api from './node/api';
import { warnOnce } from './node/experimental';
import { Server as ServerClass, Socket as SocketClass } from './node/net/net';

warnOnce();

export { connect, createConnection, createServer } from './node/net/net';

export const Socket = SocketClass as unknown as api.SocketConstructor;
/** A connection over a port, as a stream with the members of Node's. */
export interface Socket extends api.Socket {}
/** The same. */
export const Stream = Socket;
/** The server: lib/node/api.ts says how it differs from Node's. */
export const Server = ServerClass as unknown as api.ServerConstructor;
export type Server = api.Server;

/** Node's own. */
export const isIP = nodeNet.isIP;
export const isIPv4 = nodeNet.isIPv4;
export const isIPv6 = nodeNet.isIPv6;
export const BlockList = nodeNet.BlockList;
export const SocketAddress = nodeNet.SocketAddress;
export const getDefaultAutoSelectFamily = nodeNet.getDefaultAutoSelectFamily;
export const setDefaultAutoSelectFamily = nodeNet.setDefaultAutoSelectFamily;
export const getDefaultAutoSelectFamilyAttemptTimeout =
  nodeNet.getDefaultAutoSelectFamilyAttemptTimeout;
export const setDefaultAutoSelectFamilyAttemptTimeout =
  nodeNet.setDefaultAutoSelectFamilyAttemptTimeout;

export type {
  ConnectOptions,
  KeepAliveOptions,
  OverOptions,
  ServerConstructor,
  ServerOptions,
  SocketConstructor,
  SocketOptions,
} from './node/api';
