/**
 * Files over http, on connections that stay open: examples/programs/file-server.mjs beside nginx and
 * node:http.
 */
import { basename } from 'node:path';
import { script } from './support/children.mjs';
import { dataFile } from './support/data.mjs';
import { measureRequests } from './support/load.mjs';

const KiB = 1024;
const uring = 'file-server, io_uring';
const epoll = 'file-server, epoll';
const nginx = 'nginx';
const own = 'node:http, createReadStream';
const short = ({ size }) => size < 50 * KiB;
const long = (row) => !short(row);
const server = (kind, options) => (file) => script('files-http.mjs', { kind, file, ...options });

export default {
  name: 'files',
  title: 'Files over http',
  scriptsOnly: true,
  metrics: ['rate', 'cpu'],
  picture: 'cpu',
  unit: 'CPU µs per answer',
  rows: [
    { name: '4 KiB, 50 connections', size: 4 * KiB, connections: 50 },
    { name: '100 KiB, 50 connections', size: 100 * KiB, connections: 50 },
    { name: '1 MiB, 8 connections', size: 1024 * KiB, connections: 8 },
  ],
  contestants: {
    [uring]: { server: server('ours', { driver: 'io_uring' }) },
    [epoll]: { server: server('ours', { driver: 'epoll' }) },
    [nginx]: { server: server('nginx') },
    [own]: { server: server('node') },
  },
  targets: [uring, epoll].flatMap((subject) => [
    { metric: 'cpu', subject, against: nginx, atMost: 1.5, only: short },
    { metric: 'cpu', subject, against: nginx, atMost: 1, only: long },
    { metric: 'cpu', subject, against: own, atMost: 0.5 },
  ]),
  measure({ server }, { size, connections }, times) {
    const file = dataFile(size);
    const load = { kind: 'http', connections, path: `/${basename(file)}` };
    return measureRequests(server(file), load, times);
  },
};
