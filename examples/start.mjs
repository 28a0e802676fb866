/**
 * A tour: starts the spool server, sends it documents over 1,000 connections beside 5,000 slow ones,
 * checks each answer, does the same to the server on node:net, and shows both side by side. What
 * `npm start` runs.
 *
 *     npm start -- --driver epoll --seconds 10
 *     npm start -- --watch
 */
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { Table } from 'console-table-printer';
import { driverOption, flag, integer, option, readArguments, size } from './support/arguments.mjs';
import { runProgram, untilSignal } from './support/program.mjs';
import { killAll, measureServer, sendDocuments, startServer } from './support/spool-measure.mjs';
import { nativeOption, spoolOptions } from './support/spool-options.mjs';
import { watch } from './support/watch.mjs';

const MiB = 2 ** 20;
/** Seconds of documents before those that count. */
const WARM_UP = 1;
/** Nobody waits that long for --documents. */
const A_DAY = 86400;

function progressText(seconds, { documents, bytes, wrong }) {
  const rate = (bytes / MiB / Math.max(seconds, 0.001)).toFixed(0);
  const trouble = wrong > 0 ? `  ${wrong} wrong` : '';
  const count = documents.toLocaleString('en');
  return `${seconds.toFixed(0).padStart(3)} s  ${count} documents  ${rate} MiB/s${trouble}`;
}

/** One line that is written over on a terminal, and a line every few seconds elsewhere. */
function progressPrinter(name) {
  const { stdout } = process;
  let began;
  let printed = 0;
  return {
    show(progress) {
      began ??= performance.now();
      const seconds = (performance.now() - began) / 1000;
      const text = `${name}: ${progressText(seconds, progress)}`;
      if (stdout.isTTY) stdout.write(`\r\x1b[K${text.slice(0, stdout.columns - 1)}`);
      else if (seconds - printed >= 2) {
        printed = seconds;
        console.log(text);
      }
    },
    end() {
      if (stdout.isTTY) stdout.write('\r\x1b[K');
    },
  };
}

function workOf({ connections, slow, documents, seconds, size: bytes, answer }) {
  const warmUp = documents === undefined ? WARM_UP : 0;
  return { connections, slow, documents, warmUp, seconds, bytes, answer };
}

/** Sends documents to one server: its numbers for the time that was measured, and the load's. */
async function measure({ name, ...program }, settings) {
  const server = await startServer(program);
  console.log(server.ready);
  const progress = progressPrinter(name);
  const result = await measureServer(server, workOf(settings), progress.show);
  progress.end();
  await server.stop();
  return { name, ...result };
}

const figures = [
  ['documents a second', ({ documents, seconds }) => documents / seconds],
  ['MiB a second', ({ bytes, seconds }) => bytes / MiB / seconds],
  ['CPU for a document, µs', ({ cpu }) => cpu],
  ['JavaScript called for a document, times', ({ wakeUps }) => wakeUps],
  ['p50 of an answer, ms', ({ p50 }) => p50],
  ['p99 of an answer, ms', ({ p99 }) => p99],
  ['resident memory, MiB', ({ resident }) => resident / MiB],
];

function printComparison(results) {
  const number = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });
  const show = (value) =>
    value >= 1000 ? Math.round(value).toLocaleString('en') : number.format(value);
  const table = new Table({
    shouldDisableColors: !process.stdout.isTTY || Boolean(process.env.NO_COLOR),
    columns: [
      { name: 'figure', alignment: 'left' },
      ...results.map(({ name }) => ({ name, alignment: 'right' })),
      ...(results.length > 1 ? [{ name: 'ratio', alignment: 'right' }] : []),
    ],
  });
  for (const [figure, value] of figures) {
    const values = results.map(value);
    const cells = Object.fromEntries(results.map(({ name }, i) => [name, show(values[i])]));
    const ratio = results.length > 1 ? { ratio: (values[0] / values[1]).toFixed(2) } : {};
    table.addRow({ figure, ...cells, ...ratio });
  }
  table.printTable();
}

/** Whether all answers of all servers were right: the exit code. */
function judge(results) {
  let wrong = 0;
  let all = 0;
  for (const result of results) {
    for (const complaint of result.complaints) console.error(`${result.name}: ${complaint}`);
    wrong += result.wrong;
    all += result.all;
  }
  const count = all.toLocaleString('en');
  console.log(
    wrong === 0 ? `all ${count} answers are right` : `${wrong} of ${count} are wrong or missing`,
  );
  return wrong === 0 ? 0 : 1;
}

function describeLoad({ connections, slow, size: bytes }) {
  const count = connections.toLocaleString('en');
  const beside = slow > 0 ? `, beside ${slow.toLocaleString('en')} of 10 bytes a second` : '';
  return `${count} connections send documents of ${(bytes / MiB).toPrecision(3)} MiB${beside}`;
}

/** Both servers, one after the other. */
async function compare(settings, servers) {
  console.log(describeLoad(settings));
  const results = [];
  for (const server of servers) results.push(await measure(server, settings));
  printComparison(results);
  return judge(results);
}

/** Ours, with its stages on view. */
async function watchOurs(settings, { name, program, options }) {
  const server = await startServer({ program, options: [...options, '--inspect=0'] });
  const url = /(http:\S+)/.exec(await server.line())[1];
  console.log(`${server.ready}\n${describeLoad(settings)}\nthe same in a browser: ${url}\n`);
  let footer = '';
  const began = performance.now();
  const view = watch(url, { interval: 500, footer: () => footer });
  try {
    const progress = (now) => (footer = progressText((performance.now() - began) / 1000, now));
    const work = { ...workOf(settings), port: server.port };
    const result = await sendDocuments(work, { progress });
    view.stop();
    await server.stop();
    return judge([{ name, ...result }]);
  } finally {
    view.stop();
  }
}

function serversOf(settings, spool) {
  const { driver, threads, processes, answer, native } = settings;
  const common = [`--spool=${spool}`, '--max=256MiB', `--answer=${answer}`];
  const ours = [...common, `--threads=${threads}`, `--native=${native ? 'on' : 'off'}`];
  ours.push(`--spool-threads=${settings['spool-threads']}`);
  if (driver !== undefined) ours.push(`--driver=${driver}`);
  return [
    { name: 'completion-port', program: 'spool-server.mjs', options: ours },
    {
      name: 'node:net',
      program: 'spool-server-net.mjs',
      options: [...common, `--threads=${processes}`],
    },
  ];
}

async function main() {
  const cpus = String(os.availableParallelism());
  const settings = readArguments('start', {
    usage: '[options]',
    about:
      'Sends documents to the spool server and to the same on node:net, checks the answers, and\n' +
      'compares.',
    options: {
      watch: flag('show the stages of the spool server at work, and nothing else'),
      connections: option('N', '1000', 'clients that send one after another', integer(1, 5000)),
      slow: option('N', '5000', 'clients that send ten bytes a second', integer(0, 10_000)),
      size: option('SIZE', '1MiB', 'of a document', size),
      seconds: option(
        'N',
        undefined,
        'for each server (default: 5; --watch: 60)',
        integer(1, A_DAY),
      ),
      documents: option('N', undefined, 'how many to send instead', integer(1, 1e9)),
      answer: spoolOptions.answer,
      'spool-threads': option('N', '2', 'threads of the first stage', integer(1, 64)),
      threads: option('N', '5', 'threads of the second stage', integer(1, 64)),
      processes: option('N', cpus, 'processes of the server on node:net', integer(1, 64)),
      native: nativeOption,
      ...driverOption,
    },
  });
  const { documents } = settings;
  settings.seconds ??= documents === undefined ? (settings.watch ? 60 : 5) : A_DAY;
  const interrupted = untilSignal().then(() => 130); // from here on there is something to clean up
  const spool = await fs.mkdtemp(path.join(os.tmpdir(), 'completion-port-'));
  const servers = serversOf(settings, spool);
  try {
    const tour = settings.watch ? watchOurs(settings, servers[0]) : compare(settings, servers);
    process.exitCode = await Promise.race([tour, interrupted]);
  } finally {
    killAll();
    // Spooled files have no names: not even a server that was killed leaves any.
    await fs.rmdir(spool);
  }
  // What was interrupted would still wait for its processes.
  if (process.exitCode === 130) process.exit();
}

await runProgram('start', main);
