/**
 * Writes that are on the device (fdatasync) before the next one begins.
 */
import fs from 'node:fs';
import { run, script } from './support/children.mjs';
import { scratchFile } from './support/data.mjs';

const ours = 'ours, write with sync';

export default {
  name: 'durable-writes',
  title: 'Writes, each brought to the device',
  metrics: ['rate', 'p50', 'p99', 'p999', 'cpu', 'systemCalls'],
  picture: 'rate',
  unit: 'writes per second',
  rows: [
    { name: '4 KiB', size: 4096 },
    { name: '1 MiB', size: 1 << 20 },
  ],
  contestants: {
    [ours]: { name: 'writes-ours.mjs', options: { driver: 'io_uring' } },
    'ours, epoll, write with sync': { name: 'writes-ours.mjs', options: { driver: 'epoll' } },
    'fs.promises, write and datasync': { name: 'writes-fs.mjs' },
  },
  targets: [],
  async measure({ name, options }, { size }, { warmUp, seconds }) {
    const file = scratchFile('writes');
    try {
      return await run(script(name, { ...options, file, size, warmUp, seconds }));
    } finally {
      fs.rmSync(file, { force: true });
    }
  },
};
