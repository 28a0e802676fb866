/** The clock that deadlines in records are read from: the same in each thread, and in C++. */
import { now } from './timers';

/** `now()` counts from the beginning of its thread; half the price of `hrtime`. */
const [seconds, nanoseconds] = process.hrtime();
const offset = seconds * 1e3 + nanoseconds / 1e6 - now();

/** Milliseconds on the monotonic clock. */
export function monotonic(): number {
  return now() + offset;
}
