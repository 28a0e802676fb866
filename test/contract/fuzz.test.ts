/** Random programs, for a short time; for a long one: `npm run fuzz -- --operations 1000000`. */
import path from 'node:path';
import { expect, test } from 'vitest';
import { driver, ended, newSeed, root, startProcess } from '../support/harness';

test.each(['', 'memory'])(
  'O2, M2, M5: no program gets or sends a foreign byte (COMPLETION_PORT_CHECK=%s)',
  async (check) => {
    const program = path.join(root, 'test/soak/fuzz.mjs');
    const seed = String(newSeed('fuzz'));
    const flags = [program, '--operations', '15000', '--seed', seed];
    if (driver !== '') flags.push('--driver', driver);
    const run = await ended(startProcess(flags, { env: { COMPLETION_PORT_CHECK: check } }));
    expect([run.code, run.stderr]).toEqual([0, '']);
  },
);
