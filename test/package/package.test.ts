import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { expectAnswer, granted, Installation, PROGRAMS, root } from './installation';

// Programs that run the package beside this one, each optional: .ci/run fetches them.
const nodes = [
  process.execPath,
  ...(process.env['COMPLETION_PORT_TEST_NODES'] ?? '').split(path.delimiter).filter(Boolean),
];
const bun = process.env['COMPLETION_PORT_TEST_BUN'];
const nodeArm64 = process.env['COMPLETION_PORT_TEST_NODE_ARM64'];
const qemu = pathOf('qemu-aarch64-static');

function pathOf(program: string): string | undefined {
  const shell = spawnSync('sh', ['-c', 'command -v "$1"', 'sh', program], { encoding: 'utf8' });
  return shell.stdout.trim() || undefined;
}

const programs = Object.keys(PROGRAMS);
const platform = (
  (await import('../../dist/loader.js')) as unknown as { platformName(): string }
).platformName();
const prebuilt = (target: string): string => `prebuilds/${target}/completion-port.node`;

if (!bun) console.warn('Left out: Bun (COMPLETION_PORT_TEST_BUN names one).');
if (!nodeArm64)
  console.warn('Left out: arm64 (COMPLETION_PORT_TEST_NODE_ARM64 names its Node.js).');
else if (!qemu) console.warn('Left out: arm64 (qemu-aarch64-static is not installed).');

let installation: Installation;
beforeAll(() => {
  expect(existsSync(path.join(root, prebuilt(platform))), '`npm run prebuilds` comes first').toBe(
    true,
  );
  installation = new Installation();
});
afterAll(() => installation?.remove());

describe('the tarball', () => {
  test('runs nothing when it is installed', () => {
    const { scripts, gypfile, dependencies } = JSON.parse(
      readFileSync(installation.file('package.json'), 'utf8'),
    );
    // With a binding.gyp, npm makes up an install script unless it is told not to.
    expect(gypfile).toBe(false);
    for (const name of ['preinstall', 'install', 'postinstall']) {
      expect(scripts).not.toHaveProperty(name);
    }
    expect(dependencies).toBeUndefined();
  });

  test('brings the binaries, and what a build needs, but no build and no tests', () => {
    for (const name of [prebuilt(platform), 'addon.gypi', 'scripts/build-native.mjs', 'LICENSE']) {
      expect(installation.contents).toContain(name);
    }
    const folders = new Set(installation.contents.map((name) => name.split('/')[0]));
    // pnpm and Yarn compile whatever has a binding.gyp, whatever its package.json says.
    for (const name of [
      'build',
      'binding.gyp',
      'test',
      'bench',
      'node_modules',
      '.ci',
      '.github',
    ]) {
      expect(folders).not.toContain(name);
    }
  });
});

describe.each(nodes)('installed without scripts, on %s', (node) => {
  describe.each(granted)('%s', (driver) => {
    test.each(programs)('%s', (program) => {
      const env = { COMPLETION_PORT_DRIVER: driver };
      expectAnswer(installation.runProgram([node], program, env), driver);
    });
  });

  test('the driver of this machine is found', () => {
    expectAnswer(installation.runProgram([node], 'program.cjs'), granted[0]!);
  });

  test('doctor runs, and finds the prebuilt binary', () => {
    const ended = installation.doctor([node]);
    expect(ended.stderr).toBe('');
    expect(JSON.parse(ended.stdout)).toMatchObject({
      binary: { platform, origin: 'prebuilt' },
      driver: { name: granted[0] },
    });
  });
});

describe.skipIf(!bun)('under Bun', () => {
  describe.each(granted)('%s', (driver) => {
    test.each(programs)('%s', (program) => {
      const env = { COMPLETION_PORT_DRIVER: driver };
      expectAnswer(installation.runProgram([bun!], program, env), driver);
    });
  });
});

describe.skipIf(!nodeArm64 || !qemu)('linux-arm64 under qemu', () => {
  const node = [qemu!, '-L', '/usr/aarch64-linux-gnu', nodeArm64!];

  // qemu has no io_uring: a kernel without it, whatever this machine's is.
  test.each(programs)('%s falls back to epoll', (program) => {
    expect(installation.contents).toContain(prebuilt('linux-arm64'));
    expectAnswer(installation.runProgram(node, program), 'epoll');
  });

  test('doctor tells why', () => {
    const ended = installation.doctor(node);
    expect(ended.code, ended.stderr).toBe(1);
    expect(JSON.parse(ended.stdout)).toMatchObject({
      binary: { platform: 'linux-arm64', origin: 'prebuilt' },
      driver: { name: 'epoll' },
      capabilities: [{ name: 'io_uring_setup', error: 'ENOSYS' }],
    });
  });
});

describe('where no binary fits', () => {
  test('the error says what to run, and that builds one', { timeout: 600_000 }, () => {
    installation.without([prebuilt(platform)], () => {
      const failed = installation.runProgram([process.execPath], 'program.cjs');
      expect(failed.code).toBe(1);
      expect(failed.stderr).toContain('ERR_COMPLETION_PORT_BINDING');
      expect(failed.stderr).toContain(`no usable native binary for ${platform}`);
      expect(failed.stderr).toContain('npm explore completion-port -- npm run build:native');
      const built = installation.build();
      expect(built.code, built.stdout + built.stderr).toBe(0);
      expectAnswer(installation.runProgram([process.execPath], 'program.cjs'), granted[0]!);
    });
  });
});
