/**
 * Timers and clocks as they were when the library was loaded. Tests put others in their place
 * (node:test's `mock.timers`, sinon, vitest, jest), and those stand still: with them no submission
 * would ever reach the kernel. All of `lib/` takes them from here.
 */
import nodeTimers = require('node:timers');
import { performance } from 'node:perf_hooks';

// From the module, for jest can replace the globals before it loads anything.
export const {
  setTimeout,
  clearTimeout,
  setInterval,
  clearInterval,
  setImmediate,
}: Pick<
  typeof nodeTimers,
  'setTimeout' | 'clearTimeout' | 'setInterval' | 'clearInterval' | 'setImmediate'
> = nodeTimers;

export const nextTick: typeof process.nextTick = process.nextTick;
export const queueMicrotask: typeof globalThis.queueMicrotask = globalThis.queueMicrotask;

const { now: read } = performance;
/** What `now` gave last: a time for whoever needs no better one, and often. */
export const clock = { time: 0 };
/** Milliseconds since this thread began. */
export const now = (): number => (clock.time = read.call(performance));

/** A timer of Node.js that is set to more fires at once. */
const LONGEST = 2 ** 31 - 1;

/** Calls `ring` once, after any number of milliseconds. */
export class Alarm {
  private left: number;
  private readonly ring: () => void;
  private timer: NodeJS.Timeout | undefined = undefined;

  constructor(milliseconds: number, ring: () => void) {
    this.left = milliseconds;
    this.ring = ring;
    this.arm();
  }

  cancel(): void {
    clearTimeout(this.timer);
  }

  private arm(): void {
    const step = Math.min(this.left, LONGEST);
    this.left -= step;
    this.timer = setTimeout(() => (this.left > 0 ? this.arm() : this.ring()), step);
  }
}
