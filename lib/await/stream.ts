/**
 * The common part of the async iterators over operations: chunks of a file, received bytes,
 * accepted sockets, ticks of a timer.
 *
 * Written by hand rather than as async generators, which cost two more turns of microtasks and two
 * more promises for each value.
 */
import { inspect } from 'node:util';
import type { AsyncLoop } from '../api';
import { LibraryError } from '../native/layout';
import { type Kind, syscallOf } from '../native/kinds';
import { abortError, failure, invalidState, isPortClosed, type Subject } from '../support/errors';
import { ECANCELED } from '../support/errno';
import type { Entry, PortThread } from '../thread/port-thread';
import { Watch, type OperationOptions, type Stoppable } from './operation';
import type { Waiter } from './suspension';
import * as validate from '../support/validate';

/** The handle that a loop goes over: lib/handles/handle.ts. */
export interface Source {
  readonly thread: PortThread;
  readonly closed: boolean;
  /** What an error of one of its operations is about. */
  subject(): Subject;
}

type Result<T> = IteratorResult<T, undefined>;

/** What `from()` of Node.js's stream/iter asks an object for (behind a flag there, from 24.20 and 26.1 on). */
export const toAsyncStreamable: unique symbol = Symbol.for('Stream.toAsyncStreamable');

export abstract class Stream<T> implements AsyncLoop<T>, Entry, Stoppable {
  protected readonly thread: PortThread;
  protected readonly options: OperationOptions;
  /** What it goes over, by operations of this kind. */
  protected readonly handle: Source;
  protected readonly kind: Kind;
  /** What the iterator ends with, once everything is back. */
  protected failure: Error | undefined = undefined;
  /** Nothing more is submitted. */
  protected ending = false;
  protected inFlight = 0;
  private finished = false;
  private signal: AbortSignal | undefined;
  private watch: Watch | undefined = undefined;
  private resolve: ((result: Result<T> | Promise<Result<T>>) => void) | undefined = undefined;
  /** A micro-thread that waits for the next value. */
  private puller: Waiter | undefined = undefined;
  private readonly idle: (() => void)[] = [];
  private readonly executor = (resolve: (result: Result<T> | Promise<Result<T>>) => void): void => {
    this.resolve = resolve;
  };

  constructor(handle: Source, kind: Kind, options: OperationOptions) {
    this.thread = handle.thread;
    this.handle = handle;
    this.kind = kind;
    this.options = options;
    this.signal = validate.signal(options.signal);
  }

  next(): Promise<Result<T>> {
    if (this.resolve !== undefined) {
      return Promise.reject(invalidState('next() was called before the last one had answered'));
    }
    if (this.finished) return Promise.resolve({ done: true, value: undefined });
    this.ask();
    const value = this.take();
    if (value !== undefined) return Promise.resolve({ done: false, value });
    if (this.ending && this.inFlight === 0) return this.conclude();
    const promise = new Promise<Result<T>>(this.executor);
    this.waits();
    return promise;
  }

  /** @internal The last value is no longer used, and the next is wanted. */
  ask(): void {
    if (this.finished) return;
    this.heed();
    if (this.thread.closed) this.ended(LibraryError.PortClosed);
    try {
      this.proceed();
    } catch (error) {
      this.fail(error as Error);
    }
  }

  /** @internal For a micro-thread: what `next()` gives; undefined where it has to wait. */
  look(): Result<T> | undefined {
    if (this.finished) return { done: true, value: undefined };
    const value = this.take();
    if (value !== undefined) return { done: false, value };
    if (!this.ending || this.inFlight > 0) return undefined;
    this.close();
    if (this.failure !== undefined) throw this.failure;
    return { done: true, value: undefined };
  }

  /** @internal Wakes `puller`, once, when there may be something to look at. */
  tell(puller: Waiter | undefined): void {
    this.puller = puller;
    if (puller !== undefined) this.waits();
  }

  /** @internal Whether it has failed because another thread closes the port. */
  get gone(): boolean {
    return isPortClosed(this.failure);
  }

  /** Whether it has given out its last value, or was left. */
  protected get over(): boolean {
    return this.finished;
  }

  /** Somebody begins to wait for a value. */
  protected waits(): void {
    // Only a listener's loop has a time for that.
  }

  async return(): Promise<Result<T>> {
    if (this.finished) return { done: true, value: undefined };
    this.proceedNoMore();
    if (this.inFlight > 0) await new Promise<void>((resolve) => this.idle.push(resolve));
    this.close();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  [inspect.custom](): string {
    return `AsyncLoop { ${syscallOf(this.kind)}, ${this.state} }`;
  }

  toJSON(): object {
    return { loop: syscallOf(this.kind), state: this.state };
  }

  private get state(): string {
    return this.finished ? 'ended' : this.ending ? 'ending' : 'open';
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.return();
  }

  /** @internal The signal was aborted. */
  stop(reason: Error | undefined): void {
    this.fail(reason);
    this.proceedNoMore();
    this.wake();
  }

  /** @internal */
  abstract answered(error: number, result: number, at: number, more: boolean): void;

  /** The last value is no longer used: release it, submit what is to be submitted. */
  protected abstract proceed(): void;
  /** The next value, when it is there. */
  protected abstract take(): T | undefined;
  /** Asks for an early end of what is in flight. */
  protected abstract cancel(): void;
  /** Nothing is in flight any more and no value is used: give everything back. */
  protected abstract finish(): void;

  protected fail(error: Error | undefined): void {
    this.failure ??= error;
    this.ending = true;
  }

  /**
   * An operation of the loop has failed. Whoever has closed the handle, or left its port, knows: the
   * loop ends. Everything else it throws.
   */
  protected ended(error: number): void {
    const { thread, handle } = this;
    const own =
      error === (LibraryError.PortClosed as number)
        ? thread.left || (handle.closed && !thread.closed)
        : handle.closed && (error === ECANCELED || error === (LibraryError.HandleClosed as number));
    if (own) this.ending = true;
    else this.fail(failure(error, this.kind, handle.subject()));
  }

  /** Something has changed: answers whoever waits, if that is possible now. */
  protected wake(): void {
    if (this.inFlight === 0 && this.idle.length > 0) this.tellIdle();
    const { puller } = this;
    if (puller !== undefined) {
      this.puller = undefined; // it may wait for something else by the time of the next one
      puller.wake();
    }
    if (this.resolve === undefined) return;
    const value = this.take();
    if (value !== undefined) this.settle({ done: false, value });
    else if (this.ending && this.inFlight === 0) this.settle(this.conclude());
  }

  private tellIdle(): void {
    for (const resolve of this.idle.splice(0)) resolve();
  }

  /** From the first turn on: a loop that is never run listens to nothing. */
  private heed(): void {
    const { signal } = this;
    this.signal = undefined;
    if (signal?.aborted) this.fail(abortError(signal.reason));
    else if (signal) this.watch = new Watch(signal, this);
  }

  private settle(result: Result<T> | Promise<Result<T>>): void {
    const { resolve } = this;
    this.resolve = undefined;
    resolve!(result);
  }

  private proceedNoMore(): void {
    this.ending = true;
    if (this.inFlight > 0) this.cancel();
  }

  private conclude(): Promise<Result<T>> {
    this.close();
    if (this.failure !== undefined) return Promise.reject(this.failure);
    return Promise.resolve({ done: true, value: undefined });
  }

  private close(): void {
    if (this.finished) return;
    this.finished = true;
    this.watch?.end();
    this.finish();
  }
}
