/**
 * Taking packets on the event loop: one after another with a handler, or in an async loop.
 */
import { coded, invalidState } from './errors';
import { takenAlready, type Consumer as Taker, type Lane } from './lane';
import type { Packet } from './packet';

const MOST = 256;

/** What `port.consume` returns. */
export interface Consumer extends Disposable {
  /** Takes no more packets. */
  stop(): void;
}

export class HandlerConsumer implements Taker, Consumer {
  private readonly lane: Lane;
  private readonly handler: (packet: Packet) => unknown;
  /** Whether the handler was told that it must not be async. */
  private refused = false;

  constructor(lane: Lane, handler: (packet: Packet) => void) {
    this.lane = lane;
    this.handler = handler;
    begin(lane, this);
  }

  stop(): void {
    if (this.lane.consumer === this) this.lane.setConsumer(undefined);
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  wanted(): number {
    return MOST;
  }

  take(count: number): void {
    const { batch } = this.lane;
    if (!batch.begin(count, true)) return;
    // When the handler throws, its packet stays claimed until the next call to native code.
    do {
      const answer = this.handler(batch.packet);
      if (answer !== undefined) this.refuse(answer);
    } while (this.lane.consumer === this && batch.advance());
    batch.drop();
  }

  ended(): void {
    // The handler is not called any more.
  }

  /**
   * A promise would have its handler go on when the packet is no longer at hand. Told once: a program
   * that goes on after an uncaught exception is not to be told for each packet.
   */
  private refuse(answer: unknown): void {
    if (this.refused || typeof (answer as { then?: unknown } | null)?.then !== 'function') return;
    this.refused = true;
    throw coded(
      new TypeError(
        'The handler of consume() returned a promise, but a packet is at hand only until the handler ' +
          'returns. Use `for await (const packet of port.packets())`, or have the handler read ' +
          'what it needs, packet.toObject() perhaps, before it calls an async function',
      ),
      'ERR_INVALID_RETURN_VALUE',
    );
  }
}

/** The packets of an async loop, each an object of its own. */
export class PacketStream implements Taker, AsyncIterableIterator<Packet, undefined> {
  private readonly lane: Lane;
  private resolve: ((result: IteratorResult<Packet, undefined>) => void) | undefined = undefined;
  private reject: ((error: Error) => void) | undefined = undefined;
  private failure: Error | undefined = undefined;
  private done = false;
  /** Shrinks when the loop awaits in the middle of a batch, whose rest then goes back. */
  private appetite = MOST;

  constructor(lane: Lane) {
    this.lane = lane;
    begin(lane, this);
  }

  next(): Promise<IteratorResult<Packet, undefined>> {
    if (this.failure !== undefined) return Promise.reject(this.failure);
    if (this.done) return Promise.resolve({ done: true, value: undefined });
    if (this.resolve !== undefined) {
      return Promise.reject(invalidState('next() was called before the last one had answered'));
    }
    if (this.lane.batch.advance()) return Promise.resolve(this.current());
    if (this.lane.batch.interrupted) this.appetite = 1;
    else this.appetite = Math.min(MOST, this.appetite * 2);
    this.lane.schedule();
    return new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
  }

  return(): Promise<IteratorResult<Packet, undefined>> {
    this.stop();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  wanted(): number {
    return this.resolve === undefined ? 0 : this.appetite;
  }

  take(count: number): void {
    if (this.resolve === undefined || !this.lane.batch.begin(count, false)) return;
    this.lane.batch.unprime();
    const { resolve } = this;
    this.resolve = this.reject = undefined;
    resolve(this.current());
  }

  ended(error: Error): void {
    this.failure = error;
    const { reject } = this;
    this.resolve = this.reject = undefined;
    reject?.(error);
  }

  private current(): IteratorYieldResult<Packet> {
    return { done: false, value: this.lane.batch.packet };
  }

  private stop(): void {
    if (this.done) return;
    this.done = true;
    if (this.lane.consumer !== this) return;
    this.lane.batch.drop();
    this.lane.setConsumer(undefined);
    // What was not taken goes back to the queue with the next call.
    this.lane.schedule();
    this.resolve?.({ done: true, value: undefined });
    this.resolve = this.reject = undefined;
  }
}

function begin(lane: Lane, consumer: Taker): void {
  if (lane.consumer !== undefined) throw takenAlready(lane.consumer);
  lane.setConsumer(consumer);
}
