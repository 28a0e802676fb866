/**
 * What a socket has in place of the handle that Node's own has: packages look at `_handle`, and
 * node:http calls methods of it. It receives: one receive in flight at a time, whose buffer goes back to the port
 * with the next one. Bytes are copied out: what is pushed into a stream is the program's for good.
 */
import { Kind } from '../../native/kinds';
import { NO_CHUNK, Slot, SubmissionFlag } from '../../native/layout';
import { ECANCELED } from '../../support/errno';
import { failure, portClosed } from '../../support/errors';
import { queueMicrotask } from '../../support/timers';
import type { TcpSocket } from '../../handles/socket';
import type { Entry, PortThread } from '../../thread/port-thread';

/** Whoever has the connection. */
export interface Receiver {
  /** Bytes of its own; whether more are welcome now. */
  _received(bytes: Buffer): boolean;
  _receivedEnd(): void;
  _receiveFailed(error: Error): void;
}

export class Connection implements Entry {
  /** Nothing more is to come. */
  over = false;
  private readonly portThread: PortThread;
  readonly handle: TcpSocket<'await'>;
  private readonly receiver: Receiver;
  /** Of the receive in flight; -1: none. */
  private token = -1;
  private wanted = false;
  /** Whether the receive in flight is called back to learn whether anything has come. */
  private probed = false;

  constructor(handle: TcpSocket<'await'>, receiver: Receiver) {
    this.portThread = handle.thread;
    this.handle = handle;
    this.receiver = receiver;
  }

  // ---- as Node's own handle has it

  readStart(): number {
    this.start();
    return 0;
  }

  readStop(): number {
    this.pause();
    return 0;
  }

  get reading(): boolean {
    return this.active;
  }

  get fd(): number {
    return this.handle.fd;
  }

  /** Whether the peer hears that this side has ended. */
  get halfCloses(): boolean {
    if (process.platform !== 'win32' || this.closed) return true;
    return this.handle.thread.native.handleInfo(this.handle.id)?.halfCloses !== false;
  }

  get closed(): boolean {
    return this.handle.closed || this.portThread.closed;
  }

  close(): void {
    this.over = true;
    if (!this.closed) this.handle.close().catch(() => undefined);
  }

  // ---- receiving

  get active(): boolean {
    return this.wanted && !this.over;
  }

  /** More bytes are welcome. */
  start(): void {
    if (this.over) return;
    this.wanted = true;
    if (this.token < 0) this.submit(NO_CHUNK, 0);
  }

  /** No more for now. What a receive in flight still brings is handed over. */
  pause(): void {
    this.wanted = false;
  }

  /**
   * Calls back the receive in flight, whose answer decides: bytes that have come meanwhile are handed
   * over as ever, and none are the end. Without one, what the pipe holds is not known.
   */
  probe(): void {
    if (this.over || this.token < 0) return;
    this.probed = true;
    this.portThread.cancel(this.token);
  }

  /** The connection is being closed, which ends what is in flight. */
  end(): void {
    this.over = true;
  }

  answered(error: number, result: number, at: number): void {
    this.token = -1;
    const { probed } = this;
    this.probed = false;
    if (probed && error === ECANCELED && !this.closed) return this.ended();
    if (error !== 0) return this.failed(error);
    const { words, memory } = this.portThread;
    const chunk = words[at + Slot.CHUNK / 4]!;
    const start = words[at + Slot.START / 4]!;
    if (result === 0 || this.over) {
      if (chunk !== NO_CHUNK) memory.give(chunk, start);
      return this.ended();
    }
    const bytes = memory.copyOut(chunk, start, result);
    // A listener that throws stops nothing.
    let more = true;
    try {
      more = this.receiver._received(bytes);
    } finally {
      this.goOn(more, chunk, start);
    }
  }

  private goOn(more: boolean, chunk: number, start: number): void {
    this.wanted &&= more;
    // A receive that was begun meanwhile took a buffer of its own.
    if (this.active && this.token < 0) this.submit(chunk, start);
    else this.portThread.memory.give(chunk, start);
  }

  /** `chunk`, `start`: a received buffer that goes back with it. */
  private submit(chunk: number, start: number): void {
    const { portThread } = this;
    if (portThread.closed || this.handle.closed) return;
    if (portThread.submissions.chaining) {
      // It is no member of the chain: that goes first.
      queueMicrotask(() => this.submitBehind(chunk, start));
      return;
    }
    this.token = portThread.add(this);
    const flags = chunk === NO_CHUNK ? 0 : SubmissionFlag.Release;
    portThread.submissions.receive(this.handle.id, this.token, flags, 0, chunk, start);
  }

  private submitBehind(chunk: number, start: number): void {
    if (this.active && this.token < 0) this.submit(chunk, start);
    else if (chunk !== NO_CHUNK) this.portThread.memory.give(chunk, start);
  }

  private ended(): void {
    if (this.over) return;
    this.over = true;
    this.receiver._receivedEnd();
  }

  private failed(error: number): void {
    if (this.over) return;
    this.over = true;
    // Somebody else has closed it: only a port that ends does.
    const gone = error === ECANCELED && this.handle.closed;
    const reason = gone ? portClosed() : failure(error, Kind.Receive, { net: true });
    this.receiver._receiveFailed(reason);
  }
}
