/**
 * Threads bound to CPUs, and left to the system: two stages with a thread for each CPU hand tasks to
 * and fro, each of which has memory of its own.
 */
import os from 'node:os';
import { run, script } from './support/children.mjs';

const threads = os.availableParallelism();

const pinned =
  (pin) =>
  ({ keys }, { warmUp, seconds }) =>
    run(script('stages-hand-off.mjs', { driver: 'io_uring', keys, threads, pin, warmUp, seconds }));

export default {
  name: 'pin',
  title: `Threads bound to CPUs: two stages, ${threads} threads each`,
  scriptsOnly: true,
  metrics: ['rate', 'cpu'],
  picture: 'cpu',
  unit: 'CPU µs per hand-off',
  rows: [
    { name: '64 tasks', keys: 64 },
    { name: '4,096 tasks', keys: 4096 },
  ],
  contestants: {
    'ours, pin: false': { exchange: pinned(false) },
    'ours, pin: true': { exchange: pinned(true) },
  },
  targets: [],
  measure: ({ exchange }, row, times) => exchange(row, times),
};
