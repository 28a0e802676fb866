/** The functions and constructors of node:net. */
import { given } from './arguments';
import { clientSocket } from './channels';
import { Server as ServerClass, type ServerOptions } from './server';
import { Socket as SocketClass, type SocketOptions } from './socket';

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
export const Stream = Socket;

export function createServer(...args: unknown[]): ServerClass {
  return new Server(args[0] as ServerOptions, args[1] as (socket: SocketClass) => void);
}

export function connect(...args: unknown[]): SocketClass {
  const { options } = given(args);
  const socket = new Socket(options as SocketOptions);
  if (clientSocket.hasSubscribers) clientSocket.publish({ socket });
  return socket.connect(...args);
}

export const createConnection = connect;
