/**
 * The public types of micro-threads and channels (`completion-port/micro`).
 *
 * Unions are open: a minor version may add a member, so a `switch` needs a default.
 */
import type { Suspended, Waitable } from '../api';

/**
 * A generator that a micro-thread runs: all it yields is what `yield*` waits for. It delegates to
 * others with `yield*`, to any depth.
 */
export type Micro<T> = Generator<Suspended, T, unknown>;

// ---- micro-threads

export interface SpawnOptions {
  /** For people. Default: the name of the generator function, or none. */
  readonly name?: string | undefined;
  /** Cancels the micro-thread when it is aborted; one that is aborted already runs nothing of it. */
  readonly signal?: AbortSignal | undefined;
  /**
   * Milliseconds that clean-up may wait after a cancel; then it waits no longer. Infinity: for ever.
   * Default: 5000.
   */
  readonly grace?: number | undefined;
}

/**
 * `'running'`; `'ready'`: what it waited for is there; `'waiting'`; `'ending'`: it was cancelled, and
 * waits in its clean-up; `'done'`, `'failed'`, `'cancelled'`: it has ended.
 */
export type MicroThreadState =
  'running' | 'ready' | 'waiting' | 'ending' | 'done' | 'failed' | 'cancelled';

/**
 * A generator that runs, in the thread that spawned it, and waits without a promise. `yield*` joins
 * it, and so does `await`: both give what it returns, and throw what it throws, `ECANCELED` where it
 * was cancelled, and an `AbortError` where a signal did that. A failure that nobody joined is
 * reported as an `unhandledRejection`, with the place where it was spawned; to be cancelled is none.
 *
 * The context of AsyncLocalStorage is that of the `spawn`, and what `enterWith` makes of it.
 *
 * A micro-thread does not keep the process alive, as a promise does not: what it waits for may.
 */
export interface MicroThread<T> extends PromiseLike<T>, Waitable<T>, AsyncDisposable {
  /** Its number in this thread. */
  readonly id: number;
  readonly name: string;
  readonly state: MicroThreadState;
  /** The micro-thread that spawned it, or whose scope it is in; undefined when that has ended. */
  readonly parent: MicroThread<unknown> | undefined;
  /**
   * Ends it as `return` does where it waits: its `finally` blocks run, its `catch` blocks do not.
   * What it waits for is cancelled (rule O4); where that has its natural result, it has that, and
   * ends where it waits next. Clean-up may wait, for as long as `grace` allows. No effect on one that
   * has ended. It rejects with `ECANCELED`, whose `cause` is `reason`.
   */
  cancel(reason?: unknown): void;
  /** Cancels it, and waits for its end. */
  [Symbol.asyncDispose](): Promise<void>;
}

/** What `MicroThread.list()` tells of one that lives. */
export interface MicroThreadInfo {
  readonly id: number;
  readonly name: string;
  readonly state: MicroThreadState;
  /** What it waits for: `'read'`, `'accept'`, `'sleep'`, `'take'`, …; undefined while it runs. */
  readonly operation: string | undefined;
  /** The handle or channel that it waits for, or the micro-thread it joins. */
  readonly of: object | undefined;
  /** Milliseconds since this thread began, as `performance.now()`, when it began to wait. */
  readonly since: number | undefined;
  readonly parent: MicroThread<unknown> | undefined;
  /** Where it was spawned: `serve (file:///…/server.mjs:12:5)`. */
  readonly spawnedAt: string;
}

export interface MicroThreadConstructor {
  readonly prototype: MicroThread<unknown>;
  /** Those that live in this thread, in the order they were spawned. */
  list(): MicroThreadInfo[];
  /** The running one; undefined outside of all. */
  readonly current: MicroThread<unknown> | undefined;
}

export interface WithinOptions {
  /** For the text of its error. Default: what is waited for. */
  readonly name?: string | undefined;
}

/** What `each` goes over. */
export type EachSource<T> = AsyncIterable<T> | ReadonlyChannel<T>;

/** `each`, and its `next`. */
export interface Each {
  /**
   * A loop over connections, received bytes, a file's chunks, a channel, or any async iterable. The
   * first value is waited for before the loop begins, and the next one at the end of its body:
   *
   *     for (const socket of yield* each(listener)) {
   *       spawn(serve(socket));
   *       yield* each.next();
   *     }
   *
   * A turn that ends without `each.next()` throws `ERR_INVALID_STATE`. The loop ends, throws and
   * cleans up as `for await` does, but does not wait for the clean-up.
   */
  <T>(source: EachSource<T>): Micro<Iterable<T>>;
  /** Waits for the next value of the innermost loop. */
  next(): Waitable<void>;
}

// ---- channels

/** The taking end of a channel. */
export interface ReadonlyChannel<T> {
  /**
   * The next value, once there is one; takers have them in the order in which they asked. Throws
   * `ERR_CHANNEL_CLOSED` where the channel is closed and nothing is left in it.
   */
  take(): Waitable<T>;
  /** The next value, if there is one: undefined otherwise. Throws as `take` does. */
  tryTake(): T | undefined;
  /** Values that it holds. */
  readonly size: number;
  readonly capacity: number;
  /** Whether `close` or `fail` was called. */
  readonly closed: boolean;
}

/**
 * A queue of at most `capacity` values between micro-threads of one thread; 0: each `put` waits for
 * a `take`. First in, first out, for those that put and those that take as well.
 */
export interface Channel<T> extends ReadonlyChannel<T> {
  /**
   * Waits until there is room, or a taker. Those that put wait in the order in which they came.
   * Throws `ERR_CHANNEL_CLOSED` after `close`, with a `cause` after `fail`.
   */
  put(value: T): Waitable<void>;
  /** Whether there was room. Throws `ERR_CHANNEL_CLOSED` as `put` does. */
  tryPut(value: T): boolean;
  /**
   * No more is put. What is in it, and what waits to be, is still taken; then loops over it end. No
   * effect a second time.
   */
  close(): void;
  /**
   * Drops what is in it. Whoever takes is thrown `error`, and who puts `ERR_CHANNEL_CLOSED` with
   * `error` as its `cause`. No effect after `close`.
   */
  fail(error: unknown): void;
  /**
   * Spawns `stage` with this channel as its input, and returns its output, as a shell pipes programs.
   * The output is closed when the stage returns, and fails with it; the input of a stage that has
   * ended takes no more, so that the stages before it end as well.
   */
  pipe<U>(
    stage: (input: ReadonlyChannel<T>, output: Channel<U>) => Micro<unknown>,
    options?: PipeOptions,
  ): ReadonlyChannel<U> & Pick<Channel<U>, 'pipe'>;
}

export interface PipeOptions {
  /** Of the output. Default: that of the input. */
  readonly capacity?: number | undefined;
  /** Of the micro-thread. Default: the name of `stage`. */
  readonly name?: string | undefined;
}

export interface ChannelConstructor {
  readonly prototype: Channel<unknown>;
  /** `capacity`: values it holds at most; an integer from 0 to 2^31 - 1. */
  new <T>(capacity: number): Channel<T>;
}

// ---- together

/** What `scope` gives its body. */
export interface Scope {
  /** As `spawn`, in the scope. Throws `ERR_INVALID_STATE` when the scope has ended. */
  spawn<T>(body: (() => Micro<T>) | Micro<T>, options?: SpawnOptions): MicroThread<T>;
  /** Cancels everything in it but the body that calls this. */
  cancel(reason?: unknown): void;
}

/** What `select` gives: which of its cases it is, and the value of that. */
export type Selected<T> = {
  [Which in keyof T]-?: { readonly which: Which; readonly value: T[Which] };
}[keyof T];

export interface ParallelMapOptions {
  /** How many items are worked on at one time; from 1 to 2^31 - 1. */
  readonly concurrency: number;
}
