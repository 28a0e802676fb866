/** The clock that deadlines in records are read from: the same in each thread, and in C++. */
import { now } from './timers';

/** `now()` counts from the beginning of its thread; half the price of `hrtime`. */
const offset = measured();

/**
 * How far the two are apart. What happens between two looks, another thread's turn perhaps, would be
 * an error: of several the one with least of that counts.
 */
function measured(): number {
  let [found, least] = [0, Infinity];
  for (let i = 0; i < 8; i++) {
    const before = now();
    const [seconds, nanoseconds] = process.hrtime();
    const after = now();
    if (after - before >= least) continue;
    least = after - before;
    found = seconds * 1e3 + nanoseconds / 1e6 - (before + after) / 2;
  }
  return found;
}

/** Milliseconds on the monotonic clock. */
export function monotonic(): number {
  return now() + offset;
}

/** The same, of a time that `now()` gave in this thread. */
export function monotonicAt(time: number): number {
  return time + offset;
}

/** Milliseconds since 1970 when that clock was at 0, as they were when this thread began. */
export const EPOCH = performance.timeOrigin - offset;
