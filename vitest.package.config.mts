// The package as it would be published: `npm run test:package`, after `npm run prebuilds`.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    name: 'package',
    include: ['test/package/*.test.ts'],
    pool: 'forks',
    // Each keeps the processors busy: one compiles, the other installs.
    fileParallelism: false,
    testTimeout: 240_000,
    hookTimeout: 240_000,
  },
});
