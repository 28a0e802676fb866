/**
 * How connections come about: names, addresses tried side by side, options of the socket.
 */
import { addressesOf } from '../support/addresses';
import type * as api from '../api';
import type { KeyOption } from '../api';
import { handleAt, Slot } from '../native/layout';
import { Kind } from '../native/kinds';
import { EACCES, EADDRINUSE, EADDRNOTAVAIL, EINVAL } from '../support/errno';
import { systemError, type CodedError, type Subject } from '../support/errors';
import { contextOf, keyOf, type Style } from './handle';
import type { PortThread } from '../thread/port-thread';
import {
  begin,
  discard,
  idleTimeoutIn,
  markOf,
  refuseWith,
  socketPath,
  socketType,
} from './opening';
import { ComposedOperation, Operation, AWAIT_OPTIONS, type Steps } from '../await/operation';
import { setHighWaterMark } from '../thread/outgoing';
import { mayUseNet } from '../support/permission';
import { TcpSocket } from './socket';
import { refuseOfTcp, SOCKET_OPTIONS, SocketSettings } from './socket-options';
import { Alarm } from '../support/timers';
import * as validate from '../support/validate';

/** Of either style. */
type ConnectOptions = api.ConnectOptions<KeyOption | undefined>;

const CONNECT_OPTIONS = [
  'host',
  'port',
  'path',
  'type',
  'key',
  'asyncResource',
  'localAddress',
  'localPort',
  'fastOpen',
  ...SOCKET_OPTIONS,
  'highWaterMark',
  'idleTimeout',
  ...AWAIT_OPTIONS,
];
/** "Connection Attempt Delay" of RFC 8305, section 5; `autoSelectFamilyAttemptTimeout` of node:net. */
const ATTEMPT_DELAY = 250;

export function connect(thread: PortThread, options: ConnectOptions): Operation<TcpSocket> {
  validate.knownOfPlace(options, CONNECT_OPTIONS);
  // As node:net takes an empty name.
  const host = validate.string(options.host ?? 'localhost', 'options.host') || 'localhost';
  const { path } = options;
  const socketAddress = path === undefined ? undefined : socketPath(path);
  if (path !== undefined) {
    refuseWith('path', options, ['host', 'port', 'localAddress', 'localPort']);
    refuseOfTcp(options);
  }
  const port = path === undefined ? validate.tcpPort(options.port, 'options.port') : 0;
  const key = keyOf(thread, options.key);
  const context = contextOf(thread, key, options.asyncResource);
  const highWaterMark = markOf(options);
  const way: Way = {
    settings: SocketSettings.ofConnect(options).array,
    messages: socketType(options),
    ...localOf(options),
  };
  const idleTimeout = idleTimeoutIn(options);
  mayUseNet(path ?? host);
  const run = async (steps: Steps): Promise<TcpSocket> => {
    const found = socketAddress ? [socketAddress] : inTurns(await addressesOf(host));
    const addresses = reachableFrom(way.localAddress, found);
    const socket = await new Race(thread, steps, addresses, port, key, way).run();
    socket.asyncResource = context;
    try {
      setHighWaterMark(socket.id, highWaterMark);
      if (idleTimeout > 0) socket.idleTimeout = idleTimeout;
      if (options.signal !== undefined) socket.closeOn(options.signal);
      return socket;
    } catch (error) {
      socket.closeQuietly();
      throw error;
    }
  };
  return new ComposedOperation(thread, Kind.Connect, 'connect', options, run, discard);
}

/** What an attempt is told beside the address. */
interface Way {
  readonly settings: Int32Array | undefined;
  readonly messages: boolean;
  /** Numeric; undefined: the system's choice. */
  readonly localAddress?: string | undefined;
  readonly localPort?: number | undefined;
}

/** A port alone means any address of the family that is tried. */
function localOf(options: ConnectOptions): Pick<Way, 'localAddress' | 'localPort'> {
  const { localAddress, localPort } = options;
  if (localPort !== undefined) validate.tcpPort(localPort, 'options.localPort');
  if (localAddress === undefined) return { localPort };
  validate.string(localAddress, 'options.localAddress');
  if (process.getBuiltinModule('node:net').isIP(localAddress) === 0) {
    const reason = 'must be a numeric address of this machine';
    throw validate.invalidValue('options.localAddress', reason, localAddress);
  }
  return { localAddress, localPort };
}

/** Of several addresses those of the family of `local`; where there are none the system says why. */
function reachableFrom(local: string | undefined, addresses: readonly string[]): readonly string[] {
  if (local === undefined || addresses.length === 1) return addresses;
  const fitting = addresses.filter((address) => isIPv6(address) === isIPv6(local));
  return fitting.length > 0 ? fitting : addresses.slice(0, 1);
}

const isIPv6 = (address: string): boolean => address.includes(':');

/** The families alternate, beginning with that of the first (RFC 8305, section 4). */
function inTurns(addresses: readonly string[]): string[] {
  const first = addresses.filter((address) => isIPv6(address) === isIPv6(addresses[0]!));
  const second = addresses.filter((address) => !first.includes(address));
  const turns: string[] = [];
  for (let i = 0; turns.length < addresses.length; i++)
    turns.push(...first.slice(i, i + 1), ...second.slice(i, i + 1));
  return turns;
}

/** Attempts at several addresses: the first connection wins, and the others are given up. */
class Race {
  private next = 0;
  private readonly running = new Set<Operation<TcpSocket>>();
  private readonly errors: Error[] = [];
  private alarm: Alarm | undefined = undefined;
  private over = false;
  private resolve!: (socket: TcpSocket) => void;
  private reject!: (error: Error) => void;

  constructor(
    private readonly thread: PortThread,
    private readonly steps: Steps,
    private readonly addresses: readonly string[],
    private readonly port: number,
    private readonly key: number | undefined,
    private readonly way: Way,
  ) {}

  run(): Promise<TcpSocket> {
    return new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
      this.proceed();
    });
  }

  /** Begins the next attempt, or ends when there is none and none runs. */
  private proceed(): void {
    this.alarm?.cancel();
    const { steps, port } = this;
    if (this.over) return;
    if (steps.stopped || this.thread.closed || this.next === this.addresses.length) {
      if (this.running.size === 0) this.reject(this.failure());
      return;
    }
    const address = this.addresses[this.next++]!;
    steps.subject = subjectOf(address, port);
    try {
      this.begin(connectTo(this.thread, address, port, this.key, this.way));
    } catch (error) {
      this.lost(error as Error);
    }
  }

  private begin(attempt: Operation<TcpSocket>): void {
    this.running.add(attempt);
    if (this.next < this.addresses.length) {
      this.alarm = new Alarm(ATTEMPT_DELAY, () => this.proceed());
    }
    this.steps.step(attempt).then(
      (socket) => {
        this.running.delete(attempt);
        this.won(socket);
      },
      (error: unknown) => {
        this.running.delete(attempt);
        this.lost(error as Error);
      },
    );
  }

  private won(socket: TcpSocket): void {
    if (this.over) return discard(socket);
    this.over = true;
    this.alarm?.cancel();
    for (const attempt of this.running) attempt.cancel();
    this.resolve(socket);
  }

  private lost(error: Error): void {
    this.errors.push(error);
    this.proceed();
  }

  /** As node:net: of several addresses all failures, under the code of the first. */
  private failure(): Error {
    const { errors } = this;
    if (errors.length === 1) return errors[0]!;
    const message = errors.map((error) => error.message).join('; ');
    const { code } = errors[0] as CodedError;
    return Object.assign(new AggregateError(errors, message), { code });
  }
}

function subjectOf(address: string, port: number): Subject {
  const path = /^unix:(.*)$/s.exec(address)?.[1];
  return path === undefined ? { net: true, address, port } : { net: true, address: path };
}

function connectTo(
  thread: PortThread,
  address: string,
  port: number,
  key: number | undefined,
  way: Way,
): Operation<TcpSocket> {
  thread.assertOpen();
  const subject = subjectOf(address, port);
  const operation = new Operation<TcpSocket>(
    thread,
    Kind.Connect,
    subject,
    (_result, at) =>
      new TcpSocket<Style>(thread, handleAt(thread.words, at + Slot.HANDLE / 4), key, true),
  );
  const { settings, messages } = way;
  const { place: local, port: localPort } = localPlace(way.localAddress, way.localPort, address);
  begin(
    thread,
    operation,
    (token) =>
      thread.native.connect(
        address,
        port,
        key ?? -1,
        token,
        0,
        settings,
        local,
        localPort,
        messages,
      ),
    (error) => bindFailure(error, way, address),
  );
  return operation;
}

/**
 * Which of its two calls an attempt failed in is not told. With an address of the program's own these
 * are errors of the first, but for ports of it that have all been used.
 */
const BIND_ERRORS: readonly number[] = [EADDRINUSE, EADDRNOTAVAIL, EACCES, EINVAL];

/** The error of an attempt that did not get so far as to ask `address`. */
export function bindFailure(
  error: number,
  { localAddress, localPort }: Pick<Way, 'localAddress' | 'localPort'>,
  address: string,
): Error | undefined {
  const own = localAddress !== undefined || localPort !== undefined;
  if (!own || !BIND_ERRORS.includes(error)) return undefined;
  const { place, port } = localPlace(localAddress, localPort, address);
  return systemError(error, 'bind', { net: true, address: place, port });
}

/** Where a connection to `address` is to come from, as native code takes it. */
export function localPlace(
  localAddress: string | undefined,
  localPort: number | undefined,
  address: string,
): { readonly place: string | undefined; readonly port: number } {
  const any = localPort === undefined ? undefined : isIPv6(address) ? '::' : '0.0.0.0';
  return { place: localAddress ?? any, port: Number(localPort ?? 0) };
}
