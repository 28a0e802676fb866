// Servers for Windows, run by Wine, and clients outside of it: a part of `npm run test:windows`.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    name: 'windows',
    include: ['test/windows/*.test.ts'],
    pool: 'forks',
    fileParallelism: false,
    testTimeout: 60_000,
    hookTimeout: 60_000,
  },
});
