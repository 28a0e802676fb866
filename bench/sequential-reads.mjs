/**
 * A file from beginning to end, from the page cache; and as much of /dev/zero.
 */
import { run, script } from './support/children.mjs';
import { runDd } from './support/dd.mjs';

const CHUNK = 1 << 20;
/** Two chunks stay in the CPU's cache, which more of them would not. */
const DEPTH = 2;
const MiB = 1 << 20;

const inNode =
  (name, options) =>
  async (row, { file, fileSize, warmUp, seconds }) => {
    const times = { warmUp, seconds };
    const where = { file: row.device ?? file, zeros: row.device !== undefined, bytes: fileSize };
    const { rate, cpu, systemCalls } = await run(script(name, { ...options, ...where, ...times }));
    const mebibytes = fileSize / MiB;
    return {
      throughput: rate * fileSize,
      cpuPerMiB: cpu / mebibytes,
      systemCalls: systemCalls && systemCalls / mebibytes,
    };
  };

const ours = 'ours, file.chunks()';
const stream = 'createReadStream';

export default {
  name: 'sequential-reads',
  title: 'Sequential reads',
  metrics: ['throughput', 'cpuPerMiB', 'systemCalls'],
  picture: 'throughput',
  unit: 'GB per second',
  needsFile: true,
  rows: [{ name: 'a file of 1 GiB' }, { name: '/dev/zero', device: '/dev/zero' }],
  contestants: {
    [ours]: {
      read: inNode('sequential-ours.mjs', { driver: 'io_uring', size: CHUNK, depth: DEPTH }),
    },
    [stream]: { read: inNode('sequential-fs.mjs', { style: 'events' }) },
    'createReadStream, 1 MiB': {
      read: inNode('sequential-fs.mjs', { style: 'events', size: CHUNK }),
    },
    'fs.promises.readFile': {
      read: inNode('sequential-fs.mjs', { style: 'file' }),
      only: (row) => row.device === undefined,
    },
    dd: { read: (row, times) => runDd(row.device ?? times.file, CHUNK, times) },
  },
  targets: [
    { metric: 'throughput', subject: ours, against: stream, atLeast: 5 },
    { metric: 'throughput', subject: ours, against: 'dd', atLeast: 1 },
  ],
  measure: ({ read }, row, times) => read(row, times),
};
