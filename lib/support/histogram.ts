/**
 * What native code has counted in buckets, native/port/histogram.h, at one moment, with the words of
 * the histograms of node:perf_hooks.
 */
import { inspect } from 'node:util';
import type * as api from '../api';
import * as validate from './validate';

/** Values below have a bucket each; from there on each power of two has so many. */
const PART_BITS = 5;
const PARTS = 1 << PART_BITS;
export const BUCKETS = (32 - PART_BITS + 1) * PARTS;

export class Histogram implements api.Histogram {
  readonly count: number;
  readonly min: number;
  readonly max: number;
  readonly mean: number;
  readonly #counts: Float64Array;

  /** `counts`: the buckets, and behind them the sum of the values. */
  constructor(counts: Float64Array) {
    this.#counts = counts.subarray(0, BUCKETS);
    this.count = this.#counts.reduce((sum, count) => sum + count, 0);
    const first = this.#counts.findIndex((count) => count > 0);
    this.min = first < 0 ? 0 : leastOf(first);
    this.max = first < 0 ? 0 : greatestOf(this.#counts.findLastIndex((count) => count > 0));
    this.mean = counts[BUCKETS]! / this.count;
  }

  percentile(percentile: number): number {
    validate.number(percentile, 'percentile');
    if (!(percentile > 0 && percentile <= 100)) {
      throw validate.outOfRange('percentile', '> 0 and <= 100', percentile);
    }
    let left = Math.ceil((percentile / 100) * this.count);
    if (left === 0) return 0;
    return greatestOf(this.#counts.findIndex((count) => (left -= count) <= 0));
  }

  toJSON(): object {
    const { count, min, max, mean } = this;
    const [p50, p90, p99, p999] = [50, 90, 99, 99.9].map((p) => this.percentile(p));
    return { count, min, max, mean, percentiles: { 50: p50, 90: p90, 99: p99, 99.9: p999 } };
  }

  [inspect.custom](_depth: number, options: object, show: typeof inspect): string {
    return `Histogram ${show(this.toJSON(), options)}`;
  }
}

/** The least value of a bucket. */
function leastOf(bucket: number): number {
  const shift = Math.max(0, (bucket >> PART_BITS) - 1);
  return (bucket - (shift << PART_BITS)) * 2 ** shift;
}

/** The greatest one. */
function greatestOf(bucket: number): number {
  return leastOf(bucket + 1) - 1;
}
