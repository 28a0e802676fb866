/**
 * Listening TCP sockets.
 */
import type * as api from '../api';
import type { ListenerAddress } from '../api';
import { handleAt, NO_CHUNK, NO_LIMIT, Slot, SubmissionFlag } from '../native/layout';
import { Kind } from '../native/kinds';
import { ECANCELED } from '../support/errno';
import { handleClosed, invalidState, timedOut, type Subject } from '../support/errors';
import { Handle, type Answer, type Style } from './handle';
import { AWAIT_OPTIONS, OPERATION_OPTIONS, type OperationOptions } from '../await/operation';
import { isThere, TcpSocket } from './socket';
import { Stream } from '../await/stream';
import { Alarm } from '../support/timers';
import { points } from '../await/tracing';
import * as validate from '../support/validate';

type AcceptOptions = api.AcceptOptions & OperationOptions;

const ACCEPT_OPTIONS = ['multishot', ...OPERATION_OPTIONS];
/** Connections accepted ahead of the loop. */
const BACKLOG = 64;

/**
 * A listening socket: `port.listen()`. Accepting runs on io_uring's multishot ACCEPT | on accept4
 * when the socket is ready under epoll | on AcceptEx.
 *
 * With a key, `accepted` packets come by themselves from the start; `packet.accepted` is the
 * connection, with a unique key of its own. When one comes with an error and without `more`,
 * `accept({ multishot: true })` starts again.
 *
 * What its public members do stands in lib/api.ts.
 */
export class TcpListener<S extends Style = Style> extends Handle<S> {
  #known: ListenerAddress | undefined = undefined;
  readonly #about: { net: true; address?: string; port?: number } = { net: true };

  get kind(): 'listener' {
    return 'listener';
  }

  address(): ListenerAddress | undefined {
    if (!isThere(this)) return undefined;
    if (this.#known !== undefined) return this.#known;
    const address = this.thread.native.address(this.id, false);
    if (typeof address === 'number') return undefined;
    this.#known = address;
    return address;
  }

  get listening(): boolean {
    return !this.closed && !this.thread.closed;
  }

  get connections(): number {
    this.thread.assertOpen();
    return counted(this.thread.native.connections(this.id));
  }

  get maxConnections(): number {
    this.thread.assertOpen();
    const most = counted(this.thread.native.mostConnections(this.id));
    return most === NO_LIMIT ? Infinity : most;
  }

  set maxConnections(most: number) {
    this.assertOpen();
    validate.maxConnections(most, 'maxConnections');
    counted(this.thread.native.mostConnections(this.id, Math.min(most, NO_LIMIT)));
  }

  accept(options?: AcceptOptions): Answer<S, TcpSocket<'await'>> {
    this.assertOpen();
    validate.knownOf(options, ACCEPT_OPTIONS);
    if (!validate.flag(options?.multishot, 'options.multishot')) {
      return this.request(Kind.Accept, (_result, at) => acceptedAt(this, at), options);
    }
    if (this.style === 'await') throw invalidState('multishot is for listeners with a key');
    const flags = SubmissionFlag.Multishot;
    return this.request<TcpSocket<'await'>>(
      Kind.Accept,
      (_result, at) => acceptedAt(this, at),
      options,
      0,
      0,
      NO_CHUNK,
      0,
      0,
      flags,
    );
  }

  [Symbol.asyncIterator](this: TcpListener<'await'>): api.AsyncLoop<TcpSocket<'await'>> {
    return this.sockets();
  }

  sockets(
    this: TcpListener<'await'>,
    options?: OperationOptions,
  ): api.AsyncLoop<TcpSocket<'await'>> {
    this.assertOpen();
    if ((this.style as Style) === 'packet') {
      throw invalidState('A listener with a key answers in packets');
    }
    return new AcceptedSockets(this, options);
  }

  /** @internal */
  override subject(): Subject {
    return this.#about;
  }

  protected override describe(): Record<string, unknown> {
    const open = this.listening ? this.thread.native.connections(this.id) : -1;
    const connections = open < 0 ? undefined : open;
    return { ...super.describe(), address: this.address(), connections };
  }
}

/** A number of the listener, which another thread may have closed. */
function counted(number: number): number {
  if (number < 0) throw handleClosed();
  return number;
}

function acceptedAt(listener: TcpListener, at: number): TcpSocket<'await'> {
  const { thread } = listener;
  const id = handleAt(thread.words, at + Slot.ACCEPTED / 4);
  const socket = new TcpSocket<'await'>(thread, id, undefined, true);
  if (points.accepted.wanted) points.accepted.publish({ socket, listener });
  return socket;
}

class AcceptedSockets extends Stream<TcpSocket<'await'>> {
  private readonly listener: TcpListener<'await'>;
  private readonly queue: TcpSocket<'await'>[] = [];
  private token = -1;
  private pausing = false;
  private readonly timeout: number;
  private alarm: Alarm | undefined = undefined;

  constructor(listener: TcpListener<'await'>, options: OperationOptions = {}) {
    validate.options(options);
    validate.known(options, 'options', AWAIT_OPTIONS);
    super(listener, Kind.Accept, options);
    this.listener = listener;
    this.timeout = validate.timeout(options.timeout);
  }

  protected override waits(): void {
    if (this.timeout === 0 || this.alarm !== undefined) return;
    this.alarm = new Alarm(this.timeout, () =>
      this.stop(timedOut('accept', this.listener.subject())),
    );
  }

  override answered(error: number, _result: number, at: number, more: boolean): void {
    if (error === 0) this.queue.push(acceptedAt(this.listener, at));
    if (!more) this.disarmed(error);
    else if (this.queue.length >= BACKLOG) this.pause();
    this.wake();
  }

  protected override proceed(): void {
    if (this.ending || this.token >= 0 || this.queue.length > 0) return;
    this.listener.assertOpen();
    this.token = this.thread.add(this);
    this.inFlight++;
    this.pausing = false;
    const { id } = this.listener;
    const flags = SubmissionFlag.Multishot;
    this.thread.submissions.accept(id, this.token, flags);
  }

  protected override take(): TcpSocket<'await'> | undefined {
    const socket = this.queue.shift();
    if (socket === undefined) return undefined;
    this.alarm?.cancel();
    this.alarm = undefined;
    return socket;
  }

  protected override cancel(): void {
    if (this.token >= 0) this.thread.cancel(this.token);
  }

  protected override finish(): void {
    this.alarm?.cancel();
    const { listener } = this;
    for (const socket of this.queue.splice(0)) {
      if (points.dropped.wanted) points.dropped.publish({ socket, listener });
      socket.closeQuietly();
    }
  }

  /** The loop is behind: connections wait in the kernel's backlog meanwhile. */
  private pause(): void {
    if (this.pausing) return;
    this.pausing = true;
    this.cancel();
  }

  private disarmed(error: number): void {
    this.token = -1;
    this.inFlight--;
    // A cancelled accept is a pause, the end of the loop, or the end of the listener.
    const gone = this.listener.closed || this.thread.closed;
    const paused = (error === ECANCELED || error === 0) && !gone;
    if (!paused) this.ended(error || ECANCELED);
    else if (!this.ending) this.proceed();
  }
}
