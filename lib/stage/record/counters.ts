/**
 * What a thread of a stage counts and measures, in memory that the pipeline's thread sees.
 */
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import type { HistogramSummary } from '../api';

/** Where each number stands. */
export const enum Counter {
  /** Packets handled. */
  Packets,
  /** Failures of operations and handlers. */
  Failures,
  /** Connections handed to another stage. */
  HandedOff,
  /** Connections that came: accepted, handed over, started. */
  Arrived,
  /** Connections whose last event was here. */
  Closed,
  /** Documents of a native stage among those that came. */
  Documents,
  COUNT,
}

/** One thread's counters: written by it alone, kept when it dies. */
export function newCounters(): Float64Array {
  return new Float64Array(new SharedArrayBuffer(8 * Counter.COUNT));
}

/** What one thread measures, in microseconds. Posted to another thread, its data is shared. */
export interface Measures {
  /** From the moment a packet was queued until it was taken. */
  readonly queueing: RecordableHistogram;
  /** In a handler; an async one until its promise was settled. */
  readonly handling: RecordableHistogram;
}

export function newMeasures(): Measures {
  return { queueing: createHistogram(), handling: createHistogram() };
}

export function summarize(parts: readonly RecordableHistogram[]): HistogramSummary {
  const all = createHistogram();
  for (const part of parts) all.add(part);
  if (all.count === 0)
    return { count: 0, min: 0, mean: 0, max: 0, p50: 0, p90: 0, p99: 0, p999: 0 };
  return {
    count: all.count,
    min: all.min,
    mean: all.mean,
    max: all.max,
    p50: all.percentile(50),
    p90: all.percentile(90),
    p99: all.percentile(99),
    p999: all.percentile(99.9),
  };
}
