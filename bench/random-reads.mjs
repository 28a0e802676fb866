/**
 * Random reads of 4 KiB, 128 under way, from the page cache and from the device.
 */
import { native, run, script } from './support/children.mjs';
import { runFio } from './support/fio.mjs';

const DEPTH = 128;
const inNode = (name, options) => (row, times) =>
  run(
    script(name, {
      ...options,
      depth: DEPTH,
      file: times.file,
      direct: row.direct,
      ...span(times),
    }),
  );
const inCpp =
  (engine) =>
  async (row, { file, seconds }) => {
    const result = await run(
      native('reads', { engine, file, depth: DEPTH, direct: row.direct, seconds }),
    );
    return {
      rate: result.operations_per_second,
      cpu: result.cpu_us_per_operation,
      systemCalls: result.system_calls_per_operation,
    };
  };

function span({ warmUp, seconds }) {
  return { warmUp, seconds };
}

const packets = 'ours, packets';

export default {
  name: 'random-reads',
  title: 'Random reads of 4 KiB, 128 under way',
  metrics: ['rate', 'cpu', 'systemCalls'],
  picture: 'rate',
  unit: 'reads per second',
  needsFile: true,
  rows: [
    { name: 'page cache', direct: false },
    { name: 'O_DIRECT', direct: true },
  ],
  smoke: () => true,
  contestants: {
    [packets]: { read: inNode('reads-ours.mjs', { driver: 'io_uring', style: 'packets' }) },
    'ours, await': { read: inNode('reads-ours.mjs', { driver: 'io_uring', style: 'await' }) },
    'ours, epoll, packets': {
      read: inNode('reads-ours.mjs', { driver: 'epoll', style: 'packets' }),
    },
    'fs.promises': { read: inNode('reads-fs.mjs', { style: 'promises' }) },
    'fs.read': { read: inNode('reads-fs.mjs', { style: 'callbacks' }) },
    'C++, io_uring': { read: inCpp('raw') },
    'our core without Node.js': { read: inCpp('core') },
    fio: { read: (row, times) => runFio({ depth: DEPTH, direct: row.direct }, times) },
  },
  targets: [
    {
      ...{ metric: 'rate', subject: packets, against: 'fs.promises', atLeast: 10 },
      only: (row) => !row.direct,
    },
    { metric: 'rate', subject: packets, against: 'fio', atLeast: 0.95 },
  ],
  measure: ({ read }, row, times) => read(row, times),
};
