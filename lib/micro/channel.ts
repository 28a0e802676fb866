/**
 * Channels: bounded queues between micro-threads.
 */
import { inspect } from 'node:util';
import type { AwaitOptions, Waitable } from '../api';
import { cancelled } from '../support/errors';
import * as validate from '../support/validate';
import type * as api from './api';
import { spawn } from './spawn';
import { LimitedWait } from './limits';
import { channelClosed, Takable, Taking } from './taking';
import { MicroThread } from './thread';

const LARGEST = 2 ** 31 - 1;

/** First in, first out; whoever gives up leaves from the middle. */
class Queue<T extends { before: T | undefined; behind: T | undefined }> {
  first: T | undefined = undefined;
  private last: T | undefined = undefined;

  add(one: T): void {
    one.before = this.last;
    if (this.last === undefined) this.first = one;
    else this.last.behind = one;
    this.last = one;
  }

  remove(one: T): void {
    const { before, behind } = one;
    if (before === undefined) this.first = behind;
    else before.behind = behind;
    if (behind === undefined) this.last = before;
    else behind.before = before;
    one.before = one.behind = undefined;
  }

  shift(): T | undefined {
    const { first } = this;
    if (first !== undefined) this.remove(first);
    return first;
  }
}

/** A `put` that is waited for. */
class Put<T> extends LimitedWait<void> {
  before: Put<T> | undefined = undefined;
  behind: Put<T> | undefined = undefined;
  readonly item: T;
  readonly owner: Channel<T>;

  constructor(channel: Channel<T>, item: T, options: AwaitOptions | undefined) {
    super(options);
    this.owner = channel;
    this.item = item;
  }

  override get what(): string {
    return 'put';
  }

  override next(): this {
    if (!this.done && !this.failed && !this.refused() && this.owner.tryPut(this.item)) {
      this.done = true;
    }
    return super.next();
  }

  /** @internal It is in the channel. */
  accepted(): void {
    this.fulfil();
  }

  /** @internal */
  refuse(error: Error): void {
    this.fail(error);
  }

  protected override begin(): void {
    if (this.refused()) return;
    this.owner.waitToPut(this);
    this.startLimit();
  }

  protected override stop(): void {
    this.endLimit();
    this.owner.puts.remove(this);
  }
}

class Take<T> extends Taking<T> {
  before: Take<T> | undefined = undefined;
  behind: Take<T> | undefined = undefined;
  readonly owner: Channel<T>;

  constructor(channel: Channel<T>, options: AwaitOptions | undefined) {
    super(options);
    this.owner = channel;
  }

  override next(): this {
    if (!this.done && !this.failed && !this.refused()) this.owner.giveNow(this);
    return super.next();
  }

  /** @internal The next value is for it. */
  give(item: T): void {
    this.fulfil(item);
  }

  protected override begin(): void {
    if (this.refused()) return;
    this.owner.waitToTake(this);
    this.startLimit();
  }

  protected override stop(): void {
    this.endLimit();
    this.owner.takes.remove(this);
  }
}

/** The channel of lib/micro/api.ts. */
export class Channel<T> extends Takable<T> implements api.Channel<T> {
  readonly capacity: number;
  /** @internal Who waits; one of the two is empty. */
  readonly puts = new Queue<Put<T>>();
  /** @internal */
  readonly takes = new Queue<Take<T>>();
  private items: T[] = [];
  /** Those before it are taken: to shift a long array moves all of it. */
  private first = 0;
  private isClosed = false;
  private failure: { readonly error: unknown } | undefined = undefined;

  constructor(capacity: number) {
    super();
    this.capacity = validate.integer(capacity, 'capacity', 0, LARGEST);
  }

  get size(): number {
    return this.items.length - this.first;
  }

  get closed(): boolean {
    return this.isClosed;
  }

  put(item: T, options?: AwaitOptions): Waitable<void> {
    return new Put(this, item, options);
  }

  take(options?: AwaitOptions): Waitable<T> {
    return this.newTake(options);
  }

  /** @internal */
  newTake(options?: AwaitOptions): Take<T> {
    return new Take(this, options);
  }

  tryPut(item: T): boolean {
    if (this.isClosed) throw this.refusal();
    const take = this.takes.shift();
    if (take !== undefined) take.give(item);
    else if (this.size < this.capacity && this.puts.first === undefined) this.items.push(item);
    else return false;
    return true;
  }

  tryTake(): T | undefined {
    const take = new Take(this, undefined);
    this.giveNow(take);
    if (take.failed) throw take.value;
    return take.value as T | undefined;
  }

  close(): void {
    this.isClosed = true;
    this.endTakes();
  }

  fail(error: unknown): void {
    if (this.isClosed) return;
    this.isClosed = true;
    this.failure = { error };
    this.drop();
    this.endTakes();
  }

  /** @internal Nobody takes any more: who puts is told. */
  abandon(): void {
    this.isClosed = true;
    this.drop();
  }

  pipe<U>(
    stage: (input: api.ReadonlyChannel<T>, output: api.Channel<U>) => api.Micro<unknown>,
    options: api.PipeOptions = {},
  ): Channel<U> {
    return pipe(this, stage, options);
  }

  [inspect.custom](_depth: number, options: object, show: typeof inspect): string {
    return `Channel ${show(this.toJSON(), options)}`;
  }

  toJSON(): object {
    const { size, capacity, closed } = this;
    return { size, capacity, closed };
  }

  /** @internal Gives `take` what there is to be had without waiting. */
  giveNow(take: Take<T>): void {
    if (this.size > 0) {
      take.give(this.shift());
      const put = this.puts.shift();
      if (put === undefined) return;
      this.items.push(put.item);
      put.accepted();
      return;
    }
    const put = this.puts.shift(); // of a channel without capacity
    if (put !== undefined) {
      take.give(put.item);
      put.accepted();
    } else if (this.failure !== undefined) take.refuse(this.failure.error, false);
    else if (this.isClosed) take.refuse(channelClosed(undefined), true);
  }

  /** @internal */
  waitToTake(take: Take<T>): void {
    this.giveNow(take);
    if (!take.done && !take.failed) this.takes.add(take);
  }

  /** @internal */
  waitToPut(put: Put<T>): void {
    if (this.isClosed) put.refuse(this.refusal());
    else if (this.tryPut(put.item)) put.accepted();
    else this.puts.add(put);
  }

  private refusal(): Error {
    return channelClosed(this.failure?.error);
  }

  private shift(): T {
    const item = this.items[this.first]!;
    this.items[this.first++] = undefined as T;
    if (this.first * 2 > this.items.length) {
      this.items.splice(0, this.first);
      this.first = 0;
    }
    return item;
  }

  /** Forgets what is in it, and refuses what waits to be. */
  private drop(): void {
    this.items = [];
    this.first = 0;
    for (let put = this.puts.shift(); put !== undefined; put = this.puts.shift()) {
      put.refuse(this.refusal());
    }
  }

  /** Who takes waits only where there is nothing. */
  private endTakes(): void {
    for (let take = this.takes.shift(); take !== undefined; take = this.takes.shift()) {
      this.giveNow(take);
    }
  }
}

/** `pipe` of any channel. */
export function pipe<T, U>(
  input: Takable<T> & api.ReadonlyChannel<T>,
  stage: (input: api.ReadonlyChannel<T>, output: api.Channel<U>) => api.Micro<unknown>,
  options: api.PipeOptions,
): Channel<U> {
  validate.callback(stage, 'stage');
  validate.options(options);
  validate.known(options, 'options', ['capacity', 'name', 'signal']);
  const signal = validate.signal(options.signal);
  const runsNothing = signal?.aborted === true;
  const output = new Channel<U>(options.capacity ?? input.capacity);
  spawn(runStage(stage, input, output), { name: options.name ?? stage.name, signal });
  if (runsNothing) cutOff(input, output); // not even the end of runStage
  return output;
}

function* runStage<T, U>(
  stage: (input: api.ReadonlyChannel<T>, output: api.Channel<U>) => api.Micro<unknown>,
  input: Takable<T> & api.ReadonlyChannel<T>,
  output: Channel<U>,
): api.Micro<void> {
  let over = false;
  try {
    yield* stage(input, output);
    // A generator whose clean-up waits gives back, to who delegates to it, as one that returned.
    over = MicroThread.current?.told !== true;
  } catch (error) {
    over = true;
    if (!output.closed) output.fail(error);
    // A stage whose output nobody takes has done what it had to.
    else if ((error as { code?: unknown }).code !== 'ERR_CHANNEL_CLOSED') throw error;
  } finally {
    if (over) {
      output.close();
      input.abandon();
    } else cutOff(input, output);
  }
}

/** The stage between the two was cancelled. */
function cutOff(input: Takable<unknown>, output: Channel<unknown>): void {
  output.fail(cancelled('pipe', {}));
  input.abandon();
}
