/** The histograms of `port.stats()`: what they say of values that are known. */
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import { BUCKETS, Histogram } from '../dist/support/histogram.js';
import { codeOf, failureNow, newSeed, Random } from './support/harness';

/** As native/port/histogram.h has it. */
function bucketOf(value: number): number {
  if (value < 32) return value;
  const shift = 32 - Math.clz32(value) - 6;
  return shift * 32 + (value >>> shift);
}

function of(values: readonly number[]): Histogram {
  const counts = new Float64Array(BUCKETS + 1);
  for (const value of values) counts[bucketOf(value)]!++;
  counts[BUCKETS] = values.reduce((sum, value) => sum + value, 0);
  return new Histogram(counts);
}

test('small values are exact', () => {
  const histogram = of([3, 1, 2, 2, 63]);
  expect(histogram).toMatchObject({ count: 5, min: 1, max: 63, mean: 71 / 5 });
  expect([1, 20, 21, 60, 80, 81, 100].map((p) => histogram.percentile(p))).toEqual([
    1, 1, 2, 2, 3, 63, 63,
  ]);
});

test('none at all', () => {
  const histogram = of([]);
  expect(histogram).toMatchObject({ count: 0, min: 0, max: 0, mean: NaN });
  expect(histogram.percentile(99)).toBe(0);
});

test('the greatest there is', () => {
  expect(of([0xffffffff])).toMatchObject({ count: 1, max: 0xffffffff, mean: 0xffffffff });
});

test('any values: to a 32nd of their size', () => {
  const random = new Random(newSeed('histogram'));
  for (let round = 0; round < 20; round++) {
    const values = Array.from({ length: 500 }, () => random.below(2 ** (1 + random.below(31))));
    const sorted = [...values].sort((a, b) => a - b);
    const histogram = of(values);
    const near = (value: number, real: number): void => {
      expect(Math.abs(value - real)).toBeLessThanOrEqual(real / 32);
    };
    near(histogram.min, sorted[0]!);
    near(histogram.max, sorted.at(-1)!);
    for (const p of [0.1, 1, 25, 50, 90, 99, 99.9, 100]) {
      near(histogram.percentile(p), sorted[Math.ceil((p / 100) * sorted.length) - 1]!);
    }
  }
});

describe('percentile: bad input', () => {
  test.each([
    [0, 'ERR_OUT_OF_RANGE'],
    [-1, 'ERR_OUT_OF_RANGE'],
    [101, 'ERR_OUT_OF_RANGE'],
    [NaN, 'ERR_OUT_OF_RANGE'],
    ['50', 'ERR_INVALID_ARG_TYPE'],
  ])('%s: %s', (percentile, code) => {
    expect(codeOf(failureNow(() => of([1]).percentile(percentile as number)))).toBe(code);
  });
});

test('it can be shown, and posted as JSON', () => {
  const histogram = of([1, 2, 3]);
  const plain = {
    count: 3,
    min: 1,
    max: 3,
    mean: 2,
    percentiles: { 50: 2, 90: 3, 99: 3, '99.9': 3 },
  };
  expect(JSON.parse(JSON.stringify(histogram))).toEqual(plain);
  expect(inspect(histogram)).toMatch(/^Histogram \{.*count: 3,.*mean: 2/s);
});
