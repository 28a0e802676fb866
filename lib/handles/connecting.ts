/**
 * How connections come about: names, addresses tried side by side, options of the socket.
 */
import { addressesOf } from '../support/addresses';
import type * as api from '../api';
import type { KeyOption } from '../api';
import { handleAt, Kind, Slot } from '../native/binding';
import type { CodedError, Subject } from '../support/errors';
import { contextOf, keyOf, type Style } from './handle';
import type { PortThread } from '../thread/port-thread';
import {
  begin,
  discard,
  idleTimeoutIn,
  keepAliveOf,
  markOf,
  refuseWith,
  socketPath,
} from './opening';
import { ComposedOperation, Operation, AWAIT_OPTIONS, type Steps } from '../await/operation';
import { setHighWaterMark } from '../thread/outgoing';
import { mayUseNet } from '../support/permission';
import { TcpSocket } from './socket';
import { Alarm } from '../support/timers';
import * as validate from '../support/validate';

/** Of either style. */
type ConnectOptions = api.ConnectOptions<KeyOption | undefined>;

const CONNECT_OPTIONS = [
  'host',
  'port',
  'path',
  'key',
  'asyncResource',
  'noDelay',
  'keepAlive',
  'keepAliveInitialDelay',
  'highWaterMark',
  'idleTimeout',
  ...AWAIT_OPTIONS,
];
/** "Connection Attempt Delay" of RFC 8305, section 5; `autoSelectFamilyAttemptTimeout` of node:net. */
const ATTEMPT_DELAY = 250;

export function connect(thread: PortThread, options: ConnectOptions): Operation<TcpSocket> {
  validate.given(options);
  validate.known(options, 'options', CONNECT_OPTIONS);
  // As node:net takes an empty name.
  const host = validate.string(options.host ?? 'localhost', 'options.host') || 'localhost';
  const { path } = options;
  const socketAddress = path === undefined ? undefined : socketPath(path);
  if (path !== undefined) refuseWith('path', options, ['host', 'port']);
  const port = path === undefined ? validate.tcpPort(options.port, 'options.port') : 0;
  const key = keyOf(thread, options.key);
  const context = contextOf(thread, key, options.asyncResource);
  const { noDelay = true } = options;
  validate.boolean(noDelay, 'options.noDelay');
  const highWaterMark = markOf(options);
  const keepAlive = keepAliveOf(options);
  const idleTimeout = idleTimeoutIn(options);
  mayUseNet(path ?? host);
  const run = async (steps: Steps): Promise<TcpSocket> => {
    const addresses = socketAddress ? [socketAddress] : inTurns(await addressesOf(host));
    const socket = await new Race(thread, steps, addresses, port, key).run();
    socket.asyncResource = context;
    try {
      setHighWaterMark(socket.id, highWaterMark);
      if (idleTimeout > 0) socket.idleTimeout = idleTimeout;
      if (noDelay) socket.setNoDelay();
      if (keepAlive !== undefined) socket.setKeepAlive(true, keepAlive);
      if (options.signal !== undefined) socket.closeOn(options.signal);
      return socket;
    } catch (error) {
      socket.closeQuietly();
      throw error;
    }
  };
  return new ComposedOperation(thread, Kind.Connect, 'connect', options, run, discard);
}

/** The families alternate, beginning with that of the first (RFC 8305, section 4). */
function inTurns(addresses: readonly string[]): string[] {
  const isIPv6 = (address: string): boolean => address.includes(':');
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
      this.begin(connectTo(this.thread, address, port, this.key));
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
  begin(thread, operation, (token) => thread.native.connect(address, port, key ?? -1, token, 0));
  return operation;
}
