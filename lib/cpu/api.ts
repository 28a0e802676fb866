/**
 * The public types of computation (`completion-port/cpu`).
 *
 * Unions are open: a minor version may add a member, so a `switch` needs a default.
 */
import type { RecordableHistogram } from 'node:perf_hooks';
import type { AwaitOptions, Operation } from '../api';

// ---- tasks

/** What can be a task: any function, also one that returns a promise. */
export type TaskFunction = (...args: never[]) => unknown;

declare const isTask: unique symbol;

/** What `defineTasks` makes of a function: the function itself, which may be called as before. */
export interface TaskTraits {
  readonly [isTask]: true;
  /** URL of the module that defines it. */
  readonly module: string;
  /** Its name among the tasks of its module. */
  readonly name: string;
}

/** A function that `cpu` runs wherever it is told to. */
export type Task<F extends TaskFunction = TaskFunction> = F & TaskTraits;

/** What `defineTasks` returns: the same functions under the same names. */
export type Tasks<T extends Readonly<Record<string, TaskFunction>>> = {
  readonly [Name in keyof T]: Task<T[Name]>;
};

// ---- running them

/** What `cpu.with` takes. */
export interface CpuOptions extends AwaitOptions {
  /**
   * Whether to end a thread of a pool that runs the task when the task is given up; another thread
   * takes its place. Otherwise it runs to its end, and what it returns is dropped. Without effect
   * elsewhere. Default: false.
   */
  readonly terminate?: boolean | undefined;
}

/** `cpu`, and what it has. */
export interface Cpu {
  /**
   * Runs a task under the current policy (`applyWith`, else `setApply`, else in place). The arguments
   * are those of the time of the call; a policy that runs it in place gives it the objects themselves. Rejects with what the task throws. Throws `ERR_INVALID_ARG_TYPE`
   * for a function that is no task, and a `DataCloneError` that names the task where the policy is
   * another thread and an argument cannot be cloned.
   */
  <T extends Task>(task: T, ...args: Parameters<T>): Operation<Awaited<ReturnType<T>>>;
  /**
   * The same, with options, which come first since the arguments are the task's.
   *
   * What is given up rejects at once: a task that waits leaves the queue, one that runs goes on unless
   * `terminate` ends its thread.
   */
  with<T extends Task>(
    options: CpuOptions,
    task: T,
    ...args: Parameters<T>
  ): Operation<Awaited<ReturnType<T>>>;
}

// ---- policies

/** What a policy is told beside the task and its arguments. */
export interface ApplyOptions {
  /** Aborted when whoever called `cpu` gives up: its signal, timeout or `cancel()`. */
  readonly signal?: AbortSignal | undefined;
}

/** Where tasks run. Any object with this method is one. */
export interface Policy {
  /** Returns what the task returns, or a promise of it; throws, or rejects with, what it throws. */
  apply(task: Task, args: readonly unknown[], options: ApplyOptions): unknown;
}

/** What `pool` takes. */
export interface PoolOptions {
  /** Threads: `minThreads` and `maxThreads` at one time. Default: the CPUs that the process has. */
  readonly threads?: number | undefined;
  /** Threads that stay when there is nothing to do; from 0 to `maxThreads`. Default: `maxThreads`. */
  readonly minThreads?: number | undefined;
  /** Threads at most; 1 to 256. Default: the CPUs that the process has. */
  readonly maxThreads?: number | undefined;
  /**
   * Milliseconds without a task after which a thread beyond `minThreads` ends. 0: at once, Infinity: never.
   * Default: 10,000.
   */
  readonly idleTimeout?: number | undefined;
  /**
   * Tasks that wait for a thread at most: `cpu` rejects with `ERR_QUEUE_FULL` beyond it, and `room()`
   * waits. Infinity: no limit. Default: 65536.
   */
  readonly queueLimit?: number | undefined;
  /** Of each thread, as `new Worker` takes them. One that goes beyond them dies, and is replaced. */
  readonly resourceLimits?:
    | {
        readonly maxOldGenerationSizeMb?: number | undefined;
        readonly maxYoungGenerationSizeMb?: number | undefined;
        readonly codeRangeSizeMb?: number | undefined;
        readonly stackSizeMb?: number | undefined;
      }
    | undefined;
  /** Options of Node.js for its threads. Default: those of the calling thread. */
  readonly execArgv?: readonly string[] | undefined;
  /** For people, and for debuggers. Default: `'cpu'`. */
  readonly name?: string | undefined;
}

/** What `pool.close` takes. */
export interface PoolCloseOptions {
  /**
   * Milliseconds that tasks which were called before have for their end; those that are left reject
   * with `ERR_POOL_CLOSED`. 0: at once, Infinity: as long as they take. Default: 0.
   */
  readonly grace?: number | undefined;
}

/** What `pool.stats()` returns. */
export interface PoolStats {
  /** Threads that run, or are starting. */
  readonly threads: number;
  /** Tasks that are with a thread. */
  readonly running: number;
  /** Tasks that wait for a thread. */
  readonly waiting: number;
  /** Tasks that have ended so far, whatever their end. */
  readonly completed: number;
  /** Threads that died and were replaced. */
  readonly replaced: number;
  /** Bytes of the port's memory that tasks under way, and the pool's table, take. */
  readonly allocatedBytes: number;
  /** Microseconds that tasks waited for a thread. The same object each time. */
  readonly waitTime: RecordableHistogram;
  /** Microseconds that tasks ran. The same object each time. */
  readonly runTime: RecordableHistogram;
}

/**
 * Threads that run tasks. It belongs to the thread that made it, and ends with that. While it has
 * tasks it keeps the process alive; idle it does not.
 */
export interface Pool extends Policy, AsyncDisposable {
  apply<T extends Task>(
    task: T,
    args: Parameters<T>,
    options?: ApplyOptions,
  ): Operation<Awaited<ReturnType<T>>>;
  /**
   * Resolves when a task may be called without `ERR_QUEUE_FULL`: at once when there is room, else when
   * there is, those that wait in the order in which they came, a place for each.
   */
  room(options?: AwaitOptions): Promise<void>;
  readonly closed: boolean;
  stats(): PoolStats;
  /** Lets tasks under way keep the process alive, which is the default. */
  ref(): this;
  /** Lets the process end although tasks are under way. */
  unref(): this;
  /** Whether tasks under way would keep the process alive; not of a closed pool. */
  hasRef(): boolean;
  /**
   * Takes no more tasks (`ERR_POOL_CLOSED`), and ends its threads. Resolves when they have ended; the
   * same promise each time.
   */
  close(options?: PoolCloseOptions): Promise<void>;
  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void>;
}
