/**
 * What a signal ends when it is aborted: that which was opened with it, and what waits under it. One
 * listener for all that one signal ends, since Node.js takes more than ten for a leak.
 */
import { nextTick } from './timers';

export interface Ended {
  /** @internal The signal was aborted. */
  onAbort(): void;
}

class Lives {
  readonly all = new Set<Ended>();

  handleEvent(): void {
    for (const one of [...this.all]) {
      // The end of another one may have been its own.
      if (this.all.has(one)) end(one);
    }
  }
}

/** As of several listeners: what one of them throws is nobody else's. */
function end(one: Ended): void {
  try {
    one.onAbort();
  } catch (error) {
    nextTick(() => {
      throw error;
    });
  }
}

const lives = new WeakMap<AbortSignal, Lives>();

/** From now on until `outlive` the signal ends it; at once where it is aborted already. */
export function endWith(signal: AbortSignal, one: Ended): void {
  if (signal.aborted) return one.onAbort();
  let known = lives.get(signal);
  if (known === undefined) {
    lives.set(signal, (known = new Lives()));
    signal.addEventListener('abort', known);
  }
  known.all.add(one);
}

/** It has ended, or is somebody else's. */
export function outlive(signal: AbortSignal, one: Ended): void {
  const known = lives.get(signal);
  if (known === undefined) return;
  known.all.delete(one);
  if (known.all.size > 0) return;
  lives.delete(signal);
  signal.removeEventListener('abort', known);
}
