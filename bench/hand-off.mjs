/**
 * Hand-offs from stage to stage and back, one thread each: of tasks and of live connections; and,
 * for comparison, the same job posted to and fro between two workers.
 */
import { run, script } from './support/children.mjs';

const ours = 'ours, io_uring';
const stages = (driver) => (row, times) =>
  run(script('stages-hand-off.mjs', { driver, sockets: row.sockets, ...of(row, times) }));
const of = ({ keys }, { warmUp, seconds }) => ({ keys, warmUp, seconds });

export default {
  name: 'hand-off',
  title: 'Hand-off between two stages',
  scriptsOnly: true,
  metrics: ['rate', 'cpu'],
  picture: 'cpu',
  unit: 'CPU µs per hand-off',
  rows: [
    { name: '64 tasks', keys: 64, sockets: false },
    { name: '64 connections', keys: 64, sockets: true },
    { name: '1 connection', keys: 1, sockets: true },
  ],
  smoke: ({ sockets, keys }) => !sockets || keys === 1,
  contestants: {
    [ours]: { exchange: stages('io_uring') },
    'ours, epoll': { exchange: stages('epoll') },
    'MessagePort, without a connection': {
      exchange: (row, times) => run(script('hand-off-channel.mjs', of(row, times))),
      only: (row) => !row.sockets || row.keys === 1,
    },
  },
  targets: [{ metric: 'cpu', subject: ours, atMost: 3, only: (row) => row.keys > 1 }],
  measure: ({ exchange }, row, times) => exchange(row, times),
};
