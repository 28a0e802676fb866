/**
 * Random clients of random stages, for a short time; for a long one:
 * `npm run fuzz:stages -- --documents 1000000`.
 */
import path from 'node:path';
import { expect, test } from 'vitest';
import { driver, ended, newSeed, root, startProcess } from '../support/harness';

test.each(['', 'memory'])(
  'O2, M5: no client of a stage gets a foreign byte, and all memory comes back (COMPLETION_PORT_CHECK=%s)',
  async (check) => {
    const program = path.join(root, 'test/soak/fuzz-stages.mjs');
    const flags = [program, '--documents', '2000', '--seed', String(newSeed('fuzz'))];
    if (driver !== '') flags.push('--driver', driver);
    const run = await ended(startProcess(flags, { env: { COMPLETION_PORT_CHECK: check } }));
    expect([run.code, run.stderr]).toEqual([0, '']);
  },
);
