/**
 * A tour: the spool server beside the same on node:net, each with 1,000 connections that send
 * documents and 5,000 slow ones. Finds out what each takes at most, sends both the same number of
 * documents a second, checks each answer, and shows the figures side by side. What `npm start` runs.
 *
 *     npm start -- --driver epoll --seconds 10
 *     npm start -- --watch
 */
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { driverOption, flag, integer, option, readArguments, size } from './support/arguments.mjs';
import { compare } from './support/comparison.mjs';
import { runProgram, untilSignal } from './support/program.mjs';
import { killAll, startLoad, startServer } from './support/spool-measure.mjs';
import { nativeOption, spoolOptions } from './support/spool-options.mjs';
import { watch } from './support/watch.mjs';

const MiB = 2 ** 20;
const A_DAY = 86400;

function seconds(text) {
  const value = Number(text);
  if (value > 0 && value <= A_DAY) return value;
  throw new Error('has to be a number of seconds, at most those of a day');
}

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

function workOf({ connections, slow, size: bytes, answer }) {
  return { connections, slow, bytes, answer };
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

async function compareBoth(settings, servers) {
  console.log(describeLoad(settings));
  let printer;
  const progress = (title) => {
    printer?.end();
    printer = progressPrinter(title);
    return printer.show;
  };
  const results = await compare(servers, workOf(settings), settings, (title) => progress(title));
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
    const load = startLoad();
    await load.connect(name, { ...workOf(settings), port: server.port });
    const { rate, seconds } = settings;
    const result = await load.run(name, { rate, seconds }, { progress });
    view.stop();
    await load.end(name);
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
  const cpus = os.availableParallelism();
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
      rate: option(
        'N',
        undefined,
        'documents a second (default: half of what the slower server\n' +
          '                     takes; --watch: as many as are answered)',
        integer(1, 1e6),
      ),
      seconds: option('N', undefined, 'of each round (default: 2; --watch: 60)', seconds),
      answer: { ...spoolOptions.answer, fallback: 'hash' },
      'spool-threads': option(
        'N',
        String(Math.max(2, cpus >> 2)),
        'threads of the first stage',
        integer(1, 64),
      ),
      threads: option(
        'N',
        String(Math.max(5, cpus)),
        'threads of the second stage',
        integer(1, 64),
      ),
      processes: option('N', String(cpus), 'processes of the server on node:net', integer(1, 64)),
      native: nativeOption,
      ...driverOption,
    },
  });
  settings.seconds ??= settings.watch ? 60 : 2;
  const interrupted = untilSignal().then(() => 130); // from here on there is something to clean up
  const spool = await fs.mkdtemp(path.join(os.tmpdir(), 'completion-port-'));
  const servers = serversOf(settings, spool);
  try {
    const tour = settings.watch ? watchOurs(settings, servers[0]) : compareBoth(settings, servers);
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
