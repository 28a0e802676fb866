/**
 * A file from the page cache, sent to clients again and again.
 */
import { script } from './support/children.mjs';
import { dataFile } from './support/data.mjs';
import { measureFiles } from './support/load.mjs';

const MiB = 1 << 20;
const ours = (driver, style) => (file) => script('files-ours.mjs', { driver, style, file });
const uring = 'ours, io_uring, sendFile';
const epoll = 'ours, epoll, sendFile';
const uringCopies = 'ours, io_uring, read and send';
const epollCopies = 'ours, epoll, read and send';
const stream = 'createReadStream().pipe(socket)';

export default {
  name: 'send-file',
  title: 'Files sent from the page cache',
  scriptsOnly: true,
  metrics: ['throughput', 'cpuPerMiB', 'systemCalls'],
  picture: 'cpuPerMiB',
  unit: 'CPU µs per MiB',
  rows: [
    { name: '16 KiB', size: 16 * 1024, connections: 4 },
    { name: '1 MiB', size: MiB, connections: 4 },
    { name: '100 MiB', size: 100 * MiB, connections: 4 },
  ],
  contestants: {
    [uring]: { server: ours('io_uring', 'send-file') },
    [epoll]: { server: ours('epoll', 'send-file') },
    [uringCopies]: { server: ours('io_uring', 'read') },
    [epollCopies]: { server: ours('epoll', 'read') },
    [stream]: { server: (file) => script('files-fs.mjs', { file }) },
  },
  targets: [
    { metric: 'cpuPerMiB', subject: uring, against: uringCopies, atMost: 1 },
    { metric: 'cpuPerMiB', subject: epoll, against: epollCopies, atMost: 1 },
    { metric: 'cpuPerMiB', subject: uring, against: stream, atMost: 0.5 },
  ],
  measure({ server }, { size, connections }, times) {
    const sent = Math.min(size, times.fileSize);
    return measureFiles(server(dataFile(sent)), { size: sent, connections }, times);
  },
};
