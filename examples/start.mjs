/**
 * A tour: starts the spool server, sends it real files over 200 connections, checks each answer,
 * and shows what that took. What `npm start` runs.
 *
 *     npm start -- --driver epoll --threads 2
 */
import { fork, spawn } from 'node:child_process';
import fs from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';
import { Table } from 'console-table-printer';
import { driverOption, integer, option, readArguments } from './support/arguments.mjs';
import { runProgram, untilSignal } from './support/program.mjs';

const here = path.dirname(fileURLToPath(import.meta.url));
const MiB = 2 ** 20;

function failure(message) {
  return Object.assign(new Error(message), { code: 'ERR_FAILED' });
}

/** Resolves to the exit code. */
function exitOf(child) {
  return new Promise((resolve) => child.once('exit', (code, signal) => resolve(code ?? signal)));
}

/** Starts the spool server, which tells where it listens and, at its end, its numbers. */
function startServer({ driver, threads }, spool) {
  const options = ['--port=0', `--threads=${threads}`, `--spool=${spool}`, '--max=256MiB'];
  if (driver !== undefined) options.push(`--driver=${driver}`);
  const child = spawn(
    process.execPath,
    [path.join(here, 'spool-server.mjs'), '--stats', ...options],
    // Not in the terminal's group: Ctrl-C is ours, and the server ends when we say so.
    { stdio: ['ignore', 'pipe', 'inherit'], detached: true },
  );
  const exited = exitOf(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const started = async () => {
    const { value: line } = await lines.next();
    if (line === undefined) throw failure(`the server did not start (${await exited})`);
    return { line, port: Number(/:(\d+) /.exec(line)[1]) };
  };
  return {
    ready: started(),
    /** Ends it; resolves to its numbers. */
    async stop() {
      child.kill('SIGTERM');
      const { value: line } = await lines.next();
      const code = await exited;
      if (code !== 0 || line === undefined) throw failure(`the server ended with ${code}`);
      return JSON.parse(line);
    },
    kill: () => child.kill('SIGKILL'),
  };
}

/** The process that sends the documents. */
function startLoad() {
  const child = fork(path.join(here, 'support', 'load.mjs'), [path.dirname(here)]);
  const exited = exitOf(child);
  const handlers = new Map();
  child.on('message', (message) => {
    for (const [name, value] of Object.entries(message)) handlers.get(name)?.(value);
  });
  const answer = (name) =>
    new Promise((resolve, reject) => {
      handlers.set(name, resolve);
      void exited.then((code) => reject(failure(`the load generator ended with ${code}`)));
    });
  return {
    ready: answer('ready'),
    run(work, onProgress) {
      handlers.set('progress', onProgress);
      child.send(work);
      return answer('result');
    },
    kill: () => child.kill('SIGKILL'),
  };
}

/** One line that is written over on a terminal, and a line every few seconds elsewhere. */
function progressPrinter() {
  const { stdout } = process;
  const began = performance.now();
  let printed = 0;
  return {
    show({ documents, bytes, wrong }) {
      const seconds = (performance.now() - began) / 1000;
      const rate = (bytes / MiB / seconds).toFixed(0);
      const text =
        `${seconds.toFixed(0).padStart(3)} s  ${documents.toLocaleString('en')} documents  ` +
        `${(bytes / MiB).toFixed(0)} MiB  ${rate} MiB/s` +
        (wrong > 0 ? `  ${wrong} wrong` : '');
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

function printResult({ small, large, seconds }, server) {
  const shouldDisableColors = !process.stdout.isTTY || Boolean(process.env.NO_COLOR);
  const documents = new Table({
    shouldDisableColors,
    columns: [
      { name: 'kind', alignment: 'left' },
      ...['documents', 'MiB', 'MiB/s', 'p50 ms', 'p99 ms', 'max ms'].map((name) => ({
        name,
        alignment: 'right',
      })),
    ],
  });
  for (const [kind, tally] of [
    ['in memory', small],
    ['spooled to a file', large],
  ]) {
    documents.addRow({
      kind,
      documents: tally.documents.toLocaleString('en'),
      MiB: (tally.bytes / MiB).toFixed(0),
      'MiB/s': (tally.bytes / MiB / seconds).toFixed(0),
      'p50 ms': tally.p50.toFixed(1),
      'p99 ms': tally.p99.toFixed(1),
      'max ms': tally.max.toFixed(1),
    });
  }
  documents.printTable();

  const total = small.documents + large.documents;
  const { user, system } = server.cpu;
  const each = (number) => (number / Math.max(1, total)).toFixed(2);
  const table = new Table({
    shouldDisableColors,
    columns: [
      { name: 'server', alignment: 'left' },
      { name: 'in all', alignment: 'right' },
      { name: 'for a document', alignment: 'right' },
    ],
  });
  const row = (server, all, document) =>
    table.addRow({ server, 'in all': all, 'for a document': document });
  row('CPU time, user', `${user.toFixed(2)} s`, `${each(user * 1e6)} µs`);
  row('CPU time, system', `${system.toFixed(2)} s`, `${each(system * 1e6)} µs`);
  const { batches, systemCalls, completed } = server.port;
  for (const [name, number] of [
    ['JavaScript wake-ups', batches],
    ['operations', completed],
    ['system calls', systemCalls],
  ]) {
    row(name, number.toLocaleString('en'), each(number));
  }
  table.printTable();
}

/** Sends the documents and judges: the exit code. */
async function tour(settings, server, load) {
  const [{ line, port }, { small, large }] = await Promise.all([server.ready, load.ready]);
  console.log(line);
  console.log(
    `${settings.connections} connections send ${small} files and ${large} large ones, again and again`,
  );
  const progress = progressPrinter();
  const { seconds, documents, connections } = settings;
  const work = { port, connections, documents, seconds };
  const result = await load.run(work, progress.show);
  progress.end();
  const numbers = await server.stop();
  printResult(result, numbers);
  for (const complaint of result.complaints) console.error(complaint);
  const answers = result.small.documents + result.large.documents;
  console.log(
    result.wrong === 0
      ? `all ${answers.toLocaleString('en')} answers are right`
      : `${result.wrong} of ${answers} answers are wrong or missing`,
  );
  return result.wrong === 0 ? 0 : 1;
}

async function main() {
  const settings = readArguments('start', {
    usage: '[options]',
    about: 'Starts the spool server, sends it files over many connections, and checks the answers.',
    options: {
      threads: option('N', '2', 'worker threads of the server', integer(1, 64)),
      seconds: option('N', undefined, 'how long to send (default: 10)', integer(1, 86400)),
      documents: option('N', undefined, 'how many to send instead', integer(1, 1e9)),
      connections: option('N', '200', 'clients at a time', integer(1, 5000)),
      ...driverOption,
    },
  });
  settings.seconds ??= settings.documents === undefined ? 10 : 86400;
  const interrupted = untilSignal().then(() => 130); // from here on there is something to clean up
  const spool = await fs.mkdtemp(path.join(os.tmpdir(), 'completion-port-'));
  const load = startLoad();
  const server = startServer(settings, spool);
  try {
    process.exitCode = await Promise.race([tour(settings, server, load), interrupted]);
  } finally {
    load.kill();
    server.kill();
    // Spooled files have no names: not even a server that was killed leaves any.
    await fs.rmdir(spool);
  }
  // What was interrupted would still wait for its processes.
  if (process.exitCode === 130) process.exit();
}

await runProgram('start', main);
