/**
 * Servers of Node.js's kind, streams and http, over a port and over Node's own sockets.
 */
import { script } from './support/children.mjs';
import { dataFile } from './support/data.mjs';
import { measureRequests } from './support/load.mjs';

const uring = 'over a port, io_uring';
const epoll = 'over a port, epoll';
const own = 'node:net, node:http';
const server = (options) => (kind) => script('node-server.mjs', { ...options, ...kind });
const rowsOf =
  (...kinds) =>
  (row) =>
    kinds.includes(row.kind);

export default {
  name: 'node',
  title: 'Streams and http over a port',
  scriptsOnly: true,
  metrics: ['rate', 'cpu'],
  picture: 'cpu',
  unit: 'CPU µs per message',
  rows: [
    { name: 'echo of 64 bytes, 50 connections', kind: 'echo', connections: 50 },
    { name: 'answers of 24 MiB, 1 connection', kind: 'long', connections: 1 },
    { name: 'http, 100 bytes, 50 connections', kind: 'http', connections: 50 },
    { name: 'http, a file of 10 MiB', kind: 'file', connections: 4 },
  ],
  smoke: () => true,
  contestants: {
    [uring]: { server: server({ over: true, driver: 'io_uring' }) },
    [epoll]: { server: server({ over: true, driver: 'epoll' }) },
    [own]: { server: server({}) },
  },
  targets: [
    { metric: 'cpu', subject: uring, against: own, atMost: 1, only: rowsOf('echo', 'http') },
    { metric: 'cpu', subject: epoll, against: own, atMost: 1, only: rowsOf('echo', 'http') },
    { metric: 'cpu', subject: uring, against: own, atMost: 0.6, only: rowsOf('file') },
  ],
  measure({ server }, { kind, connections }, times) {
    const file = kind === 'file' ? dataFile(10 << 20) : undefined;
    return measureRequests(server({ kind, file }), { kind, connections }, times);
  },
};
