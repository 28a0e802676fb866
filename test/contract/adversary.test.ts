/** Honest clients beside hostile ones, for a short time; for a long one: `npm run adversary`. */
import path from 'node:path';
import { expect, test } from 'vitest';
import { driver, ended, root, skipOnWindows, startProcess } from '../support/harness';

test.for(['await', 'lending', 'packets', 'threads', 'proxy', 'stage', 'frames', 'pipelined'])(
  'M1, M4: hostile clients keep nobody out, change no byte and take no more than their bound (%s)',
  { timeout: 240_000 },
  async (server, context) => {
    skipOnWindows(context, 'the attacks are made for Linux');
    const program = path.join(root, 'test/adversary/run.mjs');
    const flags = [program, '--short', '--server', server];
    if (driver !== '') flags.push('--driver', driver);
    const run = await ended(startProcess(flags));
    expect([run.code, run.stderr]).toEqual([0, '']);
  },
);
