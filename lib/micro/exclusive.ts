/**
 * One micro-thread at a time.
 */
import type { AwaitOptions, Handle, Waitable } from '../api';
import { invalidState } from '../support/errors';
import * as validate from '../support/validate';
import type { Micro } from './api';
import { Channel } from './channel';
import { MicroThread } from './thread';

interface Lock {
  /** Has one value while somebody has the handle. */
  readonly place: Channel<true>;
  holder: MicroThread<unknown> | undefined;
}

const locks = new WeakMap<object, Lock>();

/**
 * Runs `fn` while no other micro-thread of this thread runs one for `handle`: what it sends is not
 * torn by others that do so, too. They wait in the order in which they came; one that is cancelled
 * leaves the queue, and so does one whose `signal` is aborted or whose `timeout` is over before its
 * turn has come. Inside of `fn` another `exclusive` for the same handle throws `ERR_INVALID_STATE`, in
 * what `within`, `all`, `race` and a scope run there, too.
 */
export function* exclusive<T>(
  handle: Handle,
  fn: () => Waitable<T>,
  options?: AwaitOptions,
): Micro<T> {
  if (typeof handle !== 'object' || handle === null) {
    throw validate.invalidType('handle', 'a handle', handle);
  }
  validate.callback(fn, 'fn');
  let lock = locks.get(handle);
  if (lock === undefined) locks.set(handle, (lock = { place: new Channel(1), holder: undefined }));
  const { current } = MicroThread;
  const { holder } = lock;
  if (current !== undefined && holder !== undefined) {
    if (holder === current || current.isPartOf(holder)) {
      throw invalidState('The micro-thread has the handle to itself already');
    }
  }
  yield* lock.place.put(true, options);
  lock.holder = current;
  try {
    return yield* fn();
  } finally {
    lock.holder = undefined;
    lock.place.tryTake();
  }
}
