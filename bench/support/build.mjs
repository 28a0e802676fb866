/**
 * The C++ programs of bench/native: built when their sources are newer, found by name.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));
export const buildDirectory = path.join(root, 'build-bench');
const stamp = path.join(buildDirectory, '.built');
/** All of these go into the programs. */
const sources = ['bench/native', 'native/port', 'native/driver', 'CMakeLists.txt'];
const MINUTES = 10;

function newestChange(file) {
  const status = fs.statSync(file, { throwIfNoEntry: false });
  if (status === undefined) return 0;
  if (!status.isDirectory()) return status.mtimeMs;
  return Math.max(0, ...fs.readdirSync(file).map((name) => newestChange(path.join(file, name))));
}

function isUpToDate() {
  const built = fs.statSync(stamp, { throwIfNoEntry: false })?.mtimeMs ?? 0;
  return sources.every((source) => newestChange(path.join(root, source)) < built);
}

function cmake(...args) {
  const { status, error, stdout, stderr } = spawnSync('cmake', args, {
    cwd: root,
    encoding: 'utf8',
    timeout: MINUTES * 60_000,
  });
  if (status === 0) return;
  const output = error?.message ?? `${stdout}${stderr}`.split('\n').slice(-30).join('\n');
  throw Object.assign(new Error(`cmake ${args.join(' ')} failed:\n${output}`), { code: 'EBUILD' });
}

/** Builds what is out of date. Throws with code `EBUILD`. */
export function buildNative() {
  if (isUpToDate()) return;
  const began = new Date();
  process.stderr.write('building bench/native …\n');
  cmake(
    ...['-S', '.', '-B', 'build-bench', '-DCMAKE_BUILD_TYPE=Release', '-DCP_BUILD_BENCH=ON'],
    ...['-DCP_BUILD_ADDON=OFF', '-DCP_BUILD_TESTS=OFF'],
  );
  cmake('--build', 'build-bench', '-j', '2');
  fs.writeFileSync(stamp, '');
  // What was edited during the build is built next time.
  fs.utimesSync(stamp, began, began);
}

/** Where CMake put the program; undefined when it was not built. */
export function nativeProgram(name) {
  const places = ['', 'bench', 'bench/native', 'bin'];
  return places
    .map((place) => path.join(buildDirectory, place, name))
    .find((file) => fs.statSync(file, { throwIfNoEntry: false })?.isFile());
}
