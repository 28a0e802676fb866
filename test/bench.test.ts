import { expect, test } from 'vitest';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ended } from './support/harness';

const run = fileURLToPath(new URL('../bench/run.mjs', import.meta.url));

/** What each row counts, and that it says what it leaves out; .ci/run tries all benchmarks. */
test.each([
  ['channels', 9, ''],
  ['files', 4, ''],
  ['hand-off', 6, ''],
  ['order', 2, ''],
  ['pin', 2, ''],
])('bench %s: each contestant works', { timeout: 240_000 }, async (name, count, rows) => {
  const child = spawn(process.execPath, [run, '--smoke', name, '--rows', rows]);
  const { code, stdout, stderr } = await ended(child, 220_000);
  expect(code, stdout + stderr).toBe(0);
  const lines = stdout.split('\n').filter((line) => line.startsWith(`${name}, `));
  expect(lines).toHaveLength(count);
  // Where io_uring is not granted, what asks for it is not measured.
  for (const line of lines)
    expect(line).toMatch(
      /: (works|not measured: (no io_uring here|(redis-server|nginx) is not installed).*)$/,
    );
});
