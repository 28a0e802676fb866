/**
 * The spool server on node:net, to compare with: the same protocol and options as spool-server.mjs.
 * One thread serves all connections; with --threads there are so many processes (node:cluster).
 */
import cluster from 'node:cluster';
import { once } from 'node:events';
import net from 'node:net';
import { integer, option, readArguments } from './support/arguments.mjs';
import { Conversation } from './support/net-conversation.mjs';
import { Store } from './support/net-documents.mjs';
import { runProgram, untilSignal } from './support/program.mjs';
import { announce } from './support/server.mjs';
import { spoolOptions } from './support/spool-options.mjs';

/** What documents may take of memory in all; beyond it even short ones go to files. */
const MEMORY_LIMIT = 2 ** 30;

const names = ['connections', 'documents', 'failures', 'bytes', 'wakeUps'];

function makeCounters() {
  return Object.fromEntries(names.map((name) => [name, 0]));
}

/** Serves in this process: resolves when it listens. */
function listen(settings, counters) {
  const { host, port, threads, memory, spool } = settings;
  const store = new Store({ directory: spool, memory, limit: MEMORY_LIMIT / threads });
  const options = { allowHalfOpen: true, noDelay: true };
  const server = net.createServer(
    options,
    (socket) => new Conversation(socket, store, { ...settings, counters }),
  );
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen({ host, port, backlog: 4096 }, () => resolve(server.address()));
  });
}

function numbers(counters) {
  const { user, system } = process.cpuUsage();
  return { ...counters, user, system, residentBytes: process.memoryUsage.rss() };
}

function printStats(threads, all) {
  const sum = (name) => all.reduce((total, one) => total + one[name], 0);
  const counted = Object.fromEntries(names.map((name) => [name, sum(name)]));
  const cpu = { user: sum('user') / 1e6, system: sum('system') / 1e6 };
  const stats = { driver: 'net', threads, ...counted, cpu, residentBytes: sum('residentBytes') };
  console.log(JSON.stringify(stats));
}

/** All connections in this process. */
async function serveAlone(settings) {
  const counters = makeCounters();
  const report = () => settings.stats && printStats(1, [numbers(counters)]);
  process.on('SIGUSR2', report);
  const address = await listen(settings, counters);
  const signalled = untilSignal();
  announce(address, 'net', 1);
  await signalled;
  report();
}

/** Whether the primary still hears it is its business: it may have ended just now. */
function tellPrimary(message) {
  process.send(message, () => undefined);
}

/** One of the processes of a cluster. It says where it listens, and answers with its numbers. */
async function serveInCluster() {
  process.on('disconnect', () => process.exit()); // the primary is gone
  for (const signal of ['SIGINT', 'SIGTERM', 'SIGUSR2']) process.on(signal, () => undefined);
  const settings = JSON.parse(process.env.SPOOL_SERVER_SETTINGS);
  const counters = makeCounters();
  process.on('message', () => tellPrimary({ numbers: numbers(counters) }));
  try {
    tellPrimary({ address: await listen(settings, counters) });
  } catch ({ code, message }) {
    tellPrimary({ error: { code, message } });
  }
}

function answerOf(worker, question) {
  return new Promise((resolve, reject) => {
    worker.once('message', ({ error, ...answer }) =>
      error === undefined ? resolve(answer) : reject(Object.assign(new Error(), error)),
    );
    if (question !== undefined) worker.send(question);
  });
}

/** At once: one that is still starting would complain, on the same stderr, of a primary that is gone. */
async function kill(worker) {
  if (worker.isDead()) return;
  const exited = once(worker, 'exit');
  worker.process.kill('SIGKILL');
  await exited;
}

async function serveWithCluster(settings) {
  const { threads } = settings;
  const environment = { SPOOL_SERVER_SETTINGS: JSON.stringify(settings) };
  const workers = Array.from({ length: threads }, () => cluster.fork(environment));
  // A mistake in one of them is one of the server's.
  let ending = false;
  cluster.on('exit', () => ending || process.exit(1));
  const answers = Promise.all(workers.map((worker) => answerOf(worker)));
  const [{ address }] = await answers.catch(async (error) => {
    ending = true;
    await Promise.all(workers.map(kill));
    throw error;
  });
  const report = async () => {
    if (!settings.stats) return;
    const all = await Promise.all(workers.map((worker) => answerOf(worker, 'numbers')));
    printStats(threads, [...all.map(({ numbers }) => numbers), numbers(makeCounters())]);
  };
  process.on('SIGUSR2', report);
  const signalled = untilSignal();
  announce(address, 'net', threads);
  await signalled;
  ending = true;
  await report();
}

async function main() {
  const settings = readArguments('spool-server-net', {
    usage: '[options]',
    about: 'The spool server on node:net.',
    options: {
      ...spoolOptions,
      host: option('HOST', '127.0.0.1', 'address to listen on'),
      port: option('PORT', '7003', 'port to listen on, 0: any that is free', integer(0, 65535)),
      threads: option('N', '1', 'processes; 1: this one alone', integer(1, 64)),
    },
  });
  await (settings.threads === 1 ? serveAlone(settings) : serveWithCluster(settings));
  process.exit(); // connections and all
}

if (cluster.isPrimary) await runProgram('spool-server-net', main);
else await serveInCluster();
