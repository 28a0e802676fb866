/**
 * http servers of node:http behind one listening socket: threads, processes of node:cluster, and one
 * thread alone.
 */
import { allowedCpus } from './support/affinity.mjs';
import { run, script, start } from './support/children.mjs';
import { cpuTime, residentBytes } from './support/processes.mjs';

const FEW = 2;
const MANY = 8;
const threads = 'ours, the main thread and workers';
const workers = 'ours, workers';
const cluster = 'node:cluster';
const works = ({ spread }) => !spread;

/** On all CPUs: what is compared is the same work in one process and in several. */
const role = allowedCpus;

/** What `measure` resolves to, of a server that runs meanwhile. */
async function besideServer({ style }, { servers = FEW }, measure) {
  const server = await start(script('serve-http.mjs', { style, servers }), role);
  try {
    const measured = await measure(server);
    await server.stop();
    return measured;
  } finally {
    server.kill();
  }
}

const measureSpread = (contestant, row, { most }) =>
  besideServer(contestant, row, async ({ port }) => {
    // Another round, others that go.
    const seed = 1 + Math.floor(Math.random() * 2 ** 30);
    const connections = Math.min(row.connections, most);
    const options = { port, connections, servers: row.servers, seed };
    const { spread } = await run(script('serve-spread.mjs', options), { role });
    return { spread };
  });

const measureWork = (contestant, row, { warmUp, seconds, most }) =>
  besideServer(contestant, row, async ({ port, pids }) => {
    const connections = Math.min(row.connections, most);
    const options = { port, connections, fresh: row.fresh, warmUp, seconds };
    const sum = (of) => pids.reduce((total, pid) => total + of(pid), 0);
    const before = sum(cpuTime);
    const { rate, p50, p99, answers } = await run(script('serve-load.mjs', options), { role });
    return { rate, p50, p99, cpu: (sum(cpuTime) - before) / answers, resident: sum(residentBytes) };
  });

export default {
  name: 'serve',
  title: 'http, several servers behind one listener',
  metrics: ['rate', 'p50', 'p99', 'cpu', 'resident', 'spread'],
  picture: 'cpu',
  unit: 'CPU µs per request',
  scriptsOnly: true,
  rows: [
    { name: `50 connections that stay, ${FEW} servers`, connections: 50 },
    {
      name: `a connection for each request, 16 at a time, ${FEW} servers`,
      ...{ connections: 16, fresh: true },
    },
    { name: `50 connections that stay, ${MANY} servers`, connections: 50, servers: MANY },
    {
      name: `200 connections that stay, half of them come anew, ${MANY} servers`,
      ...{ connections: 200, servers: MANY, spread: true },
    },
  ],
  smoke: () => true,
  contestants: {
    [threads]: { style: 'threads' },
    [workers]: { style: 'workers' },
    [cluster]: { style: 'cluster' },
    'node:http, one thread': { style: 'alone', only: works },
  },
  targets: [
    { metric: 'cpu', subject: threads, against: cluster, atMost: 1.05, only: works },
    { metric: 'resident', subject: threads, against: cluster, atMost: 0.5, only: works },
    { metric: 'spread', subject: threads, atMost: 1.2, only: (row) => !works(row) },
  ],
  measure: (contestant, row, times) =>
    (row.spread ? measureSpread : measureWork)(contestant, row, times),
};
