import { spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { defineConfig } from 'vitest/config';
import { notInWorld } from './test/support/world.mts';

// Whether this machine grants io_uring. Where it does not (most containers), the contract is
// checked on epoll alone; COMPLETION_PORT_TEST_DRIVERS=io_uring,epoll insists on both.
function drivers(): string[] {
  const wanted = process.env['COMPLETION_PORT_TEST_DRIVERS'];
  if (wanted) return wanted.split(',');
  if (process.platform === 'win32') return ['iocp'];
  const { COMPLETION_PORT_DRIVER: _, ...env } = process.env;
  const script = 'console.log(require("./dist/native/binding.js").binding.defaultDriver().name)';
  const probe = spawnSync(process.execPath, ['-e', script], { env, encoding: 'utf8' });
  if (probe.stdout?.trim() !== 'epoll') return ['io_uring', 'epoll'];
  console.warn('io_uring is not available here: the contract suite runs on epoll only.');
  return ['epoll'];
}

// The whole path: the clone itself may lie in a folder of that name.
const built = fileURLToPath(new URL('./dist/', import.meta.url))
  .replaceAll('\\', '/')
  .replace(/[.*+?^${}()|[\]]/g, '\\$&');

/**
 * What chooses between drivers, builds, packs and measures, and `npm start`, know Linux only; what
 * `serve` does over a port it does on Windows by itself.
 */
const linuxOnly =
  process.platform === 'win32'
    ? [
        'fallback',
        'build-scripts',
        'sources',
        'bench',
        'examples/start',
        'node/serve-over-port',
      ].map((name) => `test/${name}.test.ts`)
    : [];

const shared = {
  pool: 'forks' as const,
  testTimeout: 60_000,
  hookTimeout: 60_000,
  // dist/ is loaded by Node.js itself: inlined, there would be two copies of every class.
  server: { deps: { external: [new RegExp(`^${built}`)] } },
};

/** What runs once for each driver. */
const contractFiles = ['contract', 'stage', 'micro', 'cpu', 'node'].map(
  (folder) => `test/${folder}/**/*.test.ts`,
);

/**
 * The same suite on connections of a world in memory: COMPLETION_PORT_TEST_WORLD names the addon
 * that has it (CMake's completion_port_sim), CP_SEED the seed.
 */
function simulatedWorld() {
  const binding = process.env['COMPLETION_PORT_TEST_WORLD'];
  if (!binding) return [];
  const seed = process.env['CP_SEED'] ?? String(1 + Math.floor(Math.random() * 0x7ffffffe));
  const left = Object.entries(notInWorld);
  console.warn(`simulated world: CP_SEED=${seed}; not in it are ${left.length} files and folders:`);
  for (const [what, reason] of left) console.warn(`  test/${what}: ${reason}`);
  return [
    {
      test: {
        ...shared,
        name: 'contract sim',
        include: contractFiles,
        exclude: left.map(([what]) => `test/${what}${what.endsWith('.ts') ? '' : '/**'}`),
        env: { COMPLETION_PORT_DRIVER: 'sim', COMPLETION_PORT_BINDING: binding, CP_SEED: seed },
      },
    },
  ];
}

export default defineConfig({
  test: {
    ...shared,
    // Tests wait more than they compute: on two CPUs, too, two files at a time are done sooner.
    // Under Wine one by one: all calls go through one server process.
    maxWorkers: process.env['COMPLETION_PORT_TEST_WINE']
      ? 1
      : Math.max(2, availableParallelism() - 1),
    projects: [
      {
        test: {
          ...shared,
          name: 'unit',
          include: ['test/**/*.test.ts'],
          exclude: [
            ...['contract', 'stage', 'micro', 'cpu', 'node', 'examples', 'package', 'windows'].map(
              (folder) => `test/${folder}/**`,
            ),
            'test/bench.test.ts',
            ...linuxOnly,
          ],
        },
      },
      { test: { ...shared, name: 'bench', include: ['test/bench.test.ts'], exclude: linuxOnly } },
      {
        test: {
          ...shared,
          name: 'examples',
          include: ['test/examples/**/*.test.ts'],
          exclude: linuxOnly,
        },
      },
      ...simulatedWorld(),
      ...drivers().map((driver) => ({
        test: {
          ...shared,
          name: `contract ${driver}`,
          include: contractFiles,
          exclude: linuxOnly,
          env: { COMPLETION_PORT_DRIVER: driver },
        },
      })),
    ],
  },
});
