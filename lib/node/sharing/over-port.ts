/**
 * Connections as streams over the port that the thread has for itself, as `listenOver` has them. They
 * are bound to that port when the thread takes them, and go with it.
 */
import type { Server as NodeServer } from 'node:net';
import { TcpSocket } from '../../handles/socket';
import type { NativeListener, NativeSeat } from '../../native/binding';
import { defaultPort } from '../default-port';
import type { Server } from '../net/server';
import { serverBehind } from '../servers';
import { seatAt, type Entrance } from './entrance';

export function overPort(server: NodeServer, listener: NativeListener): Entrance {
  defaultPort(); // what refuses it is told here, not with a connection at hand
  const ours = serverBehind(server);
  ours._listener = server as unknown as NonNullable<Server['_listener']>;
  return new PortEntrance(ours, seatAt(listener));
}

class PortEntrance implements Entrance {
  constructor(
    readonly counts: Server,
    readonly seat: NativeSeat,
  ) {}

  admit(): void {
    const { counts: server, seat } = this;
    const { thread } = defaultPort();
    thread.flush();
    const id = thread.native.ownConnection(seat);
    if (id < 0) return;
    server._accepted(new TcpSocket<'await'>(thread, id, undefined, true), server.noDelay);
  }
}
