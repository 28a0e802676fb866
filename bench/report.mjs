/**
 * Puts what `npm run bench` has measured into docs/performance.md.
 *
 *     npm run bench:report              # writes between the markers
 *     npm run bench:report -- --check   # fails when that would change something
 */
import fs from 'node:fs';
import { parseArgs } from 'node:util';
import { CURVE_CELLS, curveTable, series } from './support/curves.mjs';
import { metrics, showSpread } from './support/metrics.mjs';

const root = new URL('../', import.meta.url);
const latest = new URL('bench/results/latest.json', root);
const document = 'docs/performance.md';

function table(header, rows) {
  const line = (cells) => `| ${cells.join(' | ')} |`;
  const rule = `|${'---|'.repeat(header.length)}`;
  return [line(header), rule, ...rows.map(line)].join('\n');
}

function shown(row, name, metric) {
  const spread = row.contestants.find((contestant) => contestant.name === name)?.metrics[metric];
  return spread === undefined ? '–' : metrics[metric].show(spread.median);
}

function showRatio(ratio) {
  const digits = (value) => (value >= 100 ? Math.round(value).toString() : value.toPrecision(2));
  const range = ratio.min === ratio.max ? '' : ` (${digits(ratio.min)}–${digits(ratio.max)})`;
  return `${digits(ratio.median)} ×${range}`;
}

function target(benchmark, row, goal) {
  const { subject, against, metric, ratio, verdict, atMost, atLeast } = goal;
  const absolute = against === undefined;
  const limit = atMost === undefined ? `≥ ${atLeast}` : `≤ ${atMost}`;
  const mark = { reached: ' ✓', 'not reached': ' ✗' }[verdict] ?? '';
  return [
    `${benchmark.title}: ${row.name}`,
    metrics[metric].title,
    `${subject}: ${shown(row, subject, metric)}`,
    absolute ? '–' : `${against}: ${shown(row, against, metric)}`,
    ratio === undefined ? verdict : absolute ? '–' : showRatio(ratio),
    `${limit}${absolute ? '' : ' ×'}${mark}`,
  ];
}

function conditions({ date, rounds, seconds, machine }) {
  const { cpus, cpu, kernel, node } = machine;
  return (
    `Medians of ${rounds} rounds of ${seconds} s each, least and greatest value in brackets; ` +
    `${date.slice(0, 10)}, ${cpus} × ${cpu}, Linux ${kernel}, Node.js ${node}.`
  );
}

/** Every target, with both values and their ratio, round by round. */
function targets(report) {
  const rows = report.benchmarks.flatMap((benchmark) =>
    benchmark.rows.flatMap((row) => row.targets.map((goal) => target(benchmark, row, goal))),
  );
  const header = ['work', 'measured', 'this library', 'against', 'ratio', 'asked'];
  return `${table(header, rows)}\n\n${conditions(report)}`;
}

function contestants(row, columns) {
  return row.contestants.map(({ name, status, metrics: values }) => [
    name,
    ...(status === 'measured'
      ? columns.map((metric) => (values[metric] ? showSpread(metric, values[metric]) : '–'))
      : [status, ...columns.slice(1).map(() => '')]),
  ]);
}

function detailsOf(benchmark, row) {
  const known = Object.keys(metrics).filter((metric) =>
    row.contestants.some(({ metrics: values }) => values[metric] !== undefined),
  );
  const header = ['', ...known.map((metric) => metrics[metric].title)];
  return `**${benchmark.title}: ${row.name}**\n\n${table(header, contestants(row, known))}`;
}

function curveOf(benchmark, rows) {
  const [header, ...lines] = curveTable(rows);
  return `**${benchmark.title}: ${rows[0].series}** (${CURVE_CELLS})\n\n${table(header, lines)}`;
}

/** Every contestant. */
function details(report) {
  const sections = report.benchmarks.flatMap((benchmark) => [
    ...series(benchmark.rows).flatMap((rows) =>
      rows[0].series === undefined ? detailsOf(benchmark, rows[0]) : curveOf(benchmark, rows),
    ),
    `![${benchmark.title}](../bench/results/${benchmark.name}.svg)`,
  ]);
  return [conditions(report), ...sections].join('\n\n');
}

const blocks = { targets, details };

/** Fills each `<!-- bench:NAME -->…<!-- /bench:NAME -->` of the text. */
export function fill(text, report) {
  return text.replace(
    /(<!-- bench:(\w+) -->).*?(<!-- \/bench:\2 -->)/gs,
    (_, begin, name, end) => `${begin}\n\n${blocks[name](report)}\n\n${end}`,
  );
}

function main() {
  const { values } = parseArgs({ options: { check: { type: 'boolean', default: false } } });
  const report = JSON.parse(fs.readFileSync(latest, 'utf8'));
  const file = new URL(document, root);
  const before = fs.readFileSync(file, 'utf8');
  const after = fill(before, report);
  if (before === after) return;
  if (!values.check) {
    fs.writeFileSync(file, after);
    return;
  }
  process.stderr.write(
    `${document} tells other figures than bench/results: npm run bench:report\n`,
  );
  process.exitCode = 1;
}

main();
