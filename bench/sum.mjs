/**
 * A server that computes: the sum of 1 to n, a connection for each, wherever that is computed.
 */
import { run, script, start } from './support/children.mjs';

const THREADS = 2;
const counts = { '25,000': 25_000, '5,000,000': 5_000_000 };
const clients = [1, 2, 4, 8];

async function measure({ apply }, row, { warmUp, seconds }) {
  const server = await start(script('sum.mjs', { apply, threads: THREADS }));
  try {
    const before = await server.ask('stats');
    const { n, clients } = row;
    const load = script('sum-load.mjs', { port: server.port, n, clients, warmUp, seconds });
    const { rate, p50, p99, answers } = await run(load);
    const after = await server.ask('stats');
    await server.stop();
    return { rate, p50, p99, cpu: (after.cpu - before.cpu) / answers };
  } finally {
    server.kill();
  }
}

export default {
  name: 'sum',
  title: 'Sums of 1 to n over TCP, two threads where there are any',
  metrics: ['rate', 'p50', 'p99', 'cpu'],
  picture: 'rate',
  unit: 'answers per second',
  scriptsOnly: true,
  rows: Object.entries(counts).flatMap(([text, n]) =>
    clients.map((count) => ({ name: `n = ${text}, ${count} clients`, n, clients: count })),
  ),
  smoke: (row) => row.clients === 8 && row.n < 1e6,
  contestants: {
    'ours, inline': { apply: 'inline' },
    'ours, exclusive': { apply: 'exclusive' },
    'ours, pool': { apply: 'pool' },
    'ours, bullmq': { apply: 'bullmq' },
    'node:net and piscina': { apply: 'piscina' },
  },
  targets: [],
  measure,
};
