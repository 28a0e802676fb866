/** Has a server listen at an entrance, as node:cluster has it listen in its workers. */
import type { Server } from 'node:net';
import type { NativeListener } from '../../native/binding';
import { setImmediate } from '../../support/timers';
import { byDescriptor } from './by-descriptor';
import type { Entrance, EntranceTo, ServerHandle } from './entrance';
import { internalsOf } from './internals';
import { overPort } from './over-port';

/** Connections that a server is given before its event loop goes on. */
const MOST_TOGETHER = 32;

/** Windows opens no descriptor of a socket to Node.js. `COMPLETION_PORT_SERVE=port`: as there. */
const entranceTo: EntranceTo =
  process.platform === 'win32' || process.env['COMPLETION_PORT_SERVE'] === 'port'
    ? overPort
    : byDescriptor;

export function attach(server: Server, listener: NativeListener): void {
  const internals = internalsOf(server);
  const address = listener.address();
  const entrance = entranceTo(server, listener);
  countConnections(entrance);
  internals._handle = new SharedHandle(server, entrance, address);
  const { address: host = '', port = 0, family } = address ?? {};
  if (family === 'unix') internals._pipeName = host;
  internals._listen2(host, port, family === 'IPv6' ? 6 : 4, 0);
}

/** What a server of Node.js calls its handle, as far as it asks of one. */
class SharedHandle implements ServerHandle {
  /** As Node.js's handles of UNIX sockets have none. */
  readonly getsockname?: (out: object) => number;
  declare onconnection: ServerHandle['onconnection'];
  private readonly deliver = (): void => this.admitSome();

  constructor(
    private readonly server: Server,
    private readonly entrance: Entrance,
    address: ReturnType<NativeListener['address']>,
  ) {
    if (address?.family === 'unix') return;
    this.getsockname = (out) => {
      Object.assign(out, address);
      return 0;
    };
  }

  listen(): number {
    this.entrance.seat.start(this.deliver);
    this.ref();
    return 0;
  }

  ref(): void {
    this.entrance.seat.ref();
  }

  unref(): void {
    this.entrance.seat.unref();
  }

  close(): void {
    this.entrance.seat.leave();
  }

  /** A listener of connections that throws stops nothing: what waits behind that one comes next. */
  private admitSome(): void {
    const { seat } = this.entrance;
    let more = true;
    try {
      for (let i = 0; i < MOST_TOGETHER && (more = seat.waits()); i++) this.entrance.admit(this);
    } finally {
      if (more) setImmediate(this.deliver);
    }
    // It may listen anew by now, at another place.
    if (internalsOf(this.server)._handle === this && seat.closed()) this.server.close();
  }
}

/** The policy sees how many connections the server has, when it sees that itself. */
function countConnections({ counts, seat }: Entrance): void {
  const count = new Int32Array(seat.open);
  count[0] = counts._connections;
  Object.defineProperty(counts, '_connections', {
    configurable: true,
    enumerable: true,
    get: () => count[0],
    set: (connections: number) => {
      count[0] = connections;
    },
  });
}
