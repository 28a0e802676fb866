/**
 * What a micro-thread waits for beside operations: time, and promises.
 */
import type { Suspended, Waitable } from '../api';
import {
  waitFor,
  withoutWaiter,
  withWaiter,
  type Suspension,
  type Waiter,
} from '../await/suspension';
import { invalidState } from '../support/errors';
import { clearTimeout, now, setTimeout } from '../support/timers';
import * as validate from '../support/validate';
import { trace } from './trace';

/** Something that gives a value, or fails, once. */
export abstract class Wait<T> implements Suspension, Waitable<T> {
  done = false;
  failed = false;
  value: unknown = undefined;
  protected waiter: Waiter | undefined = undefined;

  abstract get what(): string;
  /** Somebody waits for the first time, or again after everybody had left. */
  protected abstract begin(): void;
  /** Nobody waits any more. */
  protected abstract stop(): void;

  [Symbol.iterator](): Iterator<Suspended, T, unknown> {
    return this as unknown as Iterator<Suspended, T, unknown>;
  }

  /**
   * It is no promise: `await` would go on at once with it, and wait for nothing, had it no `then`.
   * Asking for it, as `await` does, says so.
   */
  get then(): unknown {
    throw invalidState(`${this.what} is waited for with yield*, in a micro-thread`);
  }

  next(): this {
    // eslint-disable-next-line @typescript-eslint/unbound-method -- names where the stack begins
    if (this.failed) throw trace(this.value, this.next);
    if (!this.done) waitFor(this);
    return this;
  }

  hear(waiter: Waiter): void {
    const first = this.waiter === undefined;
    this.waiter = withWaiter(this.waiter, waiter);
    if (this.done || this.failed) waiter.wake();
    else if (first) this.begin();
  }

  leave(waiter: Waiter): void {
    if (this.waiter === undefined) return; // it has stopped already, or has not begun
    this.waiter = withoutWaiter(this.waiter, waiter);
    if (this.waiter === undefined && !this.done && !this.failed) this.stop();
  }

  abandon(waiter: Waiter): boolean {
    this.leave(waiter);
    return true;
  }

  protected fulfil(value: T): void {
    this.value = value;
    this.done = true;
    this.tell();
  }

  protected fail(error: unknown): void {
    this.value = error;
    this.failed = true;
    this.tell();
  }

  protected tell(): void {
    const { waiter } = this;
    this.waiter = undefined;
    if (waiter !== undefined) waiter.wake();
  }
}

class Sleep extends Wait<void> {
  private readonly delay: number;
  private timer: NodeJS.Timeout | undefined = undefined;

  constructor(delay: number) {
    super();
    this.delay = delay;
  }

  override get what(): string {
    return `sleep of ${this.delay} ms`;
  }

  /** @internal */
  ring(): void {
    now();
    this.timer = undefined;
    this.fulfil();
  }

  protected override begin(): void {
    if (this.delay !== Infinity) this.timer = setTimeout(ring, this.delay, this);
  }

  protected override stop(): void {
    clearTimeout(this.timer);
  }
}

function ring(sleep: Sleep): void {
  sleep.ring();
}

class PromiseWait<T> extends Wait<T> {
  private readonly promise: PromiseLike<T>;
  private asked = false;

  constructor(promise: PromiseLike<T>) {
    super();
    this.promise = promise;
  }

  override get what(): string {
    return 'promise';
  }

  protected override begin(): void {
    if (this.asked) return;
    this.asked = true;
    this.promise.then(
      (value) => {
        now();
        this.fulfil(value);
      },
      (error: unknown) => {
        now();
        this.fail(error);
      },
    );
  }

  protected override stop(): void {
    // A promise goes on; its failure is nobody's business then.
  }
}

const LONGEST = 2 ** 31 - 1;

/** Milliseconds that a timer of Node.js takes. */
export function milliseconds(value: unknown, name: string): number {
  const time = validate.number(value, name);
  if (time >= 0 && (time <= LONGEST || time === Infinity)) return time;
  throw validate.outOfRange(name, `>= 0 && <= ${LONGEST}, or Infinity`, value);
}

/**
 * Waits for `delay` milliseconds, up to 2^31 - 1; Infinity: for ever, until it is cancelled. It begins
 * when it is waited for, and keeps the process alive meanwhile.
 */
export function sleep(delay: number): Waitable<void> {
  return new Sleep(milliseconds(delay, 'delay'));
}

/** Waits for a promise, or anything with a `then`. A cancel leaves it to itself. */
export function wait<T>(promise: PromiseLike<T>): Waitable<T> {
  if (typeof (promise as { then?: unknown } | null | undefined)?.then !== 'function') {
    throw validate.invalidType('promise', 'a promise', promise);
  }
  return new PromiseWait(promise);
}
