// Makes prebuilds/, the binaries that the package brings along: `npm run prebuilds [-- TARGET...]`.
// Without a name all that this machine can build, saying why it leaves out the others; a target
// that is named has to succeed. `--check` builds nothing and fails when one is missing or unfit.
import { spawnSync } from 'node:child_process';
import { copyFileSync, existsSync, mkdirSync, renameSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { buildNative, builtBinary, builtIsCurrent } from './build-native.mjs';
import { checkBinary } from './check-binary.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

/**
 * The folders lib/loader.ts looks for; `cross`: how another machine builds it, with Debian's
 * packages. On its own platform each is built by node-gyp, as a source install is.
 */
const TARGETS = {
  'linux-x64': {},
  'linux-x64-musl': {},
  'linux-arm64': {
    cross: { tools: 'aarch64-linux-gnu', compiler: 'g++', toolchain: 'aarch64-linux-gnu.cmake' },
  },
  'linux-arm64-musl': {},
  'win32-x64': {
    needs: ['native/driver/iocp'],
    cross: { tools: 'x86_64-w64-mingw32', compiler: 'g++-posix', toolchain: 'mingw-w64.cmake' },
  },
  'win32-arm64': { needs: ['native/driver/iocp'] },
};

function run(program, args) {
  const result = spawnSync(program, args, { cwd: root, stdio: 'inherit' });
  if (result.status === 0) return;
  const why = result.error?.message ?? `it ended with ${result.status ?? result.signal}`;
  throw new Error(`${program} ${args[0]}: ${why}`);
}

const fileOf = (target) => path.join(root, 'prebuilds', target, 'completion-port.node');

const isInstalled = (program) =>
  spawnSync(program, ['--version'], { stdio: 'ignore' }).error === undefined;

function host() {
  try {
    return createRequire(import.meta.url)('../dist/loader.js').platformName();
  } catch (error) {
    if (error.code !== 'MODULE_NOT_FOUND') throw error;
    throw new Error('run `npm run build:ts` first', { cause: error });
  }
}

/** Why this machine cannot build `target`; `undefined` when it can. */
function obstacle(target) {
  const { needs = [], cross } = TARGETS[target];
  const missing = needs.find((folder) => !existsSync(path.join(root, folder)));
  if (missing) return `${missing} is not part of this version`;
  if (target === host()) return undefined;
  if (!cross || process.platform !== 'linux') return 'has to be built on that platform';
  const toolchain = `cmake/${cross.toolchain}`;
  if (!existsSync(path.join(root, toolchain))) return `${toolchain} is not there`;
  const programs = ['cmake', `${cross.tools}-${cross.compiler}`, `${cross.tools}-strip`];
  const absent = programs.find((program) => !isInstalled(program));
  return absent && `${absent} is not installed`;
}

function buildHere() {
  if (builtIsCurrent() !== true) buildNative();
  return { file: builtBinary, strip: process.platform === 'linux' ? 'strip' : undefined };
}

function crossBuild(target) {
  const { tools, toolchain } = TARGETS[target].cross;
  const folder = `build-prebuild/${target}`;
  const options = {
    CMAKE_BUILD_TYPE: 'Release',
    CMAKE_UNITY_BUILD: 'ON',
    CMAKE_TOOLCHAIN_FILE: path.join(root, 'cmake', toolchain),
    CP_BUILD_TESTS: 'OFF',
    CP_BUILD_BENCH: 'OFF',
  };
  const definitions = Object.entries(options).map(([name, value]) => `-D${name}=${value}`);
  run('cmake', ['-S', '.', '-B', folder, ...definitions]);
  const jobs = String(os.availableParallelism());
  run('cmake', ['--build', folder, '--target', 'completion_port', '-j', jobs]);
  return { file: path.join(root, folder, 'completion_port.node'), strip: `${tools}-strip` };
}

/** A line about the binary. It appears under its name when it is complete and passes the checks. */
function make(target) {
  const { file, strip } = target === host() ? buildHere() : crossBuild(target);
  const folder = path.join(root, 'prebuilds', target);
  const fresh = path.join(folder, 'fresh.node');
  mkdirSync(folder, { recursive: true });
  copyFileSync(file, fresh);
  try {
    if (strip) run(strip, ['--strip-all', fresh]);
    const { summary, problems } = checkBinary(fresh);
    if (problems.length > 0) throw new Error(problems.join('; '));
    renameSync(fresh, fileOf(target));
    return summary;
  } finally {
    rmSync(fresh, { force: true });
  }
}

/** One that fails does not keep the others from being made. */
function attempt(target, required) {
  try {
    const why = obstacle(target);
    if (why && required) throw new Error(why);
    return { line: `${target}: ${why ? `left out: ${why}` : make(target)}`, failed: false };
  } catch (error) {
    return { line: `${target}: FAILED: ${error.message}`, failed: true };
  }
}

/** What the tarball is about to bring: a binary for every platform. */
function checkAll() {
  for (const target of Object.keys(TARGETS)) {
    if (!existsSync(fileOf(target))) throw new Error(`${target}: there is no binary`);
    const { summary, problems } = checkBinary(fileOf(target));
    if (problems.length > 0) throw new Error(`${target}: ${problems.join('; ')}`);
    console.log(`${target}: ${summary}`);
  }
}

function main() {
  const { positionals: named, values } = parseArgs({
    allowPositionals: true,
    options: { check: { type: 'boolean', default: false } },
  });
  if (values.check) return checkAll();
  const unknown = named.find((name) => !Object.hasOwn(TARGETS, name));
  if (unknown)
    throw new Error(`no target '${unknown}'; there are: ${Object.keys(TARGETS).join(', ')}`);
  const outcomes = (named.length > 0 ? named : Object.keys(TARGETS)).map((target) =>
    attempt(target, named.length > 0),
  );
  console.log();
  for (const { line, failed } of outcomes) {
    if (!failed) console.log(line);
    else console.error(line);
  }
  if (outcomes.some(({ failed }) => failed)) process.exitCode = 1;
}

try {
  main();
} catch (error) {
  console.error(`prebuilds: ${error.message}`);
  process.exitCode = 1;
}
