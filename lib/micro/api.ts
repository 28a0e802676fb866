/**
 * The public types of micro-threads and channels (`completion-port/micro`).
 *
 * Unions are open: a minor version may add a member, so a `switch` needs a default.
 */
import type { AwaitOptions, CompletionPort, PortToken, Suspended, Waitable } from '../api';

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
   * Milliseconds that clean-up may wait after a cancel; then it waits no longer. 0: not at all, Infinity: for ever.
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
  /**
   * Where it was spawned: `serve (file:///…/server.mjs:12:5)`. Of a handler of a stage: its name, and
   * where the stage is defined, `talk.received (file:///…/talk.mjs:9:16)`.
   */
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
  /** For the text of its error. Default: `'within'`. */
  readonly name?: string | undefined;
  /**
   * Ends the wait as the time does, with an `AbortError` whose `cause` is the signal's reason: for
   * whatever takes no signal itself, `select` or the join of a micro-thread. One that is aborted
   * already lets nothing begin.
   */
  readonly signal?: AbortSignal | undefined;
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
  /**
   * Waits for the next value of the innermost loop. In a `select` that chooses another case nothing is
   * lost: the next `each.next()` has it.
   */
  next(): Waitable<void>;
}

// ---- channels

/** The taking end of a channel. */
export interface ReadonlyChannel<T> {
  /**
   * The next value, once there is one; takers have them in the order in which they asked. Throws
   * `ERR_CHANNEL_CLOSED` where the channel is closed and nothing is left in it. `signal` and `timeout`
   * limit the wait, from when it begins: it takes nothing then. What it was given before it has,
   * whatever is aborted later.
   */
  take(options?: AwaitOptions): Waitable<T>;
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
   * Throws `ERR_CHANNEL_CLOSED` after `close`, with a `cause` after `fail`. `signal` and `timeout`
   * limit the wait, from when it begins: nothing is put then.
   */
  put(value: T, options?: AwaitOptions): Waitable<void>;
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
  /** Cancels the micro-thread when it is aborted: the output fails with `ECANCELED` then. */
  readonly signal?: AbortSignal | undefined;
}

export interface ChannelConstructor {
  readonly prototype: Channel<unknown>;
  /** `capacity`: values it holds at most; an integer from 0 to 2^31 - 1. */
  new <T>(capacity: number): Channel<T>;
}

// ---- channels between threads

/**
 * What `yield*` waits for, and `await` as well. In a micro-thread it begins when it is waited for; else
 * with the call, and a failure that nobody hears of is an unhandled rejection. `signal` and `timeout`
 * give it up.
 */
export interface SharedWait<T>
  extends Waitable<T>, Pick<Promise<T>, 'then' | 'catch' | 'finally'> {}

/** Names a SharedChannel: a plain value, for `workerData` and `postMessage`. */
export interface SharedChannelToken {
  /** Its number in the process. */
  readonly sharedChannel: number;
  readonly port: PortToken;
  readonly capacity: number;
}

/**
 * A channel whose ends are in any threads of the process that have a port in common. One thread makes
 * it, and keeps it until it is closed and empty, or the port is closed; others attach by its token.
 *
 * It carries what structured clone takes, but for shared memory and what only a MessagePort carries
 * (ports, Blobs, KeyObjects); for those `put` and `tryPut` throw a `DataCloneError` at once. The value
 * is what it was at the call; bytes (Uint8Array, Buffer) are copied into the port's memory when the put
 * begins. Whoever takes has a copy of its own, which nobody has to release: Buffers come as
 * Buffers. Numbers, booleans, null and undefined take no memory; other values as much as they have
 * bytes (rule M6), from the put to the take, and a put throws `ERR_MEMORY_LIMIT` where there is none.
 * It goes back when a value is taken, by `fail`, and when no thread has the channel any more: the
 * threads have ended, or the port is closed.
 *
 * Order: values are taken in the order in which they were put, of all threads, a put that waits at the
 * place where it came; and takes that wait are served in the order in which they came. So each taker
 * has the values of one producer in their order. One exception: a value that was on its way to a take
 * which was given up, or to a thread that ended, goes back to its place, and is taken after those
 * that overtook it.
 *
 * A value whose put has returned is taken once, and is in the channel until then, whatever ends
 * meanwhile: `worker.terminate()` while a thread puts, takes or waits loses none, but what that thread
 * had taken. Of a put that had not returned, the value may be there or not.
 *
 * What waits keeps the process alive, unless `unref` was called. When the port is closed, or the
 * thread leaves it, what waits is thrown `ERR_PORT_CLOSED`, and micro-threads that wait are cancelled,
 * as for any operation of the port; loops end in the thread that has done it, and throw in others.
 */
export interface SharedChannel<T> extends Channel<T>, AsyncIterable<T> {
  /** For `SharedChannel.attach` in another thread. */
  readonly token: SharedChannelToken;
  /** Values that it holds, with those that are on their way to takes that waited: never more than `capacity`. */
  readonly size: number;
  /** As `put` of a Channel. One that is found in the channel when it is given up is done. */
  put(value: T, options?: AwaitOptions): SharedWait<void>;
  /** As `take` of a Channel. A value that is on its way when it is given up goes back to its place. */
  take(options?: AwaitOptions): SharedWait<T>;
  /**
   * As `fail` of a Channel. Other threads are thrown a copy of an Error, with its stack, `code`,
   * `cause` and what else of it can be cloned.
   */
  fail(error: unknown): void;
  /** What this thread waits for keeps the process alive again. */
  ref(): this;
  /** What this thread waits for does not keep the process alive any more. */
  unref(): this;
  hasRef(): boolean;
  /**
   * As `pipe` of a Channel, but a stage that ends leaves its input as it is, since others may take from
   * it. The output is a Channel of this thread.
   */
  pipe<U>(
    stage: (input: ReadonlyChannel<T>, output: Channel<U>) => Micro<unknown>,
    options?: PipeOptions,
  ): ReadonlyChannel<U> & Pick<Channel<U>, 'pipe'>;
}

export interface SharedChannelConstructor {
  readonly prototype: SharedChannel<unknown>;
  /**
   * `port`: whose memory it uses. `capacity`: values it holds at most, of all threads together; an
   * integer from 1 to 2^31 - 1. Not 0: a value that was put has a place, should the thread that was to
   * take it end.
   */
  new <T>(port: CompletionPort | PortToken, capacity: number): SharedChannel<T>;
  /**
   * The channel that a token names, in this thread, which is attached to its port with that. Throws
   * `ERR_CHANNEL_CLOSED` where no thread has it any more.
   */
  attach<T>(token: SharedChannelToken): SharedChannel<T>;
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
