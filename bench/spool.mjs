/**
 * Documents over many connections, alone and beside slow ones: the spool server of the examples, and
 * the same on node:net.
 */
import { affinity } from './support/affinity.mjs';
import { measureSpool } from './support/spool.mjs';

const ours = 'ours, io_uring';
const slow = 5000;
const row = (answer) => ({
  name: `1,000 connections × 1 MiB, beside ${slow.toLocaleString('en')} slow ones; answer: ${answer}`,
  ...{ answer, slow, connections: 1000, size: 2 ** 20 },
});
const server = (driver, ...options) => ({
  program: 'spool-server.mjs',
  driver,
  options: [`--driver=${driver}`, ...options],
});

export default {
  name: 'spool',
  title: 'Document spool',
  scriptsOnly: true,
  metrics: ['rate', 'cpu', 'wakeUps', 'p50', 'p99', 'slowEffect', 'resident'],
  picture: 'cpu',
  unit: 'CPU µs per document',
  // The same work on the contents costs both the same: it is in one row, and left out in the other.
  rows: [row('length'), row('full')],
  smoke: ({ answer }) => answer === 'full',
  contestants: {
    [ours]: { server: server('io_uring') },
    'ours, epoll': { server: server('epoll') },
    'ours, spooling in JavaScript': { server: server('io_uring', '--native=off') },
    'node:net': { server: { program: 'spool-server-net.mjs', options: [] } },
  },
  targets: [
    { metric: 'cpu', subject: ours, against: 'node:net', atMost: 0.4 },
    { metric: 'wakeUps', subject: ours, atMost: 1.01 },
    { metric: 'slowEffect', subject: ours, atMost: 1.1 },
  ],
  measure: ({ server: { program, driver, options } }, work, times) => {
    const processes = affinity.server === undefined ? [] : ['--threads=1'];
    const own = program.endsWith('-net.mjs') ? processes : [];
    return measureSpool({ program, driver, options: [...options, ...own] }, work, times);
  },
};
