/**
 * Results as text.
 */
import { Table } from 'console-table-printer';
import { CURVE_CELLS, curveTable } from './curves.mjs';
import { metrics, showSpread } from './metrics.mjs';

function cells(contestant, columns) {
  if (contestant.status !== 'measured') {
    return { contestant: contestant.name, [metrics[columns[0]].title]: contestant.status };
  }
  const shown = columns.map((metric) => [
    metrics[metric].title,
    showSpread(metric, contestant.metrics[metric]),
  ]);
  return { contestant: contestant.name, ...Object.fromEntries(shown) };
}

function describeTarget({ subject, against, metric, atMost, atLeast, verdict, ratio }) {
  const goal = atMost === undefined ? `≥ ${atLeast}` : `≤ ${atMost}`;
  const than = against === undefined ? '' : ` × ${against}`;
  const text = `${metrics[metric].title}: ${subject} ${goal}${than}`;
  if (ratio === undefined) return `  – ${text}: ${verdict}`;
  const [median, min, max] = [ratio.median, ratio.min, ratio.max].map((n) => n.toPrecision(3));
  const range = ratio.min === ratio.max ? '' : ` (${min}–${max})`;
  return `  ${verdict === 'reached' ? '✓' : '✗'} ${text}: ${verdict}, ${median}${range}`;
}

/** All rows at one glance: both contestants of each target, and the ratio with its quartiles. */
export function printRatios({ title, rows }) {
  const table = new Table({ shouldDisableColors: !process.stdout.isTTY, title });
  for (const row of rows) {
    for (const { metric, subject, against, ratio } of row.targets) {
      if (ratio === undefined) continue;
      const shown = (name) => {
        const contestant = row.contestants.find((other) => other.name === name);
        return metrics[metric].show(contestant.metrics[metric].median);
      };
      const best = (name) => {
        const { values } = row.contestants.find((other) => other.name === name).metrics[metric];
        return metrics[metric].more ? Math.max(...values) : Math.min(...values);
      };
      const [low, high] = ratio.quartiles ?? [ratio.min, ratio.max];
      table.addRow({
        work: row.name,
        measured: metrics[metric].title,
        [against]: shown(against),
        [subject]: shown(subject),
        ratio: ratio.median.toFixed(3),
        // Others' work on the machine only ever adds.
        'of the best': (best(subject) / best(against)).toFixed(3),
        [ratio.quartiles ? 'quartiles' : 'range']: `${low.toFixed(3)}–${high.toFixed(3)}`,
      });
    }
  }
  table.printTable();
}

export function printRow(benchmark, row) {
  const columns = benchmark.metrics.filter((metric) =>
    row.contestants.some((contestant) => contestant.metrics[metric] !== undefined),
  );
  const table = new Table({
    shouldDisableColors: !process.stdout.isTTY,
    title: `${benchmark.title}: ${row.name}`,
    columns: [
      { name: 'contestant', alignment: 'left' },
      ...columns.map((metric) => ({ name: metrics[metric].title, alignment: 'right' })),
    ],
  });
  if (columns.length === 0) columns.push(benchmark.metrics[0]);
  for (const contestant of row.contestants) table.addRow(cells(contestant, columns));
  table.printTable();
  for (const { name, status, reason } of row.contestants) {
    if (status !== 'measured') console.log(`  ${name}: ${status}: ${reason}`);
  }
  for (const target of row.targets) console.log(describeTarget(target));
  console.log();
}

/** One table for the rows of a series. */
export function printCurve(benchmark, rows) {
  const [header, ...lines] = curveTable(rows);
  const table = new Table({
    shouldDisableColors: !process.stdout.isTTY,
    title: `${benchmark.title}: ${rows[0].series}: ${CURVE_CELLS}`,
    columns: header.map((name, i) => ({ name, alignment: i === 0 ? 'left' : 'right' })),
  });
  for (const line of lines) {
    table.addRow(Object.fromEntries(header.map((name, i) => [name, line[i]])));
  }
  table.printTable();
  for (const { name, contestants, targets } of rows) {
    const reasons = new Set(contestants.map(({ reason }) => reason).filter(Boolean));
    for (const reason of reasons) console.log(`  ${name}: ${reason}`);
    for (const target of targets.filter(({ ratio }) => ratio !== undefined)) {
      console.log(`  ${name}:${describeTarget(target)}`);
    }
  }
  console.log();
}

/** Whether each contestant works: figures of so short a run would say nothing. */
export function printStatus(benchmark, rows) {
  for (const { name, contestants } of rows) {
    for (const { name: contestant, status, reason } of contestants) {
      const what = status === 'measured' ? 'works' : `${status}: ${reason}`;
      console.log(`${benchmark.name}, ${name}: ${contestant}: ${what}`);
    }
  }
}

/** How many targets are reached. */
export function printVerdict(results) {
  const targets = results.flatMap(({ rows }) => rows.flatMap((row) => row.targets));
  const count = (verdict) => targets.filter((target) => target.verdict === verdict).length;
  console.log(
    `targets: ${count('reached')} reached, ${count('not reached')} not reached, ` +
      `${count('not measured')} not measured`,
  );
}
