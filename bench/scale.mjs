/**
 * What more threads bring, each on a CPU of its own: 1, 2, 4, 8 and 16, as far as there are CPUs.
 */
import { allowedCpus, shares } from './support/affinity.mjs';
import { NotMeasured, run, script } from './support/children.mjs';
import { measureShared } from './support/load.mjs';

const THREADS = [1, 2, 4, 8, 16];
const KEYS = 64;

const sharedRing = 'ours, io_uring, one port';
const cluster = 'node:cluster';
const drivers = ['io_uring', 'epoll'];

/** The programs, by the number of threads. */
const servers = Object.fromEntries([
  ...[
    ['one port', 'shared'],
    ['a port each', 'own'],
    ['a stage', 'pipeline'],
  ].flatMap(([title, style]) =>
    drivers.map((driver) => [
      `ours, ${driver}, ${title}`,
      ({ threads }) => script('scale-echo.mjs', { driver, style, threads }),
    ]),
  ),
  [cluster, ({ threads }) => script('scale-cluster.mjs', { threads })],
]);

const exchanges = {
  messages: (driver, { threads, keys }, times) =>
    script('scale-messages.mjs', { driver, threads, keys, ...times }),
  // So many threads in both stages together.
  'hand-offs': (driver, { threads }, times) =>
    script('stages-hand-off.mjs', { driver, threads: threads / 2, keys: KEYS, ...times }),
};

/** `connections`: of all clients together, the same for each number of threads. */
const works = [
  { series: 'echo of 64 bytes, 400 connections', server: true, connections: 400 },
  { series: 'accepts, 64 at a time', server: true, connections: 64, accepts: true },
  {
    series: 'messages to random keys of 1,024',
    work: 'messages',
    keys: 'random',
  },
  { series: 'messages to their own keys', work: 'messages', keys: 'own' },
  { series: 'hand-offs between two stages', work: 'hand-offs', least: 2 },
];

function measureServer(server, row, { most, ...times }) {
  const connections = Math.min(row.connections, most);
  return measureShared(
    server(row),
    { connections, accepts: row.accepts },
    shares(row.threads),
    times,
  );
}

function measureExchange(driver, row, { warmUp, seconds }) {
  const program = exchanges[row.work](driver, row, { warmUp, seconds });
  return run(program, { role: shares(row.threads).server });
}

export default {
  name: 'scale',
  title: 'More threads',
  metrics: ['rate', 'p99', 'cpu'],
  picture: 'rate',
  unit: 'per second, by threads',
  rows: works.flatMap((work) =>
    THREADS.filter((threads) => threads >= (work.least ?? 1)).map((threads) => ({
      ...work,
      threads,
      name: `${work.series}, ${threads} ${threads === 1 ? 'thread' : 'threads'}`,
    })),
  ),
  contestants: {
    ...Object.fromEntries(
      Object.entries(servers).map(([name, server]) => [
        name,
        {
          only: (row) => row.server === true,
          measure: (row, times) => measureServer(server, row, times),
        },
      ]),
    ),
    ...Object.fromEntries(
      drivers.map((driver) => [
        `ours, ${driver}`,
        {
          only: (row) => !row.server,
          measure: (row, times) => measureExchange(driver, row, times),
        },
      ]),
    ),
  },
  /** The rest of it takes long. */
  smoke: (row) => row.threads <= 2,
  targets: [
    {
      ...{ metric: 'rate', subject: sharedRing, against: cluster, atLeast: 1 },
      only: (row) => row.server === true,
    },
  ],
  measure(contestant, row, times) {
    const { threads } = row;
    if (threads <= allowedCpus.length) return contestant.measure(row, times);
    throw new NotMeasured(`${threads} threads want ${threads} CPUs`);
  },
};
