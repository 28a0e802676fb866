/**
 * Waiting for what others may wait for as well: whoever gives up leaves it to them.
 */
import type { AwaitOptions } from '../api';
import { abortError, timedOut } from './errors';
import { endWith, outlive } from './lifetime';
import { Alarm } from './timers';
import * as validate from './validate';

/**
 * Settles as `promise` does, unless the signal is aborted or the time is over first. `what` names it
 * in the text of a timeout; `discard` takes what comes after that.
 */
export function abandonable<T>(
  promise: Promise<T>,
  what: string,
  options: AwaitOptions,
  discard?: (late: T) => void,
): Promise<T> {
  const signal = validate.signal(options.signal);
  const timeout = validate.timeout(options.timeout);
  if (signal === undefined && timeout === 0) return promise;
  return new Promise<T>((resolve, reject) => {
    let givenUp = false;
    const giveUp = (error: Error): void => {
      givenUp = true;
      leave();
      reject(error);
    };
    const watch = { onAbort: (): void => giveUp(abortError(signal!.reason)) };
    const alarm = timeout > 0 ? new Alarm(timeout, () => giveUp(timedOut(what, {}))) : undefined;
    const leave = (): void => {
      if (signal !== undefined) outlive(signal, watch);
      alarm?.cancel();
    };
    promise.then(
      (value) => {
        leave();
        if (givenUp) discard?.(value);
        else resolve(value);
      },
      (error: Error) => {
        leave();
        reject(error);
      },
    );
    if (signal !== undefined) endWith(signal, watch);
  });
}
