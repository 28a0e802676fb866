/**
 * Lines over TCP into one log, each on the device (fdatasync) before it is answered; one such call
 * serves all lines that have come meanwhile.
 */
import fs from 'node:fs';
import { script } from './support/children.mjs';
import { scratchFile } from './support/data.mjs';
import { measureIngest } from './support/load.mjs';

const ours = 'ours, io_uring, frames';
const rows = [
  { name: '1 connection, 10,000 lines ahead', connections: 1, ahead: 10_000 },
  { name: '50 connections, 200 lines ahead', connections: 50, ahead: 200 },
];

export default {
  name: 'ingest',
  title: 'Lines of 100 bytes, durable',
  scriptsOnly: true,
  metrics: ['rate', 'cpu', 'p50', 'p99'],
  picture: 'cpu',
  unit: 'CPU µs per line',
  rows,
  contestants: {
    [ours]: { style: 'frames', driver: 'io_uring' },
    'ours, epoll, frames': { style: 'frames', driver: 'epoll' },
    'ours, io_uring, await': { style: 'await', driver: 'io_uring' },
    'node:net': { style: 'net' },
  },
  targets: [
    { metric: 'rate', subject: ours, against: 'node:net', atLeast: 1 },
    { metric: 'cpu', subject: ours, against: 'node:net', atMost: 1 },
  ],
  async measure(options, { connections, ahead }, times) {
    const file = scratchFile('ingest');
    try {
      const server = script('ingest-server.mjs', { ...options, file });
      return await measureIngest(server, { connections, ahead }, times);
    } finally {
      fs.rmSync(file, { force: true });
    }
  },
};
