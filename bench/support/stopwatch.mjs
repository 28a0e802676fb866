/**
 * Measures a contestant from inside: counts its operations, and takes the time and the CPU time of
 * the process (all its threads) between the end of the warm-up and the end of the measurement.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { percentile } from './statistics.mjs';

const LATENCIES = 1 << 20;

export class Stopwatch {
  #warmUp;
  #seconds;
  #mask;
  #systemCalls;
  #count = 0;
  #until = 0;
  #began;
  #latencies;
  #latencyCount = 0;
  /** Set at the end. */
  result;

  /**
   * `every`: looks at the clock after so many operations, a power of two. `systemCalls`: says how
   * many there were so far. `latencies`: whether `record` is going to be called.
   */
  constructor({ warmUp, seconds, every = 64, systemCalls, latencies = false }) {
    this.#warmUp = warmUp * 1000;
    this.#seconds = seconds * 1000;
    this.#mask = every - 1;
    this.#systemCalls = systemCalls;
    if (latencies) this.#latencies = new Float64Array(LATENCIES);
  }

  get running() {
    return this.result === undefined;
  }

  /** Counts one operation; false when the time is over. */
  count() {
    if ((++this.#count & this.#mask) !== 0) return this.result === undefined;
    return this.#look();
  }

  /** Takes down the time of one operation, in milliseconds. */
  record(milliseconds) {
    if (this.#began === undefined || this.#latencyCount === LATENCIES) return;
    this.#latencies[this.#latencyCount++] = milliseconds * 1000;
  }

  #look() {
    const now = performance.now();
    if (this.#until === 0) this.#until = now + this.#warmUp;
    if (now < this.#until || this.result !== undefined) return this.result === undefined;
    if (this.#began === undefined) {
      this.#began = this.#snapshot(now);
      this.#until = now + this.#seconds;
      return true;
    }
    this.result = this.#difference(this.#snapshot(now));
    return false;
  }

  #snapshot(now) {
    const { user, system } = process.cpuUsage();
    return { now, cpu: user + system, count: this.#count, systemCalls: this.#systemCalls?.() };
  }

  #difference(end) {
    const began = this.#began;
    const operations = end.count - began.count;
    const result = {
      operations,
      rate: operations / ((end.now - began.now) / 1000),
      cpu: (end.cpu - began.cpu) / operations,
    };
    if (end.systemCalls !== undefined) {
      result.systemCalls = (end.systemCalls - began.systemCalls) / operations;
    }
    if (this.#latencyCount > 0) {
      const sorted = this.#latencies.subarray(0, this.#latencyCount).sort();
      result.p50 = percentile(sorted, 0.5);
      result.p99 = percentile(sorted, 0.99);
      result.p999 = percentile(sorted, 0.999);
    }
    return result;
  }
}

/**
 * Looks on while other threads of this process work: `count` says how much they have done so far.
 * For one unit of it, the CPU time of the whole process.
 */
export async function observe({ warmUp, seconds, count }) {
  const snapshot = () => {
    const { user, system } = process.cpuUsage();
    return { now: performance.now(), cpu: user + system, count: count() };
  };
  await sleep(warmUp * 1000);
  const began = snapshot();
  // On a busy machine the other threads may not have had a processor by then.
  let end;
  for (let patience = Math.ceil(30 / seconds); patience > 0; patience--) {
    await sleep(seconds * 1000);
    end = snapshot();
    if (end.count > began.count) break;
  }
  const operations = end.count - began.count;
  if (operations === 0) throw new Error('nothing was done');
  const rate = operations / ((end.now - began.now) / 1000);
  return { operations, rate, cpu: (end.cpu - began.cpu) / operations };
}

/** Tells the result to whoever started the contestant. */
export function report(result) {
  process.stdout.write(`${JSON.stringify(result)}\n`);
}
