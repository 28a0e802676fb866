import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { build, type BuildOptions } from 'esbuild';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { answer, Installation, PROGRAMS, root, type Ended } from './installation';

// Programs that run the package beside this one, each optional: .ci/run fetches them.
const nodes = [
  process.execPath,
  ...(process.env['COMPLETION_PORT_TEST_NODES'] ?? '').split(path.delimiter).filter(Boolean),
];
const bun = process.env['COMPLETION_PORT_TEST_BUN'];
const nodeArm64 = process.env['COMPLETION_PORT_TEST_NODE_ARM64'];
const qemu = pathOf('qemu-aarch64-static');

const programs = Object.keys(PROGRAMS);
const drivers = process.platform === 'win32' ? ['iocp'] : ['io_uring', 'epoll'];

/** Whether this machine grants the driver. */
const isGranted = (driver: string): boolean =>
  spawnSync(process.execPath, ['-e', 'new (require("./dist/index.js").CompletionPort)().close()'], {
    cwd: root,
    env: { ...process.env, COMPLETION_PORT_DRIVER: driver },
  }).status === 0;
const granted = drivers.filter(isGranted);

const platform = (
  (await import('../../dist/loader.js')) as unknown as { platformName(): string }
).platformName();
const prebuilt = (target: string): string => `prebuilds/${target}/completion-port.node`;

function pathOf(program: string): string | undefined {
  const shell = spawnSync('sh', ['-c', 'command -v "$1"', 'sh', program], { encoding: 'utf8' });
  return shell.stdout.trim() || undefined;
}

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

function expectAnswer(ended: Ended, driver: string): void {
  expect(ended, ended.stderr).toMatchObject({ code: 0, stdout: `${answer(driver)}\n` });
}

/** What the installed package does while some of its files are not there. */
function without<T>(names: string[], fn: () => T): T {
  const away = (name: string): string => `${installation.file(name)}.away`;
  for (const name of names) renameSync(installation.file(name), away(name));
  try {
    return fn();
  } finally {
    for (const name of names) renameSync(away(name), installation.file(name));
  }
}

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

describe('bundled with esbuild', () => {
  // What esbuild leaves to a `require` of the bundle, which an ES module has not.
  const banner = {
    js: "import { createRequire } from 'node:module'; const require = createRequire(import.meta.url);",
  };
  const ways: Record<string, BuildOptions> = {
    'CommonJS, binaries copied': { format: 'cjs', loader: { '.node': 'copy' } },
    'ES module, binaries copied': { format: 'esm', loader: { '.node': 'copy' }, banner },
    'CommonJS, package left outside': { format: 'cjs', external: ['completion-port'] },
    'ES module, package left outside': { format: 'esm', external: ['completion-port'], banner },
  };

  /** The bundle's path, in a folder of its own. */
  async function bundle(program: string, options: BuildOptions): Promise<string> {
    const outdir = path.join(installation.folder, 'out');
    rmSync(outdir, { recursive: true, force: true });
    mkdirSync(outdir);
    const extension = options.format === 'esm' ? '.mjs' : '.cjs';
    await build({
      entryPoints: [path.join(installation.folder, program)],
      bundle: true,
      platform: 'node',
      outdir,
      outExtension: { '.js': extension },
      logLevel: 'error',
      ...options,
    });
    return path.join(outdir, path.basename(program, path.extname(program)) + extension);
  }

  describe.each(Object.keys(ways))('%s', (way) => {
    test.each(programs)('%s', async (program) => {
      const options = ways[way]!;
      const file = await bundle(program, options);
      const run = (): Ended => installation.runProgram([process.execPath], file);
      const contained = !options.external;
      // A bundle with copies needs nothing of node_modules.
      expectAnswer(contained ? without(['../completion-port'], run) : run(), granted[0]!);
    });
  });
});

describe('where no binary fits', () => {
  test('the error says what to run, and that builds one', { timeout: 600_000 }, () => {
    without([prebuilt(platform)], () => {
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
