/**
 * Connections as streams over the port that the thread has for itself, as `listenOver` has them. They
 * are bound to that port when the thread takes them, and go with it.
 */
import type { Server as NodeServer } from 'node:net';
import { TcpSocket } from '../../handles/socket';
import type { NativeListener, NativeSeat } from '../../native/binding';
import type { PortThread } from '../../thread/port-thread';
import { defaultPort } from '../default-port';
import type { Server } from '../net/server';
import { serverBehind } from '../servers';
import { seatAt, type Entrance } from './entrance';

export function overPort(server: NodeServer, listener: NativeListener): Entrance {
  const { thread } = defaultPort();
  return new PortEntrance(behind(server), thread, seatAt(listener));
}

/** A server that is closed and serves again still has its connections to count. */
const known = new WeakMap<NodeServer, Server>();

function behind(server: NodeServer): Server {
  let ours = known.get(server);
  if (ours === undefined) known.set(server, (ours = serverBehind(server)));
  return ours;
}

class PortEntrance implements Entrance {
  constructor(
    readonly counts: Server,
    private readonly thread: PortThread,
    readonly seat: NativeSeat,
  ) {}

  /** Nothing stands between `take` and `ownConnection` at which V8 could end the thread. */
  admit(): void {
    const { counts: server, thread, seat } = this;
    thread.flush();
    const id = thread.native.ownConnection(seat.take());
    if (id < 0) return;
    server._accepted(new TcpSocket<'await'>(thread, id, undefined, true), server.noDelay);
  }
}
