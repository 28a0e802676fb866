/**
 * Reads of 4 KiB from the page cache, each awaited by a loop of its own.
 */
import { run, script } from './support/children.mjs';

const ours = 'ours, await';
const driver = 'io_uring';

export default {
  name: 'awaited-reads',
  title: 'Awaited reads of 4 KiB from the page cache',
  metrics: ['rate', 'cpu', 'systemCalls'],
  picture: 'rate',
  unit: 'reads per second',
  needsFile: true,
  rows: [
    { name: '1 loop', depth: 1 },
    { name: '32 loops', depth: 32 },
  ],
  contestants: {
    [ours]: { name: 'reads-ours.mjs', options: { driver, style: 'await' } },
    'fs.promises': { name: 'reads-fs.mjs', options: { style: 'promises' } },
  },
  targets: [{ metric: 'rate', subject: ours, against: 'fs.promises', atLeast: 5 }],
  measure: ({ name, options }, { depth }, { file, warmUp, seconds }) =>
    run(script(name, { ...options, depth, file, warmUp, seconds })),
};
