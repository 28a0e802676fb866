/**
 * Taking packets on the event loop: one after another with a handler, or in an async loop.
 */
import { inspect } from 'node:util';
import type { AsyncLoop, AwaitOptions, ConsumeOptions, Consumer, Packet } from '../api';
import { abortError, invalidState, promiseReturned, timedOut } from '../support/errors';
import type { Batch } from '../packets/batch';
import { takenAlready, type PacketTaker, type PortThread } from '../thread/port-thread';
import { AWAIT_OPTIONS, Watch, type Stoppable } from '../await/operation';
import { Alarm } from '../support/timers';
import * as validate from '../support/validate';

const MOST = 256;

export class HandlerConsumer implements PacketTaker, Consumer {
  readonly #batch: Batch;
  readonly #thread: PortThread;
  readonly #handler: (packet: Packet) => unknown;
  /** Whether it is called in the contexts that handles have kept. */
  readonly #inContexts: boolean;
  /** Whether the handler was told that it must not be async. */
  #refused = false;
  #finished: Promise<void> | undefined = undefined;
  #resolve: (() => void) | undefined = undefined;

  constructor(batch: Batch, handler: (packet: Packet) => void, options: ConsumeOptions) {
    validate.options(options);
    validate.known(options, 'options', ['asyncResource']);
    this.#batch = batch;
    this.#thread = batch.thread;
    this.#handler = handler;
    this.#inContexts = validate.boolean(options.asyncResource ?? false, 'options.asyncResource');
    begin(this.#thread, this);
  }

  stop(): void {
    if (this.#thread.consumer !== this) return;
    this.#thread.setConsumer(undefined);
    this.ended();
  }

  get finished(): Promise<void> {
    this.#finished ??= new Promise((resolve) => {
      if (this.#thread.consumer === this) this.#resolve = resolve;
      else resolve();
    });
    return this.#finished;
  }

  [Symbol.dispose](): void {
    this.stop();
  }

  [inspect.custom](): string {
    return `Consumer { ${this.state} }`;
  }

  toJSON(): object {
    return { consumer: this.state };
  }

  private get state(): string {
    return this.#thread.consumer === this ? 'taking packets' : 'stopped';
  }

  wanted(): number {
    return MOST;
  }

  take(count: number): void {
    const batch = this.#batch;
    if (!batch.begin(count, true)) return;
    // When the handler throws, its packet stays claimed until the next call to native code.
    do {
      const answer = this.#inContexts ? this.callInContext() : this.#handler(batch.packet as never);
      if (answer !== undefined) this.refuse(answer);
    } while (this.#thread.consumer === this && batch.advance());
    batch.drop();
  }

  ended(): void {
    this.#resolve?.();
  }

  private callInContext(): unknown {
    const { packet } = this.#batch;
    const { context } = packet;
    if (context === undefined) return this.#handler(packet as never);
    return context.runInAsyncScope(this.#handler, undefined, packet);
  }

  /**
   * A promise would have its handler go on when the packet is no longer at hand. Told once: a program
   * that goes on after an uncaught exception is not to be told for each packet.
   */
  private refuse(answer: unknown): void {
    if (this.#refused || !validate.isThenable(answer)) return;
    this.#refused = true;
    throw promiseReturned(
      'The handler of consume() returned a promise, but a packet is at hand only until the handler ' +
        'returns. Use `for await (const packet of port.packets())`, or have the handler read ' +
        'what it needs, packet.toObject() perhaps, before it calls an async function',
    );
  }
}

/** The packets of an async loop, each an object of its own. */
export class PacketStream implements PacketTaker, Stoppable, AsyncLoop<Packet> {
  readonly #batch: Batch;
  readonly #thread: PortThread;
  #resolve: ((result: IteratorResult<Packet, undefined>) => void) | undefined = undefined;
  #reject: ((error: Error) => void) | undefined = undefined;
  #failure: Error | undefined = undefined;
  #done = false;
  /** Shrinks when the loop awaits in the middle of a batch, whose rest then goes back. */
  #appetite = MOST;

  readonly #signal: AbortSignal | undefined;
  readonly #timeout: number;
  #watch: Watch | undefined = undefined;
  #alarm: Alarm | undefined = undefined;

  constructor(batch: Batch, options: AwaitOptions = {}) {
    validate.options(options);
    validate.known(options, 'options', AWAIT_OPTIONS);
    this.#batch = batch;
    this.#thread = batch.thread;
    this.#signal = validate.signal(options.signal);
    this.#timeout = validate.timeout(options.timeout);
    begin(this.#thread, this);
    if (this.#signal?.aborted) this.stop(abortError(this.#signal.reason));
    else if (this.#signal) this.#watch = new Watch(this.#signal, this);
  }

  next(): Promise<IteratorResult<Packet, undefined>> {
    if (this.#failure !== undefined) {
      this.finish();
      return Promise.reject(this.takeFailure());
    }
    if (this.#done) return Promise.resolve({ done: true, value: undefined });
    if (this.#resolve !== undefined) {
      return Promise.reject(invalidState('next() was called before the last one had answered'));
    }
    if (this.#batch.advance()) return Promise.resolve(this.current());
    if (this.#batch.interrupted) this.#appetite = 1;
    else this.#appetite = Math.min(MOST, this.#appetite * 2);
    this.#thread.schedule();
    return new Promise((resolve, reject) => {
      this.#resolve = resolve;
      this.#reject = reject;
      if (this.#timeout > 0) this.#alarm = new Alarm(this.#timeout, () => this.expire());
    });
  }

  return(): Promise<IteratorResult<Packet, undefined>> {
    this.finish();
    return Promise.resolve({ done: true, value: undefined });
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  [inspect.custom](): string {
    return `AsyncLoop { packets, ${this.#done ? 'ended' : 'open'} }`;
  }

  toJSON(): object {
    return { loop: 'packets', state: this.#done ? 'ended' : 'open' };
  }

  /** @internal The signal was aborted, or no packet came in time. */
  stop(reason: Error | undefined): void {
    if (this.#done) return;
    this.#failure = reason;
    const reject = this.#reject;
    if (reject === undefined) return; // the loop has a packet at hand: told when it asks for the next
    this.#resolve = this.#reject = undefined;
    this.finish();
    reject(this.takeFailure());
  }

  wanted(): number {
    return this.#resolve === undefined ? 0 : this.#appetite;
  }

  take(count: number): void {
    if (this.#resolve === undefined || !this.#batch.begin(count, false)) return;
    this.#batch.unprime();
    const resolve = this.#resolve;
    this.#resolve = this.#reject = undefined;
    this.#alarm?.cancel();
    resolve(this.current());
  }

  /** Whoever closes the port itself knows: its loop ends. Another thread's is told (rule D10). */
  ended(error: Error, here: boolean): void {
    const [resolve, reject] = [this.#resolve, this.#reject];
    this.#resolve = this.#reject = undefined;
    this.over();
    if (here) {
      resolve?.({ done: true, value: undefined });
      return;
    }
    this.#failure = error;
    if (reject !== undefined) reject(this.takeFailure());
  }

  private expire(): void {
    this.stop(timedOut('packets', {}));
  }

  /** An iterator fails once, and has ended then. */
  private takeFailure(): Error {
    const failure = this.#failure!;
    this.#failure = undefined;
    return failure;
  }

  /** No more packets are to come. */
  private over(): void {
    this.#done = true;
    this.#watch?.end();
    this.#alarm?.cancel();
  }

  private current(): IteratorYieldResult<Packet> {
    return { done: false, value: this.#batch.packet as unknown as Packet };
  }

  private finish(): void {
    if (this.#done) return;
    this.over();
    if (this.#thread.consumer !== this) return;
    this.#batch.drop();
    this.#thread.setConsumer(undefined);
    // What was not taken goes back to the queue with the next call.
    this.#thread.schedule();
    this.#resolve?.({ done: true, value: undefined });
    this.#resolve = this.#reject = undefined;
  }
}

function begin(thread: PortThread, consumer: PacketTaker): void {
  if (thread.consumer !== undefined) throw takenAlready(thread.consumer);
  thread.setConsumer(consumer);
}
