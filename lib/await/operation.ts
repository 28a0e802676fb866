/**
 * An awaited operation: what `read`, `send`, `accept`… of a handle without a key return.
 */
import { inspect } from 'node:util';
import { LibraryError } from '../native/layout';
import { type Kind, syscallOf } from '../native/kinds';
import type * as api from '../api';
import type { AwaitOptions, PacketOptions } from '../api';
import {
  abortError,
  cancelled,
  failure,
  isPortClosed,
  rejected,
  timedOut,
  type Subject,
} from '../support/errors';
import { ECANCELED } from '../support/errno';
import { endWith, outlive, type Ended } from '../support/lifetime';
import { begins, checksHandles, gives } from '../support/forgotten';
import { claimNow } from '../thread/claims';
import type { Entry, PortThread } from '../thread/port-thread';
import { Alarm } from '../support/timers';
import {
  running,
  waitFor,
  withoutWaiter,
  withWaiter,
  type Suspension,
  type Waiter,
} from './suspension';
import * as validate from '../support/validate';

/** Options of an operation of either style; lib/api.ts tells them apart. */
export type OperationOptions = AwaitOptions & PacketOptions;

/** The names of options of whatever is awaited. */
export const AWAIT_OPTIONS = ['signal', 'timeout'] as const;
/** Of single operations of either style; what is the other's is refused with its reason. */
export const OPERATION_OPTIONS = [...AWAIT_OPTIONS, 'tag', 'quiet'] as const;

/** Turns the packet at `at` (an index in `thread.words`) into what the operation resolves to. */
export type Decode<T> = (result: number, at: number, operation: Operation<unknown>) => T;

/** Runs when the kernel has let go of the operation's memory, whether it failed or not. */
export interface Aftermath {
  /**
   * @internal An Error that it returns is what the operation fails with, though the kernel did it;
   * with ENOUGH it is fulfilled, though it has failed.
   */
  after(error: number, result: number): unknown;
}

/** Of an Aftermath. */
export const ENOUGH = Symbol('enough');

/** Told when an operation has settled, just before whoever waits for it is. */
export interface Watching {
  /** Whether a signal has ended the operation. */
  readonly aborted: boolean;
  /** The signal's. */
  readonly reason: unknown;
  /** @internal */
  end(): void;
}

const enum State {
  Pending,
  Fulfilled,
  Rejected,
}

/** In how it ends. */
const enum Interest {
  All,
  /** It was cancelled: its failure is no news. */
  Value,
  /** And the micro-thread that waited for it has left. */
  None,
}

type Resolve = (value: never) => void;
type Reject = (error: unknown) => void;

// One executor for all promises: a closure for each operation would cost more than the operation.
let resolving: Resolve;
let rejecting: Reject;
function capture(resolve: Resolve, reject: Reject): void {
  resolving = resolve;
  rejecting = reject;
}

function ignore(): void {
  // Who cancels an operation knows that it fails.
}

/**
 * `await` takes a promise as it is only where that says that `Promise` made it. Any other it wraps in
 * one more, whose `then` makes one more again: three objects and a microtask for each operation.
 */
export function awaitedAsItIs(prototype: object): void {
  Object.defineProperty(prototype, 'constructor', { value: Promise, configurable: true });
}

/**
 * An operation in flight: a promise that can be cancelled. The context of AsyncLocalStorage follows
 * from `await` and `then` to what runs after them. A failed operation that nobody has attached to is
 * reported as an `unhandledRejection`, as any promise is, unless it failed because of its own
 * `cancel()`.
 *
 * What its public members do stands in lib/api.ts.
 */
export class Operation<T> extends Promise<T> implements api.Operation<T>, Entry, Suspension {
  static {
    awaitedAsItIs(this.prototype);
  }

  /** @internal */
  readonly thread: PortThread;
  /** @internal Its index in the thread's table while it is in flight, else -1. */
  token = -1;
  /** @internal */
  aftermath: Aftermath | undefined = undefined;
  /** @internal */
  watch: Watching | undefined = undefined;
  private readonly kind: Kind;
  /** @internal What its error is about. */
  subject: Subject;
  private readonly decode: Decode<T> | undefined;
  private state = State.Pending;
  private interest = Interest.All;
  /** Undefined where there is no promise to settle. */
  private resolve: Resolve | undefined;
  private reject: Reject | undefined;
  /** The value, or the Error; undefined in place of one that is not made yet. */
  private outcome: unknown = undefined;
  /** Of an Error that is not made yet. */
  private errorNumber = 0;
  private waiter: Waiter | undefined = undefined;

  /** @internal */
  constructor(thread: PortThread, kind: Kind, subject: Subject, decode: Decode<T> | undefined) {
    super(capture);
    this.resolve = resolving;
    this.reject = rejecting;
    this.thread = thread;
    this.kind = kind;
    this.subject = subject;
    this.decode = decode;
    if (checksHandles) begins(this);
  }

  /** @internal An operation that failed before it was submitted. */
  static failed<T>(thread: PortThread, kind: Kind, error: Error): Operation<T> {
    const operation = operationOf<T>(thread, kind, {}, undefined, undefined);
    operation.fail(error);
    return operation;
  }

  /** @internal An operation that had nothing to do. */
  static done<T>(thread: PortThread, kind: Kind, value: T): Operation<T> {
    const operation = operationOf<T>(thread, kind, {}, undefined, undefined);
    operation.fulfil(value);
    return operation;
  }

  get pending(): boolean {
    return this.state === State.Pending;
  }

  cancel(): void {
    if (this.state !== State.Pending) return;
    this.interest = Interest.Value;
    this.stop(undefined);
  }

  override get [Symbol.toStringTag](): string {
    return 'Operation';
  }

  [inspect.custom](): string {
    const states = ['pending', 'fulfilled', 'rejected'];
    return `Operation { ${states[this.state]} }`;
  }

  toJSON(): object {
    const state = ['pending', 'fulfilled', 'rejected'][this.state];
    return { operation: syscallOf(this.kind), state };
  }

  /** @internal The final packet is there. */
  answered(error: number, result: number, at: number): void {
    this.token = -1;
    const value = error === 0 ? this.decode!(result, at, this) : undefined;
    const lost = this.aftermath?.after(error, result);
    if (lost === ENOUGH) this.fulfil(undefined as T);
    else if (lost !== undefined) this.fail(lost as Error);
    else if (error === 0) this.fulfil(value as T);
    else if (this.reject === undefined && this.waiter !== undefined) this.failLater(error);
    else this.fail(this.errorOf(error));
  }

  /** @internal */
  dropped(): void {
    this.interest = Interest.Value;
  }

  // ---- for micro-threads: it is its own iterator, and the result of that

  [Symbol.iterator](): Iterator<api.Suspended, T, unknown> {
    return this as unknown as Iterator<api.Suspended, T, unknown>;
  }

  /** @internal */
  get done(): boolean {
    return this.state === State.Fulfilled;
  }

  /** @internal */
  get value(): unknown {
    claimNow();
    return this.outcome;
  }

  /** @internal */
  get failed(): boolean {
    return this.state === State.Rejected;
  }

  /** @internal Once it has failed: an Error that nobody has asked for is made now. */
  get failure(): unknown {
    return (this.outcome ??= this.errorOf(this.errorNumber));
  }

  /** @internal */
  get gone(): boolean {
    if (this.thread.closed || this.thread.closing) return true;
    return this.errorNumber === (LibraryError.PortClosed as number) || isPortClosed(this.outcome);
  }

  /** @internal */
  next(): this {
    if (this.state === State.Pending) waitFor(this);
    else if (this.state === State.Rejected) {
      this.silence();
      throw this.failureHere();
    }
    return this;
  }

  /** @internal */
  hear(waiter: Waiter): void {
    if (this.state === State.Pending) {
      this.waiter = withWaiter(this.waiter, waiter);
      return;
    }
    if (this.state === State.Rejected) this.silence();
    waiter.wake();
  }

  /** @internal */
  leave(waiter: Waiter): void {
    this.waiter = withoutWaiter(this.waiter, waiter);
    if (this.interest === Interest.Value && this.waiter === undefined)
      this.interest = Interest.None;
  }

  /** @internal */
  abandon(waiter: Waiter): boolean {
    if (this.waiter === waiter) {
      this.cancel();
      return false;
    }
    this.leave(waiter);
    return true;
  }

  /** @internal */
  get what(): string {
    const { path, address, port } = this.subject;
    const about = path ?? (address === undefined ? '' : `${address}:${port}`);
    return about === '' ? syscallOf(this.kind) : `${syscallOf(this.kind)} ${about}`;
  }

  /** @internal Nobody will look at what it resolves to. */
  get unseen(): boolean {
    return (
      this.interest === Interest.None && this.waiter === undefined && this.resolve === undefined
    );
  }

  /** @internal Its failure, if any, is somebody's business. */
  silence(): void {
    void this.then(undefined, ignore);
  }

  /** @internal */
  errorOf(error: number): Error {
    const cut = error === ECANCELED || error === (LibraryError.PortClosed as number);
    if (cut && this.watch?.aborted) return abortError(this.watch.reason);
    return failure(error, this.kind, this.subject);
  }

  /** @internal */
  stop(_reason: Error | undefined): void {
    if (this.token >= 0) this.thread.cancel(this.token);
    else this.fail(this.errorOf(ECANCELED)); // not begun: see HeldSends
  }

  /** @internal */
  fulfil(value: T): void {
    if (this.state !== State.Pending) return;
    this.state = State.Fulfilled;
    this.outcome = value;
    if (checksHandles) gives(this, value);
    if (this.watch !== undefined) this.watch.end();
    if (this.resolve !== undefined) this.resolve(value as never);
    if (this.waiter !== undefined) this.waiter.wake();
  }

  /** @internal */
  fail(error: Error): void {
    if (this.state !== State.Pending) return;
    this.state = State.Rejected;
    this.outcome = error;
    if (this.watch !== undefined) this.watch.end();
    this.rejectPromise(error);
    if (this.interest !== Interest.All || this.waiter !== undefined) this.silence();
    if (this.waiter !== undefined) this.waiter.wake();
  }

  /** An Error that is made here has the stack of the generators that wait. */
  private failureHere(): unknown {
    // eslint-disable-next-line @typescript-eslint/unbound-method -- names where the stack begins
    const { next } = this;
    if (this.outcome !== undefined) {
      return running.thread?.traced(this.outcome, next) ?? this.outcome;
    }
    const error = this.errorOf(this.errorNumber);
    Error.captureStackTrace(error, next);
    return (this.outcome = error);
  }

  /** A micro-thread waits, and nobody else: it makes the Error. */
  private failLater(error: number): void {
    this.state = State.Rejected;
    this.errorNumber = error;
    if (this.watch !== undefined) this.watch.end();
    this.waiter!.wake();
  }

  /** @internal */
  rejectPromise(error: Error): void {
    this.reject!(error);
  }
}

/**
 * An operation that a micro-thread began: it has a promise when somebody asks for one, with `then`
 * as `await` does. It has the fields of `Operation`, and its methods by way of its prototype, but
 * was not made by the constructor of Promise, which costs as much as all the rest.
 */
class LightOperation<T> {
  readonly thread: PortThread;
  token = -1;
  aftermath: Aftermath | undefined = undefined;
  watch: Watching | undefined = undefined;
  readonly kind: Kind;
  subject: Subject;
  readonly decode: Decode<T> | undefined;
  state = State.Pending;
  interest = Interest.All;
  resolve: Resolve | undefined = undefined;
  reject: Reject | undefined = undefined;
  outcome: unknown = undefined;
  errorNumber = 0;
  waiter: Waiter | undefined = undefined;
  readonly owner: object | undefined;
  private promise: Promise<T> | undefined = undefined;

  constructor(
    thread: PortThread,
    kind: Kind,
    subject: Subject,
    decode: Decode<T> | undefined,
    owner: object | undefined,
  ) {
    this.thread = thread;
    this.kind = kind;
    this.subject = subject;
    this.decode = decode;
    this.owner = owner;
    if (checksHandles) begins(this);
  }

  then<A, B>(
    fulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.promise ??= this.promised();
    return this.promise.then(fulfilled, rejected);
  }

  silence(): void {
    if (this.promise !== undefined) void this.promise.then(undefined, ignore);
  }

  /** One that nobody waits for is reported as an unhandled rejection. */
  rejectPromise(error: Error): void {
    if (this.reject !== undefined) this.reject(error);
    else if (this.waiter === undefined && this.interest === Interest.All) {
      this.promise = Promise.reject(error);
    }
  }

  private promised(): Promise<T> {
    if (this.state === State.Fulfilled) return Promise.resolve(this.outcome as T);
    if (this.state === State.Rejected) return rejected(this.asOperation().failure);
    const promise = new Promise<T>(capture);
    this.resolve = resolving;
    this.reject = rejecting;
    return promise;
  }

  private asOperation(): Operation<T> {
    return this as unknown as Operation<T>;
  }
}
Object.setPrototypeOf(LightOperation.prototype, Operation.prototype);
awaitedAsItIs(LightOperation.prototype);

/** What a method of a handle returns; `owner`: the handle. */
export function operationOf<T>(
  thread: PortThread,
  kind: Kind,
  subject: Subject,
  decode: Decode<T> | undefined,
  owner: object | undefined,
): Operation<T> {
  if (running.thread === undefined) return new Operation<T>(thread, kind, subject, decode);
  return new LightOperation<T>(thread, kind, subject, decode, owner) as unknown as Operation<T>;
}

/** Anything a signal can stop. */
export interface Stoppable {
  /** @internal */
  stop(reason: Error | undefined): void;
}

/** Heeds a signal for as long as an operation is in flight. */
export class Watch implements Watching, Ended {
  aborted = false;
  private readonly signal: AbortSignal;
  private readonly target: Stoppable;

  constructor(signal: AbortSignal, target: Stoppable) {
    this.signal = signal;
    this.target = target;
    endWith(signal, this);
  }

  get reason(): unknown {
    return this.signal.reason as unknown;
  }

  /** @internal */
  onAbort(): void {
    this.aborted = true;
    this.target.stop(abortError(this.signal.reason));
  }

  end(): void {
    outlive(this.signal, this);
  }
}

/**
 * Lets a signal cancel the operation; false when it is aborted already and the operation failed.
 */
export function watchSignal(operation: Operation<unknown>, options: AwaitOptions): boolean {
  const signal = validate.signal(options.signal);
  if (signal === undefined) return true;
  if (signal.aborted) {
    operation.fail(abortError(signal.reason));
    return false;
  }
  operation.watch = new Watch(signal, operation);
  return true;
}

/**
 * Two linked submissions that answer as one operation: the second submission's answer settles it,
 * with the first one's result or failure.
 */
export class PairedOperation<T> extends Operation<T> {
  static {
    awaitedAsItIs(this.prototype);
  }

  private waiting = 2;
  private firstError = 0;
  private secondError = 0;
  private transferred = 0;
  private readonly finish: (first: number) => T;
  /** @internal */
  readonly first: Entry & { token: number };

  /** @internal */
  constructor(thread: PortThread, kind: Kind, subject: Subject, finish: (first: number) => T) {
    super(thread, kind, subject, undefined);
    this.finish = finish;
    this.first = {
      token: -1,
      answered: (error, result) => {
        this.first.token = -1;
        this.firstError = error;
        this.transferred = result;
        this.aftermath?.after(error, result);
        this.arrived();
      },
    };
  }

  /** @internal */
  override answered(error: number): void {
    this.token = -1;
    this.secondError = error;
    this.arrived();
  }

  /** @internal */
  override stop(): void {
    if (this.first.token >= 0) this.thread.cancel(this.first.token);
    super.stop(undefined);
  }

  private arrived(): void {
    if (--this.waiting > 0) return;
    // The second of a failed chain reports only that it was cancelled; the first says why.
    const error = this.firstError || this.secondError;
    if (error === 0) this.fulfil(this.finish(this.transferred));
    else this.fail(this.errorOf(error));
  }
}

/** What a composed operation's steps see of it. */
export interface Steps {
  /** @internal Where the operation is at, for the text of a timeout. */
  subject: Subject;
  readonly stopped: boolean;
  /** Waits for an inner operation, one of several perhaps, which is cancelled when the whole is. */
  step<U>(operation: Operation<U>): Promise<U>;
}

/** An operation made of several, run by an async function (looking a name up, then connecting). */
export class ComposedOperation<T> extends Operation<T> implements Steps {
  static {
    awaitedAsItIs(this.prototype);
  }

  private readonly inner = new Set<Operation<unknown>>();
  private alarm: Alarm | undefined;
  private readonly syscall: string;

  /** @internal `discard` takes a result that came after the operation was given up. */
  constructor(
    thread: PortThread,
    kind: Kind,
    syscall: string,
    options: OperationOptions,
    run: (steps: Steps) => Promise<T>,
    discard: (late: T) => void,
  ) {
    super(thread, kind, { net: true }, undefined);
    this.syscall = syscall;
    const timeout = validate.timeout(options.timeout);
    if (!watchSignal(this, options)) return;
    if (timeout > 0) this.alarm = new Alarm(timeout, () => this.expire());
    thread.hold(1);
    void this.run(run, discard);
  }

  get stopped(): boolean {
    return !this.pending;
  }

  async step<U>(operation: Operation<U>): Promise<U> {
    this.inner.add(operation);
    if (this.stopped) operation.cancel();
    try {
      return await operation;
    } finally {
      this.inner.delete(operation);
    }
  }

  /** @internal */
  override stop(reason: Error | undefined): void {
    this.fail(reason ?? cancelled(this.syscall, this.subject));
    for (const operation of this.inner) operation.cancel();
  }

  private expire(): void {
    this.stop(timedOut(this.syscall, this.subject));
  }

  private async run(run: (steps: Steps) => Promise<T>, discard: (late: T) => void): Promise<void> {
    try {
      const value = await run(this);
      if (this.stopped) discard(value);
      else this.fulfil(value);
    } catch (error) {
      this.fail(error as Error);
    } finally {
      this.alarm?.cancel();
      this.thread.hold(-1);
    }
  }
}

/**
 * Waits for a packet that nothing can bring about sooner: given up, it fails at once, and the packet
 * finds nobody who cares.
 */
export class NoticeOperation extends Operation<void> {
  static {
    awaitedAsItIs(this.prototype);
  }

  private alarm: Alarm | undefined = undefined;
  private held = false;

  /** @internal Keeps the process alive until it is over. */
  constructor(thread: PortThread, kind: Kind, options: AwaitOptions) {
    super(thread, kind, {}, () => undefined);
    const timeout = validate.timeout(options.timeout);
    if (!watchSignal(this, options)) return;
    if (timeout > 0)
      this.alarm = new Alarm(timeout, () => this.fail(this.errorOf(LibraryError.TimedOut)));
    this.held = true;
    thread.hold(1);
  }

  /** @internal */
  override stop(): void {
    this.fail(this.errorOf(ECANCELED));
  }

  /** @internal */
  override fulfil(value: void): void {
    this.over();
    super.fulfil(value);
  }

  /** @internal */
  override fail(error: Error): void {
    this.over();
    super.fail(error);
  }

  private over(): void {
    this.alarm?.cancel();
    if (!this.held) return;
    this.held = false;
    this.thread.hold(-1);
  }
}
