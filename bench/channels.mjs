/**
 * Values from one thread to another through a bounded channel.
 */
import { run, script } from './support/children.mjs';

const sizes = { numbers: 0, '64 bytes': 64, '64 KiB': 65_536 };

const shared = (style, driver) => (row, times) =>
  run(script('channels-shared.mjs', { style, driver, bytes: row.bytes, ...times }));

const ours = 'SharedChannel, micro-threads';
const channel = 'MessageChannel';

export default {
  name: 'channels',
  title: 'Values from one thread to another',
  metrics: ['rate', 'cpu'],
  picture: 'cpu',
  unit: 'CPU µs per value',
  scriptsOnly: true,
  rows: Object.entries(sizes).map(([name, bytes]) => ({ name, bytes })),
  smoke: () => true,
  contestants: {
    [ours]: { exchange: shared('micro', 'io_uring') },
    'SharedChannel, await': { exchange: shared('await', 'io_uring') },
    [channel]: {
      exchange: (row, times) => run(script('channels-message.mjs', { bytes: row.bytes, ...times })),
    },
  },
  targets: [{ metric: 'cpu', subject: ours, against: channel, atMost: 1 }],
  measure: ({ exchange }, row, { warmUp, seconds }) => exchange(row, { warmUp, seconds }),
};
