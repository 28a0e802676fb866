/**
 * The benchmarks, side by side with their peers.
 *
 *     npm run bench
 *     npm run bench -- echo posts --rounds 3
 *     npm run bench -- --quick
 *     npm run bench -- --smoke
 *     npm run bench -- compare --baseline ../old
 */
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { affinity } from './support/affinity.mjs';
import { buildNative } from './support/build.mjs';
import { contestantsOn } from './support/checkout.mjs';
import { series } from './support/curves.mjs';
import { dataFile } from './support/data.mjs';
import { printCurve, printRatios, printRow, printStatus, printVerdict } from './support/report.mjs';
import { runRows } from './support/rounds.mjs';

const names = [
  ...['echo', 'latency', 'accepts', 'idle-connections', 'node', 'idle-http'],
  ...['random-reads', 'awaited-reads', 'sequential-reads', 'durable-writes', 'send-file', 'files'],
  ...[
    'micro',
    'spawns',
    'channels',
    'posts',
    'hand-off',
    'order',
    'pin',
    'spool',
    'ingest',
    'chat',
  ],
  ...['scale', 'stall', 'pool', 'sum', 'serve', 'waits', 'trace'],
];
/** On demand only: they want an argument. */
const others = ['compare'];
/** What is published; parts and short runs go to the other, which git ignores. */
const published = new URL('./results/', import.meta.url);
const unpublished = new URL('../build-bench/results/', import.meta.url);
const GiB = 2 ** 30;
const MiB = 2 ** 20;

const modes = {
  full: { rounds: 3, warmUp: 0.5, seconds: 1.5, fileSize: GiB, most: Infinity },
  quick: { rounds: 1, warmUp: 0.3, seconds: 0.4, fileSize: 256 * MiB, most: Infinity },
  smoke: { rounds: 1, warmUp: 0.1, seconds: 0.3, fileSize: 64 * MiB, most: 20 },
};

const help = `npm run bench [-- NAME… [options]]

  NAME          ${names.join(', ')}; default: all of them;
                ${others.join(', ')}
  --rounds N    how often each contestant is measured (${modes.full.rounds})
  --seconds N   how long each time (${modes.full.seconds})
  --quick       one short round, of one row of each benchmark and of those that are compared in it:
                about two minutes in all; with --rows, of all rows whose name contains that
  --smoke       whether each contestant works; nothing is written
  --rows TEXT   only rows whose name contains that
  --baseline DIRECTORY
                for compare, which is run on demand only: another checkout, built, to be measured
                beside this one
  --list        the rows and who takes part
`;

function usage(message) {
  process.stderr.write(`${message}\n\n${help}`);
  process.exit(2);
}

function positive(text, name, fallback) {
  if (text === undefined) return fallback;
  if (!(Number(text) > 0 && Number(text) <= 1000)) usage(`--${name} wants a number up to 1000`);
  return Number(text);
}

function readArguments() {
  const flag = { type: 'boolean', default: false };
  const text = { type: 'string' };
  const flags = { quick: flag, smoke: flag, list: flag, help: flag };
  let parsed;
  try {
    parsed = parseArgs({
      options: { ...flags, rounds: text, seconds: text, rows: text, baseline: text },
      allowPositionals: true,
    });
  } catch (error) {
    usage(error.message);
  }
  const { values, positionals } = parsed;
  const known = [...names, ...others];
  for (const name of positionals) if (!known.includes(name)) usage(`there is no benchmark ${name}`);
  const mode = values.smoke ? 'smoke' : values.quick ? 'quick' : 'full';
  return {
    ...values,
    mode,
    chosen: positionals.length > 0 ? known.filter((name) => positionals.includes(name)) : names,
    rounds: values.rounds && Math.ceil(positive(values.rounds, 'rounds')),
    seconds: positive(values.seconds, 'seconds', modes[mode].seconds),
  };
}

/**
 * The row that a benchmark itself has for short runs, or else the first in which something is asked of
 * ours, and those whose figures decide.
 */
function decisive(benchmark, rows) {
  const targetsOf = (row) => benchmark.targets.filter(({ only }) => only?.(row) ?? true);
  const row = benchmark.quick ?? rows.find((one) => targetsOf(one).length > 0) ?? rows[0];
  const named = new Set(targetsOf(row).flatMap(({ subject, against }) => [subject, against]));
  const contestants = Object.entries(benchmark.contestants).filter(
    ([name]) => named.size === 0 || named.has(name),
  );
  return { ...benchmark, rows: [row], contestants: Object.fromEntries(contestants) };
}

/** The benchmark, with those rows that are wanted. */
async function load(name, { rows, baseline, list, mode }) {
  const { default: benchmark } = await import(`./${name}.mjs`);
  if (benchmark.needsBaseline && !baseline && !list) usage(`${name} wants --baseline`);
  // Most rows differ in numbers alone: whether a contestant works the first of them tells.
  const { smoke = (row) => row === benchmark.rows[0] } = benchmark;
  const chosen = (row) => mode !== 'smoke' || smoke(row);
  const wanted = benchmark.rows.filter((row) => row.name.includes(rows ?? '') && chosen(row));
  if (mode === 'quick' && rows === undefined) return decisive(benchmark, wanted);
  return { ...benchmark, rows: wanted };
}

function list(benchmarks) {
  for (const { name, rows, contestants } of benchmarks) {
    console.log(`${name}: ${rows.map((row) => row.name).join('; ')}`);
    for (const contestant of Object.keys(contestants)) console.log(`    ${contestant}`);
  }
}

function machine() {
  return {
    cpus: os.availableParallelism(),
    cpu: os.cpus()[0]?.model,
    kernel: os.release(),
    node: process.version,
    affinity: affinity.note,
  };
}

function progress(text) {
  if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
}

/** Of rows that are compared: one table for all of them, or one for each. */
function printTables(benchmark, rows) {
  if (rows[0].series !== undefined) return printCurve(benchmark, rows);
  for (const row of rows) printRow(benchmark, row);
}

function roundsOf(benchmark, { mode, rounds }) {
  const usual = modes[mode].rounds;
  return rounds ?? (mode === 'full' ? (benchmark.rounds ?? usual) : usual);
}

async function runBenchmark(benchmark, { rounds, times, print }) {
  const rows = [];
  const onStep = (row, contestant, round) =>
    progress(`${benchmark.name}, ${row.name}: ${contestant} (${round + 1} of ${rounds})`);
  for (const compared of series(benchmark.rows)) {
    const results = await runRows(benchmark, compared, { rounds, times, onStep });
    progress('');
    print(benchmark, results);
    rows.push(...results);
  }
  return { name: benchmark.name, title: benchmark.title, rows };
}

/** One after the other. Where nothing is measured several at a time. */
async function runAll(benchmarks, options, times) {
  const measured = [];
  const left = benchmarks.entries();
  const work = async () => {
    for (const [i, benchmark] of left) {
      const rounds = roundsOf(benchmark, options);
      const print = options.smoke ? printStatus : printTables;
      measured[i] = await runBenchmark(benchmark, { rounds, times, print });
      if (benchmark.needsBaseline && !options.smoke) printRatios(measured[i]);
    }
  };
  const workers = options.smoke ? os.availableParallelism() : 1;
  await Promise.all(Array.from({ length: workers }, work));
  return measured;
}

async function write(benchmarks, measured, options) {
  const { mode, rounds = modes[mode].rounds, seconds, chosen, rows } = options;
  const { format } = await import('prettier');
  const { drawPicture } = await import('./support/pictures.mjs');
  const all = mode === 'full' && rows === undefined && names.every((name) => chosen.includes(name));
  const results = all ? published : unpublished;
  fs.mkdirSync(results, { recursive: true });
  const file = new URL('latest.json', results);
  const report = { date: new Date().toISOString(), mode, rounds, seconds, machine: machine() };
  const text = JSON.stringify({ ...report, benchmarks: measured });
  fs.writeFileSync(file, await format(text, { parser: 'json', printWidth: 100 }));
  measured.forEach((result, i) => {
    const picture = drawPicture(benchmarks[i], result);
    if (picture) fs.writeFileSync(new URL(`${result.name}.svg`, results), picture);
  });
  console.log(`written to ${path.relative('', fileURLToPath(results))}/`);
}

/** Without CMake or a compiler there is still what is written in JavaScript. */
function tryToBuild({ smoke }) {
  try {
    buildNative();
  } catch (error) {
    if (error.code !== 'EBUILD' || smoke) throw error;
    process.stderr.write(`${error.message}\nwithout bench/native:\n`);
  }
}

async function main() {
  const options = readArguments();
  if (options.help) return console.log(help);
  const benchmarks = await Promise.all(options.chosen.map((name) => load(name, options)));
  if (options.list) return list(benchmarks);

  if (!benchmarks.every((benchmark) => benchmark.scriptsOnly)) tryToBuild(options);
  // `most`: connections, where a row has many.
  const { warmUp, fileSize, most } = modes[options.mode];
  const times = { warmUp, seconds: options.seconds, fileSize, most };
  if (benchmarks.some((benchmark) => benchmark.needsFile)) times.file = dataFile(fileSize);
  if (options.baseline) times.baseline = contestantsOn(options.baseline);
  console.log(`${os.availableParallelism()} CPUs, ${affinity.note}; Node.js ${process.version}\n`);

  const measured = await runAll(benchmarks, options, times);
  if (!options.smoke) {
    printVerdict(measured);
    await write(benchmarks, measured, options);
  }
  const failed = measured.some(({ rows }) =>
    rows.some(({ contestants }) => contestants.some(({ status }) => status === 'failed')),
  );
  if (failed) process.exitCode = 1;
}

for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => process.exit(130));
await main();
