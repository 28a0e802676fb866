import { expect, test } from 'vitest';
import { driver, ended, root, startProcess } from '../support/harness';

// The real thing is `node test/soak/stages.mjs --minutes 10`.
test('a short soak: bytes come back, nothing grows', async () => {
  const args = [
    '--expose-gc',
    `${root}/test/soak/stages.mjs`,
    '--minutes',
    '0.15',
    '--deaths',
    '2',
  ];
  const result = await ended(startProcess([...args, ...(driver ? ['--driver', driver] : [])]));
  expect(result.stdout + result.stderr).toMatch(/nothing grew; [1-9]\d* threads replaced\n$/);
  expect(result.code).toBe(0);
});
