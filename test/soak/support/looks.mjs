/**
 * What a process has when it is at rest, looked at again and again: none of it may grow.
 */
import { readdirSync } from 'node:fs';

/** Looks in a run; the first ones are for what is kept for reuse. */
export const LOOKS = 12;
const WARM = 4;
/** Threads and descriptors of bounded pools that come when first needed. */
const SPARE = 8;

/** Of this process. `collects`: after its garbage was collected (--expose-gc). */
export function look(collects = true) {
  if (collects) globalThis.gc?.();
  return {
    rss: process.memoryUsage.rss(),
    descriptors: readdirSync('/proc/self/fd').length,
    threads: readdirSync('/proc/self/task').length,
  };
}

/**
 * What grew, in words; empty when nothing did. `growth`: bytes that resident memory may have grown
 * by between the warm looks and the last, which is the noise of the heaps.
 */
export function grown(looks, growth) {
  const warm = looks.slice(WARM - 2, WARM + 1);
  const last = looks.slice(-3);
  const least = (some, name) => Math.min(...some.map((one) => one[name]));
  const most = (some, name) => Math.max(...some.map((one) => one[name]));
  const names = [];
  if (least(last, 'rss') > most(warm, 'rss') + growth) names.push('memory');
  for (const name of ['descriptors', 'threads']) {
    if (least(last, name) > most(warm, name) + SPARE) names.push(name);
  }
  return names;
}

/** The noise of a run of so many minutes: a leak of a kilobyte a packet is more than either. */
export const noiseOf = (minutes) => (minutes < 1 ? 128 : 48) * 2 ** 20;
