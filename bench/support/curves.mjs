/**
 * Rows that are one work with more and more threads: measured in turns, and shown together.
 */
import { metrics } from './metrics.mjs';
import { median } from './statistics.mjs';

export const CURVE_CELLS = 'per second · CPU µs each · × the fewest threads';

/** The rows that are compared: those of a series together, each of the others alone. */
export function series(rows) {
  const groups = new Map();
  for (const row of rows) {
    const group = row.series ?? row.name;
    groups.set(group, [...(groups.get(group) ?? []), row]);
  }
  return [...groups.values()];
}

function find(row, name) {
  return row.contestants.find((contestant) => contestant.name === name);
}

/** How much more than in the first row, round by round. */
function growth(rate, first) {
  return median(rate.values.map((value, round) => value / first.values[round]));
}

function cell({ status, metrics: { rate, cpu } }, first) {
  if (status !== 'measured') return status;
  const parts = [metrics.rate.show(rate.median), `${metrics.cpu.show(cpu.median)} µs`];
  if (first.metrics.rate) parts.push(`${growth(rate, first.metrics.rate).toFixed(2)} ×`);
  return parts.join(' · ');
}

/** A series as lines of cells, the first of which are the titles: contestants by threads. */
export function curveTable(rows) {
  const names = rows[0].contestants.map(({ name }) => name);
  return [
    ['threads', ...rows.map(({ threads }) => `${threads}`)],
    ...names.map((name) => {
      const first = find(rows[0], name);
      return [name, ...rows.map((row) => cell(find(row, name), first))];
    }),
  ];
}
