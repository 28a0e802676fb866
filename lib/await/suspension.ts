/**
 * How a micro-thread waits (lib/micro/). The results of an iterator that `yield*` goes through reach
 * whoever runs the generator as they are: what is waited for is its own iterator and its own
 * result, so a wait makes no object, and what completes goes on with the generator by itself.
 */
import { invalidState } from '../support/errors';

/** Who waits for something. */
export interface Waiter {
  /** @internal It is over: its iterator has the result. */
  wake(): void;
  /** @internal Those that wait for it in turn, and can't go on before. */
  readonly behind?: readonly (Waiter | undefined)[];
}

/** What can be waited for. */
export interface Suspension {
  /** @internal Whether there is a value: `next()` throws where it failed. */
  readonly done: boolean;
  /** @internal */
  readonly value: unknown;
  /** @internal */
  readonly failed: boolean;
  /** @internal Whether it failed because the port is closed, which ends who waited for it. */
  readonly gone?: boolean;
  /** @internal Itself when there is a result, or the running micro-thread has begun to wait. */
  next(): unknown;
  /** @internal Wakes `waiter` when it is over. Begins what has not begun. */
  hear(waiter: Waiter): void;
  /** @internal Does not wake it. What is under way goes on. */
  leave(waiter: Waiter): void;
  /** @internal The waiter gives it up. False: it is woken all the same, when that has ended. */
  abandon(waiter: Waiter): boolean;
  /** @internal For people: what it is, and of what. */
  readonly what: string;
  /** @internal The handle it is about. */
  readonly owner?: object | undefined;
}

/** A micro-thread, for what it waits for. */
export interface Runner extends Waiter {
  /** @internal It is about to yield. */
  waitFor(what: Suspension): void;
  /** @internal An error that was made elsewhere, with a stack that says who waited for it as well. */
  traced(error: unknown, above: (...args: never[]) => unknown): unknown;
}

/** The micro-thread that runs now, in this thread. */
export const running: { thread: Runner | undefined } = { thread: undefined };

/** A micro-thread that lives, for whoever shows those of several threads. */
export interface Living {
  readonly id: number;
  readonly name: string;
  readonly state: string;
  readonly operation: string | undefined;
  readonly of: object | undefined;
  readonly since: number | undefined;
  readonly parent: { readonly id: number } | undefined;
  readonly spawnedAt: string;
}

/** How many there are, and the first of them. */
export interface SomeLiving {
  readonly count: number;
  readonly first: readonly Living[];
}

/**
 * Tells of those of this thread, `limit` of them at most. lib/micro/thread.ts puts itself here when a
 * program loads it: until then there are none.
 */
export const living: { some: ((limit: number) => SomeLiving) | undefined } = { some: undefined };

/** The running micro-thread is to wait. */
export function waitFor(what: Suspension): void {
  const { thread } = running;
  if (thread === undefined) {
    throw invalidState('Only a micro-thread waits with yield*: spawn() it, or use await');
  }
  thread.waitFor(what);
}

/** Several that wait for the same. */
class Waiters implements Waiter {
  readonly list: Waiter[];

  constructor(list: Waiter[]) {
    this.list = list;
  }

  get behind(): readonly Waiter[] {
    return this.list;
  }

  wake(): void {
    for (const waiter of this.list) waiter.wake();
  }
}

/** Those of `present`, and `waiter`. */
export function withWaiter(present: Waiter | undefined, waiter: Waiter): Waiter {
  if (present === undefined) return waiter;
  if (present instanceof Waiters) return new Waiters([...present.list, waiter]);
  return new Waiters([present, waiter]);
}

/** Those of `present` but `waiter`. */
export function withoutWaiter(present: Waiter | undefined, waiter: Waiter): Waiter | undefined {
  if (present === waiter) return undefined;
  if (!(present instanceof Waiters)) return present;
  const list = present.list.filter((one) => one !== waiter);
  return list.length === 0 ? undefined : new Waiters(list);
}
