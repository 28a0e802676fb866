/**
 * What a connection receives: one receive in flight at a time, whose buffer goes back to the port
 * with the next one. Bytes are copied out: what is pushed into a stream is the program's for good.
 */
import { Kind, NO_CHUNK, Packet as Slot, SubmissionFlag } from '../../native/binding';
import { ECANCELED, failure } from '../../support/errors';
import type { TcpSocket } from '../../handles/socket';
import type { Entry, Lane } from '../../thread/lane';

/** Whoever has the connection. */
export interface Receiver {
  /** Bytes of its own; whether more are welcome now. */
  _received(bytes: Buffer): boolean;
  _receivedEnd(): void;
  _receiveFailed(error: Error): void;
}

export class Reading implements Entry {
  /** Nothing more is to come. */
  over = false;
  private readonly lane: Lane;
  private readonly id: number;
  private readonly receiver: Receiver;
  /** Of the receive in flight; -1: none. */
  private token = -1;
  private wanted = false;

  constructor(handle: TcpSocket<'await'>, receiver: Receiver) {
    this.lane = handle.lane;
    this.id = handle.id;
    this.receiver = receiver;
  }

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

  /** The connection is being closed, which ends what is in flight. */
  end(): void {
    this.over = true;
  }

  answered(error: number, result: number, at: number): void {
    this.token = -1;
    if (error !== 0) return this.failed(error);
    const { words, memory } = this.lane;
    const chunk = words[at + Slot.CHUNK / 4]!;
    const start = words[at + Slot.START / 4]!;
    if (result === 0 || this.over) {
      if (chunk !== NO_CHUNK) memory.give(chunk, start);
      if (this.over) return;
      this.over = true;
      this.receiver._receivedEnd();
      return;
    }
    const bytes = memory.copyOut(chunk, start, result);
    this.wanted = this.receiver._received(bytes) && this.wanted;
    // A receive that was begun meanwhile took a buffer of its own.
    if (this.wanted && !this.over && this.token < 0) this.submit(chunk, start);
    else memory.give(chunk, start);
  }

  /** `chunk`, `start`: a received buffer that goes back with it. */
  private submit(chunk: number, start: number): void {
    const { lane } = this;
    if (lane.closed) return;
    this.token = lane.add(this);
    const flags = chunk === NO_CHUNK ? 0 : SubmissionFlag.Release;
    lane.submissions.receive(this.id, this.token, flags, 0, chunk, start);
  }

  private failed(error: number): void {
    if (this.over || error === ECANCELED) return;
    this.over = true;
    this.receiver._receiveFailed(failure(error, Kind.Receive, { net: true }));
  }
}
