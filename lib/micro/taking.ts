/**
 * What a micro-thread takes from: channels of its thread, and those between threads.
 */
import type { AwaitOptions } from '../api';
import { coded } from '../support/errors';
import { LimitedWait } from './limits';

/** A `take` that is waited for. */
export abstract class Taking<T> extends LimitedWait<T> {
  /** Whether there is nothing more to take. */
  ended = false;

  override get what(): string {
    return 'take';
  }

  /** @internal */
  refuse(error: unknown, ended: boolean): void {
    this.ended = ended;
    this.fail(error);
  }
}

export abstract class Takable<T> {
  /** @internal A take that has not begun. */
  abstract newTake(options?: AwaitOptions): Taking<T>;
  /** @internal Gives `take` what there is to be had without waiting. */
  abstract giveNow(take: Taking<T>): void;
  /** @internal A stage that took from it has ended. */
  abstract abandon(): void;
}

export function channelClosed(cause: unknown): Error {
  const error = new Error('The channel is closed', cause === undefined ? {} : { cause });
  return coded(error, 'ERR_CHANNEL_CLOSED');
}
