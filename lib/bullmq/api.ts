/**
 * The public types of computation by way of BullMQ (`completion-port/bullmq`).
 */
import type { Policy } from '../cpu/api';

/** What `bullmq` takes. */
export interface BullmqOptions {
  /** Name of the queue: that of `npx completion-port work --queue`. */
  readonly queue: string;
  /**
   * Where Redis is: a URL (`redis://…`, `rediss://…`), or what BullMQ takes as `connection`, options
   * or a client, which stays the program's to close.
   */
  readonly connection: string | object;
  /** What BullMQ's keys in Redis begin with. Default: BullMQ's, `'bull'`. */
  readonly prefix?: string | undefined;
  /**
   * Options of BullMQ for each job: `attempts`, `backoff`, `priority`, … With `removeOnComplete` or
   * `removeOnFail` jobs stay in Redis as these say; else a job is removed when its answer has come, and
   * an hour after its end where nobody has waited for that.
   */
  readonly jobOptions?: Readonly<Record<string, unknown>> | undefined;
}

/** What `policy.stats()` returns. */
export interface BullmqStats {
  /** Tasks that somebody waits for. */
  readonly pending: number;
  /** Tasks that have ended so far, whatever their end. */
  readonly completed: number;
}

/**
 * Tasks go to a queue of BullMQ, and are done by whoever serves that. It keeps the process alive until
 * it is closed.
 */
export interface BullmqPolicy extends Policy, AsyncDisposable {
  readonly closed: boolean;
  stats(): BullmqStats;
  /**
   * Takes no more tasks: those that are pending reject with `ERR_POLICY_CLOSED`, and leave the queue if
   * they wait there. Resolves when the connections are closed; the same promise each time.
   */
  close(): Promise<void>;
  /** The same as `close()`. */
  [Symbol.asyncDispose](): Promise<void>;
}
