/**
 * A batch of packets run as they came, and grouped by the state of their connections: with handlers
 * that need nothing but the record, and with handlers that each work on memory of their own.
 */
import { run, script } from './support/children.mjs';

const KiB = 1024;
const arrival = "ours, order: 'arrival'";
const state = "ours, order: 'state'";

const ordered =
  (order) =>
  ({ table }, { warmUp, seconds }) =>
    run(script('stages-order.mjs', { order, table, warmUp, seconds }));

export default {
  name: 'order',
  title: 'A batch grouped by state: 32 states, 1,000 tasks, one thread',
  scriptsOnly: true,
  metrics: ['rate', 'cpu'],
  picture: 'cpu',
  unit: 'CPU µs per packet',
  rows: [
    { name: 'small handlers', table: 0 },
    { name: '32 KiB for each state', table: 32 * KiB },
    { name: '256 KiB for each state', table: 256 * KiB },
  ],
  contestants: {
    [arrival]: { exchange: ordered('arrival') },
    [state]: { exchange: ordered('state') },
  },
  // A verdict, not a goal: which of them is the default follows from it.
  targets: [],
  measure: ({ exchange }, row, times) => exchange(row, times),
};
