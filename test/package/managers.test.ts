// The packed package, installed by other package managers than npm: none of them compiles anything,
// warns, or fails, and what they installed works. COMPLETION_PORT_TEST_MANAGERS names them; .ci/run
// does. They come from the registry.
import { execFileSync, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { npm, pack, PROGRAMS } from './installation';

const wanted = (process.env['COMPLETION_PORT_TEST_MANAGERS'] ?? '').split(',').filter(Boolean);
const bun = process.env['COMPLETION_PORT_TEST_BUN'];
/** The newest of Node.js that is here: what has just come out asks for it. */
const newest = (process.env['COMPLETION_PORT_TEST_NODES'] ?? '').split(path.delimiter).at(-1);

interface Manager {
  /** From the registry, to be run by npx. */
  readonly program?: string;
  readonly args: (tarball: string) => readonly string[];
  readonly node?: string | undefined;
  /** Files of the project. */
  readonly files?: Readonly<Record<string, string>>;
  /** Arguments for Node.js that let it find packages. */
  readonly finder?: readonly string[];
}

function pnpm(major: number): Manager {
  const node = major > 10 ? newest : undefined;
  return { program: `pnpm@${major}`, args: (tarball) => ['pnpm', 'add', tarball], node };
}

function yarn4(linker: string, scripts: boolean): Manager {
  const settings = [
    `nodeLinker: ${linker}`,
    `enableScripts: ${scripts}`,
    ...['enableTelemetry: false', 'enableGlobalCache: false', "unsafeHttpWhitelist: ['*']"],
  ];
  return {
    program: '@yarnpkg/cli-dist@4',
    args: (tarball) => ['yarn', 'add', `completion-port@file:${tarball}`],
    files: { '.yarnrc.yml': `${settings.join('\n')}\n`, 'yarn.lock': '' },
    finder: linker === 'pnp' ? ['--require', './.pnp.cjs'] : [],
  };
}

const managers: Readonly<Record<string, Manager>> = {
  ...Object.fromEntries(
    [8, 9, 10, ...(newest ? [11, 12] : [])].map((major) => [`pnpm ${major}`, pnpm(major)]),
  ),
  'yarn 1': {
    program: 'yarn@1',
    args: (tarball) => ['yarn', 'add', `file:${tarball}`, '--cache-folder', './cache'],
  },
  'yarn 4': yarn4('node-modules', true),
  'yarn 4 without scripts': yarn4('node-modules', false),
  'yarn 4, PnP': yarn4('pnp', true),
  ...(bun && { bun: { args: (tarball: string) => [bun, 'add', tarball] } }),
};

const chosen = Object.entries(managers).filter(([name]) =>
  wanted.some((one) => name === one || name.startsWith(`${one} `) || name.startsWith(`${one},`)),
);
if (wanted.length === 0) console.warn('Left out: COMPLETION_PORT_TEST_MANAGERS names none.');

describe.skipIf(chosen.length === 0)('installed by', () => {
  let temporary: string;
  let tarball: string;
  let registry: string;
  beforeAll(() => {
    temporary = mkdtempSync(path.join(tmpdir(), 'completion-port-managers-'));
    tarball = pack(temporary).tarball;
    registry = execFileSync(process.execPath, [npm(), 'config', 'get', 'registry'], {
      encoding: 'utf8',
    }).trim();
  });
  afterAll(() => rmSync(temporary, { recursive: true, force: true }));

  /** Its folder, and what was said. */
  function install(name: string, manager: Manager) {
    const folder = path.join(temporary, name.replaceAll(/\W+/g, '-'));
    const binaries = path.join(folder, '.bin');
    mkdirSync(binaries, { recursive: true });
    symlinkSync(manager.node ?? process.execPath, path.join(binaries, 'node'));
    const files = { ...PROGRAMS, 'package.json': '{ "private": true }\n', ...manager.files };
    for (const [file, text] of Object.entries(files)) writeFileSync(path.join(folder, file), text);
    const command = manager.args(tarball);
    const npx = ['exec', '--yes', `--package=${manager.program}`, '--', ...command];
    const node = path.join(binaries, 'node');
    const [program, args] =
      manager.program === undefined ? [command[0]!, command.slice(1)] : [node, [npm(), ...npx]];
    const result = spawnSync(program, args, {
      cwd: folder,
      encoding: 'utf8',
      env: {
        ...process.env,
        PATH: `${binaries}${path.delimiter}${process.env['PATH']}`,
        NO_COLOR: '1',
        npm_config_registry: registry,
        YARN_NPM_REGISTRY_SERVER: registry,
      },
    });
    return { folder, node, code: result.status, said: result.stdout + result.stderr };
  }

  test.each(chosen)('%s', { timeout: 240_000 }, (name, manager) => {
    const { folder, node, code, said } = install(name, manager);
    expect({ code, said }).toMatchObject({ code: 0 });
    expect(said).not.toMatch(/gyp|build scripts|approve-builds|must be built/i);
    const installed = path.join(folder, 'node_modules', 'completion-port');
    expect(existsSync(path.join(installed, 'build'))).toBe(false);
    const target = path.join(folder, 'written');
    const args = [...(manager.finder ?? []), 'program.cjs', target];
    const ended = spawnSync(node, args, { cwd: folder, encoding: 'utf8' });
    expect(ended).toMatchObject({ status: 0, stdout: expect.stringMatching(/ written echoed\n$/) });
  });
});
