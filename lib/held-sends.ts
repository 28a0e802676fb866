/**
 * Sends of await style that were begun while their socket had enough to send. They wait here, in the
 * order of the calls, and take none of the port's memory until their turn comes.
 */
import { ECANCELED, ETIMEDOUT } from './errno';
import type { Lender } from './lane';
import type { Operation } from './operation';
import { Alarm, now } from './timers';

interface Held {
  readonly operation: Operation<unknown>;
  readonly bytes: number;
  readonly deadline: number;
  readonly alarm: Alarm | undefined;
  readonly begin: (timeout: number) => void;
  /** The loop whose bytes it sends: it receives nothing until they have their turn (rule M4). */
  readonly loop: Lender | undefined;
}

export class HeldSends {
  /** Bytes that wait. */
  bytes = 0;
  /** Sends under way whose end lets others begin. */
  private awaited = 0;
  private readonly waiting: Held[] = [];
  private readonly isBelow: () => boolean;

  /** `isBelow`: whether the socket has less to send than its mark. */
  constructor(isBelow: () => boolean) {
    this.isBelow = isBelow;
  }

  /** Whether anything waits that a signal or its timeout has not ended meanwhile. */
  get any(): boolean {
    while (this.waiting.length > 0 && !this.waiting[0]!.operation.pending) this.take();
    return this.waiting.length > 0;
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
    const expire = (): void => operation.fail(operation.errorOf(ETIMEDOUT));
    const alarm = timeout > 0 ? new Alarm(timeout, expire) : undefined;
    this.bytes += bytes;
    loop?.holdBack();
    this.waiting.push({ operation, bytes, deadline: now() + timeout, alarm, begin, loop });
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
    const all = this.waiting.splice(0);
    this.bytes = 0;
    for (const { operation, alarm, loop } of all) {
      alarm?.cancel();
      loop?.letReceive();
      operation.fail(operation.errorOf(ECANCELED));
    }
  }

  private beginFirst(): void {
    const { operation, deadline, alarm, begin } = this.take();
    begin(alarm === undefined ? 0 : Math.max(1, Math.ceil(deadline - now())));
    this.follow(operation);
  }

  private take(): Held {
    const held = this.waiting.shift()!;
    this.bytes -= held.bytes;
    held.alarm?.cancel();
    held.loop?.letReceive();
    return held;
  }
}
