/**
 * Loops of micro-threads: `for (const socket of yield* each(listener))`.
 */
import type { Suspended, Waitable } from '../api';
import { invalidState } from '../support/errors';
import { Stream } from '../await/stream';
import {
  waitFor,
  withoutWaiter,
  withWaiter,
  type Suspension,
  type Waiter,
} from '../await/suspension';
import * as validate from '../support/validate';
import type * as api from './api';
import { Takable, type Taking } from './taking';
import { MicroThread, type InnerLoop } from './thread';
import { trace } from './trace';
import { wait } from './wait';

/** Where the values of a loop come from. */
interface Source<T> {
  readonly what: string;
  readonly owner: object;
  /** Whether it has failed because its port is closed: the micro-thread is cancelled then. */
  readonly gone: boolean;
  /** The last value is no longer used. */
  ask(): void;
  /** The next value or the end, if it is there. */
  look(): IteratorResult<T, undefined> | undefined;
  hear(waiter: Waiter): void;
  leave(waiter: Waiter): void;
  /** The loop was left early; `unseen`: a value that it has not had. */
  close(unseen: T | undefined): void;
}

/** What is of no use any more, whose failure is nobody's business. */
function ignore(result: unknown): void {
  void Promise.resolve(result).catch(() => undefined);
}

class StreamSource<T> implements Source<T> {
  readonly owner: object;
  readonly what = 'each';
  private readonly stream: Stream<T>;

  constructor(owner: object, stream: Stream<T>) {
    this.owner = owner;
    this.stream = stream;
  }

  get gone(): boolean {
    return this.stream.gone;
  }

  ask(): void {
    this.stream.ask();
  }

  look(): IteratorResult<T, undefined> | undefined {
    return this.stream.look();
  }

  hear(waiter: Waiter): void {
    this.stream.tell(waiter);
  }

  leave(): void {
    this.stream.tell(undefined);
  }

  close(unseen: T | undefined): void {
    ignore(this.stream.return());
    // A connection is nobody else's to close.
    ignore((unseen as Partial<AsyncDisposable> | undefined)?.[Symbol.asyncDispose]?.());
  }
}

class ChannelSource<T> implements Source<T> {
  readonly owner: Takable<T>;
  readonly what = 'take';
  /** A loop over a channel throws that. */
  readonly gone = false;
  private taking: Taking<T>;

  constructor(channel: Takable<T>) {
    this.owner = channel;
    this.taking = channel.newTake();
  }

  ask(): void {
    this.taking = this.owner.newTake();
    this.owner.giveNow(this.taking);
  }

  look(): IteratorResult<T, undefined> | undefined {
    const { taking } = this;
    if (taking.done) return { done: false, value: taking.value as T };
    if (taking.ended) return { done: true, value: undefined };
    if (taking.failed) throw taking.value;
    return undefined;
  }

  hear(waiter: Waiter): void {
    this.taking.hear(waiter);
  }

  leave(waiter: Waiter): void {
    this.taking.leave(waiter);
  }

  close(): void {
    // Others may take from it.
  }
}

class IteratorSource<T> implements Source<T> {
  readonly owner: object;
  readonly what = 'each';
  readonly gone = false;
  private readonly iterator: AsyncIterator<T>;
  private asked: Suspension | undefined = undefined;

  constructor(iterable: object, iterator: AsyncIterator<T>) {
    this.owner = iterable;
    this.iterator = iterator;
  }

  ask(): void {
    // As `for await`, it takes methods that give no promise.
    this.asked = wait(Promise.resolve(this.iterator.next())) as unknown as Suspension;
  }

  look(): IteratorResult<T, undefined> | undefined {
    const { done, failed, value } = this.asked!;
    if (failed) throw value;
    if (!done) return undefined;
    if (typeof value === 'object' && value !== null) return value as IteratorResult<T, undefined>;
    throw new TypeError(`Iterator result ${String(value)} is not an object`);
  }

  hear(waiter: Waiter): void {
    this.asked!.hear(waiter);
  }

  leave(waiter: Waiter): void {
    this.asked!.leave(waiter);
  }

  close(): void {
    ignore(this.iterator.return?.());
  }
}

/** Waits for the next value of a loop: the same object each time. */
class Advance<T> implements Suspension, Waitable<void>, Waiter {
  done = false;
  readonly value = undefined;
  /** What the source gave last, until the loop has it. */
  private result: IteratorResult<T, undefined> | undefined = undefined;
  private failure: { readonly error: unknown } | undefined = undefined;
  /** The source was asked, and nobody has had its answer. */
  private asked = false;
  /** A group that waits for it; a micro-thread hears the source by itself. */
  private waiter: Waiter | undefined = undefined;
  private readonly source: Source<T>;

  constructor(source: Source<T>) {
    this.source = source;
  }

  get what(): string {
    return this.source.what;
  }

  get owner(): object {
    return this.source.owner;
  }

  /** What a micro-thread waits for by itself is thrown where the loop is. */
  get failed(): boolean {
    return this.failure !== undefined || this.source.gone;
  }

  get gone(): boolean {
    return this.source.gone;
  }

  [Symbol.iterator](): Iterator<Suspended, void, unknown> {
    return this as unknown as Iterator<Suspended, void, unknown>;
  }

  next(): this {
    this.done = this.fetch();
    if (!this.done) {
      waitFor(this);
      return this;
    }
    const { failure } = this;
    this.failure = undefined;
    // eslint-disable-next-line @typescript-eslint/unbound-method -- names where the stack begins
    if (failure !== undefined) throw trace(failure.error, this.next);
    this.asked = false;
    return this;
  }

  /** What the loop has not had yet. */
  take(): IteratorResult<T, undefined> | undefined {
    const { result } = this;
    this.result = undefined;
    this.asked = false;
    return result;
  }

  hear(waiter: Waiter): void {
    if (waiter instanceof MicroThread) {
      this.source.hear(waiter);
      return;
    }
    this.waiter = withWaiter(this.waiter, waiter);
    this.wake();
  }

  leave(waiter: Waiter): void {
    if (waiter instanceof MicroThread) {
      this.source.leave(waiter);
      return;
    }
    this.waiter = withoutWaiter(this.waiter, waiter);
    if (this.waiter === undefined) this.source.leave(this);
  }

  /** There may be something for the group. */
  wake(): void {
    if (!this.fetch()) {
      this.source.hear(this);
      return;
    }
    const { waiter } = this;
    this.waiter = undefined;
    waiter?.wake();
  }

  abandon(waiter: Waiter): boolean {
    this.leave(waiter);
    return true;
  }

  /** Whether the next value, the end or a failure is there. */
  private fetch(): boolean {
    if (this.failure !== undefined) return true;
    try {
      if (!this.asked) {
        this.result = undefined;
        this.source.ask();
        this.asked = true;
      }
      this.result ??= this.source.look();
    } catch (error) {
      this.failure = { error };
    }
    return this.failure !== undefined || this.result !== undefined;
  }
}

class Loop<T> implements Iterator<T, undefined>, InnerLoop {
  readonly advance: Advance<T>;
  private readonly source: Source<T>;
  private readonly thread: MicroThread<unknown>;
  private over = false;

  constructor(source: Source<T>, thread: MicroThread<unknown>) {
    this.source = source;
    this.advance = new Advance(source);
    this.thread = thread;
    thread.loops ??= [];
    thread.loops.push(this);
  }

  [Symbol.iterator](): this {
    return this;
  }

  next(): IteratorResult<T, undefined> {
    const result = this.advance.take();
    if (result === undefined) {
      this.return();
      throw invalidState('The body of a loop over each() ends with `yield* each.next()`');
    }
    if (result.done) this.end();
    return result;
  }

  return(): IteratorResult<T, undefined> {
    if (!this.over) this.source.close(this.advance.take()?.value);
    this.end();
    return { done: true, value: undefined };
  }

  /** The innermost loop is the one around it again. */
  end(): void {
    if (this.over) return;
    this.over = true;
    const { loops } = this.thread;
    const at = loops?.lastIndexOf(this) ?? -1;
    if (at >= 0) loops!.length = at;
  }
}

function sourceOf<T>(source: api.EachSource<T>): Source<T> {
  if (source instanceof Takable) return new ChannelSource(source as Takable<T>);
  if (source instanceof Stream) return new StreamSource(source, source);
  if (typeof (source as Partial<AsyncIterable<T>> | null)?.[Symbol.asyncIterator] !== 'function') {
    throw validate.invalidType('source', 'a channel or an async iterable', source);
  }
  const iterator = (source as AsyncIterable<T>)[Symbol.asyncIterator]();
  if (iterator instanceof Stream) return new StreamSource(source, iterator as Stream<T>);
  return new IteratorSource(source, iterator);
}

function here(): MicroThread<unknown> {
  const thread = MicroThread.current;
  if (thread !== undefined) return thread;
  throw invalidState('each() is for micro-threads: use for await');
}

function* goOver<T>(source: api.EachSource<T>): api.Micro<Iterable<T>> {
  const loop = new Loop(sourceOf(source), here());
  let begun = false;
  try {
    yield* loop.advance;
    begun = true;
    return loop;
  } finally {
    if (!begun) loop.return();
  }
}

function next(): Waitable<void> {
  const loop = here().loops?.at(-1);
  if (loop === undefined) throw invalidState('each.next() is for the body of a loop over each()');
  return loop.advance as Advance<unknown>;
}

/** `each` of lib/micro/api.ts. */
export const each: api.Each = Object.assign(goOver, { next });
