import { expect, test } from 'vitest';
import { spawn } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { ended } from './support/harness';

const run = fileURLToPath(new URL('../bench/run.mjs', import.meta.url));

/** Those that need no C++ of bench/native; .ci/run tries all of them. */
test.each([
  ['channels', 9, ''],
  ['chat', 3, '200'],
  ['files', 4, ''],
  ['hand-off', 6, ''],
  ['node', 12, ''],
  ['idle-http', 3, ''],
  ['order', 2, ''],
  ['pin', 2, ''],
  ['pool', 15, ''],
  ['send-file', 5, ''],
  ['spawns', 9, ''],
  ['trace', 6, ''],
  ['spool', 4, ''],
  ['serve', 6, ''],
  ['sum', 5, ''],
  ['stall', 12, 'one in a loop'],
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
