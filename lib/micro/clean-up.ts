/**
 * Clean-up that waits, of the generators of this library.
 */
import type { Suspended, Waitable } from '../api';
import { waitFor, type Suspension, type Waiter } from '../await/suspension';
import type { Micro } from './api';
import type { MicroThread } from './thread';

/** Tells who waits for it, and was cancelled, to end once more. */
class Again implements Suspension, Waitable<never> {
  readonly done = false;
  readonly failed = false;
  readonly value = undefined;
  readonly what = 'end';

  [Symbol.iterator](): Iterator<Suspended, never, unknown> {
    return this as unknown as Iterator<Suspended, never, unknown>;
  }

  next(): this {
    waitFor(this);
    return this;
  }

  hear(waiter: Waiter): void {
    (waiter as MicroThread<unknown>).tellAgain();
  }

  leave(): void {
    // It is over at once.
  }

  abandon(): boolean {
    return true;
  }
}

const again = new Again();

/**
 * Waits for `waitable`, and for `cleanUp` in any case. A generator that is told to end, and waits in a
 * `finally`, is finished by a `next`: whoever delegates to it with `yield*` would go on, as after a
 * return. So it is told once more, behind its clean-up.
 */
export function* cleanedUp<T>(waitable: Waitable<T>, cleanUp: () => Micro<void>): Micro<T> {
  let told = true;
  try {
    const value = yield* waitable;
    told = false;
    return value;
  } catch (error) {
    told = false;
    throw error;
  } finally {
    yield* cleanUp();
    if (told) yield* again;
  }
}
