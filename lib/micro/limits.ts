/**
 * For how long a put or a take is waited for: until its signal is aborted, or its time is over.
 */
import type { AwaitOptions } from '../api';
import { AWAIT_OPTIONS } from '../await/operation';
import { abortError, timedOut } from '../support/errors';
import { endWith, outlive, type Ended } from '../support/lifetime';
import { Alarm, now } from '../support/timers';
import * as validate from '../support/validate';
import { Wait } from './wait';

/** What the options of one say; undefined: it waits for as long as it takes. */
interface Bounds {
  readonly signal: AbortSignal | undefined;
  /** Milliseconds; 0: none. */
  readonly timeout: number;
}

export function boundsOf(options: AwaitOptions | undefined): Bounds | undefined {
  if (options === undefined) return undefined;
  validate.knownOf(options, AWAIT_OPTIONS);
  const signal = validate.signal(options.signal);
  const timeout = validate.timeout(options.timeout);
  return signal === undefined && timeout === 0 ? undefined : { signal, timeout };
}

/** While one waits. */
class Limit implements Ended {
  private readonly bounds: Bounds;
  private readonly giveUp: (error: Error) => void;
  private readonly alarm: Alarm | undefined = undefined;

  constructor(bounds: Bounds, what: string, giveUp: (error: Error) => void) {
    this.bounds = bounds;
    this.giveUp = giveUp;
    const { signal, timeout } = bounds;
    if (timeout > 0) {
      this.alarm = new Alarm(timeout, () => {
        now();
        giveUp(timedOut(what, {}));
      });
    }
    if (signal !== undefined) endWith(signal, this);
  }

  onAbort(): void {
    now();
    this.giveUp(abortError(this.bounds.signal!.reason));
  }

  end(): void {
    const { signal } = this.bounds;
    this.alarm?.cancel();
    if (signal !== undefined) outlive(signal, this);
  }
}

/**
 * A wait that may have limits. They begin when somebody waits, or when it begins by itself, and end
 * when nobody does any more. What it was given before is its own: a signal that comes later drops
 * nothing.
 */
export abstract class LimitedWait<T> extends Wait<T> {
  private readonly bounds: Bounds | undefined;
  private limit: Limit | undefined = undefined;

  constructor(options: AwaitOptions | undefined) {
    super();
    this.bounds = boundsOf(options);
  }

  /** Whether its signal was aborted before it began: it has failed then, and nothing has begun. */
  protected refused(): boolean {
    const signal = this.bounds?.signal;
    if (signal === undefined || !signal.aborted) return false;
    this.fail(abortError(signal.reason));
    return true;
  }

  protected startLimit(): void {
    if (this.bounds === undefined || this.limit !== undefined || this.done || this.failed) return;
    if (this.bounds.signal?.aborted) return this.giveUp(abortError(this.bounds.signal.reason));
    this.limit = new Limit(this.bounds, this.what, (error) => this.giveUp(error));
  }

  protected endLimit(): void {
    const { limit } = this;
    if (limit === undefined) return;
    this.limit = undefined;
    limit.end();
  }

  /**
   * The limit is reached: it leaves where it waits. A put that is found in the channel by then is done;
   * what a take of another thread's channel was told of goes back to its place.
   */
  protected giveUp(error: Error): void {
    this.endLimit();
    if (this.done || this.failed) return;
    this.stop();
    if (this.done) this.tell();
    else this.fail(error);
  }

  protected override fulfil(value: T): void {
    this.endLimit();
    super.fulfil(value);
  }

  protected override fail(error: unknown): void {
    this.endLimit();
    super.fail(error);
  }
}
