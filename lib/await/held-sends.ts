/**
 * Sends of await style that were begun while their socket had enough to send. They wait here, in the
 * order of the calls, and take none of the port's memory until their turn comes.
 */
import { LibraryError } from '../native/layout';
import { ECANCELED } from '../support/errno';
import type { Lender } from '../thread/memory';
import type { Operation } from './operation';
import { Alarm, now } from '../support/timers';
import { warnOnce } from '../support/warnings';

interface Held {
  readonly operation: Operation<unknown>;
  readonly bytes: number;
  readonly deadline: number;
  readonly alarm: Alarm | undefined;
  readonly begin: (timeout: number) => void;
  /** The loop whose bytes it sends: it receives nothing until they have their turn (rule M4). */
  readonly loop: Lender | undefined;
}

/** So many times its mark, or so many sends, wait for a socket of a program that awaits none of them. */
const MANY_MARKS = 16;
const MANY_SENDS = 65_536;

/** The process was told: once is enough to find the place. */
let told = false;

export class HeldSends {
  /** Bytes that wait. */
  bytes = 0;
  /** Sends under way whose end lets others begin. */
  private awaited = 0;
  /** Those before `first` had their turn: to shift a long array moves all of it. */
  private readonly waiting: (Held | undefined)[] = [];
  private first = 0;
  private readonly isBelow: () => boolean;
  private readonly mark: () => number;

  /** `isBelow`: whether the socket has less to send than its mark. */
  constructor(isBelow: () => boolean, mark: () => number) {
    this.isBelow = isBelow;
    this.mark = mark;
  }

  /** Whether anything waits that a signal or its timeout has not ended meanwhile. */
  get any(): boolean {
    while (this.first < this.waiting.length && !this.waiting[this.first]!.operation.pending) {
      this.take();
    }
    return this.first < this.waiting.length;
  }

  /** Whether what is sent now has to wait: for others, or for the end of a send under way. */
  get full(): boolean {
    return this.any || (this.awaited > 0 && !this.isBelow());
  }

  /** `begin` submits `operation`, with what is left of its timeout; 0: none. */
  add(
    operation: Operation<unknown>,
    bytes: number,
    timeout: number,
    begin: (timeout: number) => void,
    loop?: Lender,
  ): void {
    const expire = (): void => operation.fail(operation.errorOf(LibraryError.TimedOut));
    const alarm = timeout > 0 ? new Alarm(timeout, expire) : undefined;
    this.bytes += bytes;
    loop?.holdBack();
    this.waiting.push({ operation, bytes, deadline: now() + timeout, alarm, begin, loop });
    if (!told) this.tellOfMany();
  }

  /** As a program of streams that ignores what `write` returns, it has no bound but its own memory. */
  private tellOfMany(): void {
    const sends = this.waiting.length - this.first;
    if (this.bytes <= MANY_MARKS * this.mark() && sends <= MANY_SENDS) return;
    told = true;
    warnOnce(
      'UnawaitedSendsWarning',
      'CP_WARN_UNAWAITED_SENDS',
      `${sends} sends with ${this.bytes} bytes wait for one socket, and more are begun. ` +
        'Await each send, or look at socket.bufferedAmount before you make more',
    );
  }

  /** `send` made the socket full: its end lets others begin. */
  follow(send: Operation<unknown>): void {
    if (send.token < 0) return;
    this.awaited++;
    const before = send.aftermath;
    send.aftermath = {
      after: (error, result) => {
        before?.after(error, result);
        this.awaited--;
        this.release();
      },
    };
  }

  /** Begins as many as the socket takes. */
  release(): void {
    while (this.any && (this.awaited === 0 || this.isBelow())) this.beginFirst();
  }

  /** Begins all: something follows that can't wait. */
  releaseAll(): void {
    while (this.any) this.beginFirst();
  }

  /** The socket is closed, or what it does is cancelled. */
  cancelAll(): void {
    const all = this.waiting.splice(0).slice(this.first) as Held[];
    this.bytes = this.first = 0;
    for (const { operation, alarm, loop } of all) {
      alarm?.cancel();
      loop?.letReceive();
      operation.fail(operation.errorOf(operation.thread.awaited.reasonOf(ECANCELED)));
    }
  }

  private beginFirst(): void {
    const { operation, deadline, alarm, begin } = this.take();
    begin(alarm === undefined ? 0 : Math.max(1, Math.ceil(deadline - now())));
    this.follow(operation);
  }

  private take(): Held {
    const held = this.waiting[this.first]!;
    this.waiting[this.first++] = undefined;
    if (this.first * 2 > this.waiting.length) {
      this.waiting.splice(0, this.first);
      this.first = 0;
    }
    this.bytes -= held.bytes;
    held.alarm?.cancel();
    held.loop?.letReceive();
    return held;
  }
}
