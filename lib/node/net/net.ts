/** The functions and constructors of node:net. */
import type * as api from '../api';
import { given } from './arguments';
import { Server as ServerClass, type ServerOptions } from './server';
import { Socket as SocketClass } from './socket';

/** As in node:net, a constructor may be called without `new`. */
function callable<C extends new (...args: never[]) => object>(constructor: C): C {
  function make(this: unknown, ...args: unknown[]): object {
    return Reflect.construct(constructor, args, new.target ?? constructor) as object;
  }
  Object.setPrototypeOf(make, constructor);
  Object.defineProperty(make, 'name', { value: constructor.name });
  make.prototype = constructor.prototype as object;
  Object.defineProperty(constructor.prototype, 'constructor', {
    value: make,
    writable: true,
    configurable: true,
  });
  return make as unknown as C;
}

export const Socket = callable(SocketClass);
export const Server = callable(ServerClass);

export function createServer(listener?: (socket: api.Socket) => void): api.Server;
export function createServer(
  options: api.ServerOptions | undefined,
  listener?: (socket: api.Socket) => void,
): api.Server;
export function createServer(...args: unknown[]): api.Server {
  const [options, listener] = args as [ServerOptions, (socket: SocketClass) => void];
  return new Server(options, listener) as unknown as api.Server;
}

export function connect(options: api.ConnectOptions, listener?: () => void): api.Socket;
export function connect(port: number, host?: string, listener?: () => void): api.Socket;
export function connect(port: number, listener?: () => void): api.Socket;
export function connect(path: string, listener?: () => void): api.Socket;
export function connect(...args: unknown[]): api.Socket {
  const { options } = given(args);
  const socket = new Socket(options);
  return socket.connect(...args) as unknown as api.Socket;
}

export const createConnection = connect;
