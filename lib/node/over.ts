/**
 * One port's doors for packages that make their connections themselves, under the names by which
 * those ask for them.
 */
import type * as nodeHttp from 'node:http';
import type * as nodeHttps from 'node:https';
import type * as nodeNet from 'node:net';
import type * as nodeTls from 'node:tls';
import type * as api from './api';
import type { CompletionPort } from '../api';
import { portGiven } from './default-port';
import { connect, Socket } from './net/net';
import { listenOver } from './servers';

import { clearTimeout, setTimeout } from '../support/timers';

type Callback = (error: Error | null, socket: nodeNet.Socket | null) => void;

const http = (): typeof nodeHttp => process.getBuiltinModule('node:http');
const https = (): typeof nodeHttps => process.getBuiltinModule('node:https');
const tls = (): typeof nodeTls => process.getBuiltinModule('node:tls');

/**
 * A port's doors, each under the name by which a package asks for it. Default: the port that each
 * thread has for itself.
 */
export function over(port?: CompletionPort): api.Doors {
  portGiven(port, 'port');
  const open = (options: object): api.Socket =>
    connect({ ...options, over: port } as api.ConnectOptions);
  return {
    createServer: (...args) => listenOver(http().createServer(...(args as unknown as [])), port),
    createSecureServer: (...args) => listenOver(https().createServer(...(args as [never])), port),
    serverFactory: (handler, options) => listenOver(serverFor(handler, options), port),
    createConnection: (options) => open(options),
    createSecureConnection: (options) => secured(options, open),
    connect: (options, callback) => connectFor(options, callback, open),
    stream: () => new Socket({ over: port }) as unknown as nodeNet.Socket,
    Connector: connectorOver(open),
  };
}

/** As Fastify asks for it. */
function serverFor(
  handler: nodeHttp.RequestListener,
  options: api.FactoryOptions,
): nodeHttp.Server {
  const given = options?.https;
  if (given) return https().createServer(given as nodeHttps.ServerOptions, handler);
  return http().createServer((options?.http ?? {}) as nodeHttp.ServerOptions, handler);
}

function secured(
  options: nodeTls.ConnectionOptions,
  open: (options: object) => api.Socket,
): nodeTls.TLSSocket {
  const { host, port, ...rest } = options;
  const socket = open({ host, port });
  const servername = options.servername ?? nameOf(host);
  return tls().connect({ ...rest, socket, ...(servername ? { servername } : {}) });
}

/** An address is no name of a server (RFC 6066). */
function nameOf(host: string | undefined): string | undefined {
  return host !== undefined && process.getBuiltinModule('node:net').isIP(host) === 0
    ? host
    : undefined;
}

/** As undici asks for it. */
function connectFor(
  options: api.UndiciConnectOptions,
  callback: Callback,
  open: (options: object) => api.Socket,
): void {
  const { hostname, protocol, port, servername, ...more } = options;
  const secure = protocol === 'https:';
  const host = hostname.replace(/^\[(.*)\]$/, '$1');
  const target = { ...more, host, port: Number(port || (secure ? 443 : 80)) };
  const name = servername ?? undefined;
  const socket = secure
    ? secured(
        { ALPNProtocols: ['http/1.1'], ...target, ...(name ? { servername: name } : {}) },
        open,
      )
    : open({ ...target, noDelay: true });
  const failed = (error: Error): void => callback(error, null);
  socket.once('error', failed);
  socket.once(secure ? 'secureConnect' : 'connect', () => {
    socket.off('error', failed);
    callback(null, socket);
  });
}

/** Milliseconds that a connection which is left has for its end. */
const PATIENCE = 2000;

/** As ioredis asks for it. */
function connectorOver(open: (options: object) => api.Socket): api.IoredisConnector {
  return class Connector {
    connecting = false;
    firstError: Error | undefined = undefined;
    private stream: nodeNet.Socket | undefined = undefined;

    constructor(private readonly options: api.IoredisOptions) {}

    check(): boolean {
      return true;
    }

    connect(): Promise<nodeNet.Socket> {
      this.connecting = true;
      const { host = 'localhost', port = 6379, tls: secure } = this.options;
      const target = { host, port };
      const stream = secure
        ? secured({ ...target, ...(typeof secure === 'object' ? secure : {}) }, open)
        : open(target);
      this.stream = stream;
      stream.once('error', (error: Error) => (this.firstError = error));
      return Promise.resolve(stream);
    }

    disconnect(): void {
      this.connecting = false;
      const { stream } = this;
      if (stream === undefined) return;
      const timer = setTimeout(() => stream.destroy(), PATIENCE);
      stream.once('close', () => clearTimeout(timer));
      stream.end();
    }
  };
}
