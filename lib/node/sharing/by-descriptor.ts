/**
 * Connections by descriptor: a handle of Node.js is made of each, and given to the server as its own
 * listening handle would. So everything behind it is Node.js's own.
 */
import { closeSync } from 'node:fs';
import { Socket, type Server } from 'node:net';
import type { NativeListener, NativeSeat } from '../../native/binding';
import { EBADF } from '../../support/errno';
import { handleClosed, systemError } from '../../support/errors';
import { seatAt, type Entrance, type ServerHandle } from './entrance';
import { missing, type Internals } from './internals';

/** A handle of Node.js for a connection: TCP or Pipe. */
interface ClientHandle {
  open(descriptor: number): number;
  close(): void;
}
type ClientClass = new (type: number) => ClientHandle;
/** `TCP.SOCKET` and `Pipe.SOCKET`. */
const SOCKET = 0;

export function byDescriptor(server: Server, listener: NativeListener): Entrance {
  const Client = clientClassOf(listener);
  return new DescriptorEntrance(server as unknown as Internals, Client, seatAt(listener));
}

class DescriptorEntrance implements Entrance {
  constructor(
    readonly counts: Internals,
    private readonly Client: ClientClass,
    readonly seat: NativeSeat,
  ) {}

  /**
   * Nothing stands between `take` and `open` at which V8 could end the thread: nobody else closes
   * the descriptor, and once it is open the handle does.
   */
  admit(handle: ServerHandle): void {
    const { seat, Client } = this;
    const client = new Client(SOCKET);
    const descriptor = seat.take();
    if (!(descriptor >= 0)) return client.close();
    const error = client.open(descriptor);
    if (error === 0) return handle.onconnection(0, client);
    client.close();
    closeSync(descriptor);
  }
}

/**
 * The class of Node.js's handles of such connections, which it exports to nobody. Of a socket of its
 * own: a worker that ends in the middle of this leaves it open, and the listener must not be.
 */
function clientClassOf(listener: NativeListener): ClientClass {
  const fd = listener.sample();
  if (fd === EBADF) throw handleClosed();
  if (fd < 0) throw systemError(fd, 'socket', { net: true });
  const socket = new Socket({ fd, readable: false, writable: false });
  const { _handle } = socket as unknown as { _handle: Partial<ClientHandle> | null };
  socket.destroy();
  if (typeof _handle?.open !== 'function') throw missing('handle to open');
  return _handle.constructor as ClientClass;
}
