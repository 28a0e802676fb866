import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { driver, ended, root, startProcess } from '../support/harness';

/** Which keeps what was freed, and so grows. */
const sanitized = process.env['LD_PRELOAD']?.includes('libasan') ?? false;

// The real thing is `npm run soak -- --minutes 10`.
test.skipIf(process.platform === 'win32' || sanitized)(
  'threads end, clients reset, descriptors, memory and the disk run out: every answer is right',
  { timeout: 400_000 },
  async () => {
    const report = mkdtempSync(path.join(tmpdir(), 'completion-port-report-'));
    onTestFinished(() => rmSync(report, { recursive: true }));
    const flags = ['--minutes', '0.1', '--report', report];
    if (driver !== '') flags.push('--driver', driver);
    const result = await ended(startProcess([`${root}/test/soak/chaos.mjs`, ...flags]));
    expect([result.code, result.stdout + result.stderr]).toEqual([
      0,
      expect.stringMatching(/nothing grew; \d+ threads replaced; .*\n$/),
    ]);
  },
);
