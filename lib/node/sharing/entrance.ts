/**
 * How a server of Node.js gets the connections that its thread is given: by descriptor, as Node.js's
 * own, or, where Node.js opens no descriptor of a socket, as streams over the thread's port.
 */
import type { Server } from 'node:net';
import { EBADF } from '../../support/errno';
import { handleClosed } from '../../support/errors';
import { binding, type NativeListener, type NativeSeat } from '../../native/binding';

/** A server's place at a shared listener: what Node.js has in a server for its listening handle. */
export interface Entrance {
  readonly seat: NativeSeat;
  /** Whose `_connections` counts them. */
  readonly counts: { _connections: number };
  /** Has the server serve one that waits. Nothing comes of one that died meanwhile. */
  admit(handle: ServerHandle): void;
}

/** Called by the server with its handle. */
export interface ServerHandle {
  /** Written by the server. */
  onconnection(error: number, client: object): void;
}

export type EntranceTo = (server: Server, listener: NativeListener) => Entrance;

/** This thread's seat: it is given connections from now on. Another thread may have closed the listener. */
export function seatAt(listener: NativeListener): NativeSeat {
  try {
    return listener.join(binding.Seat);
  } catch (error) {
    throw (error as NodeJS.ErrnoException).errno === EBADF ? handleClosed() : error;
  }
}
