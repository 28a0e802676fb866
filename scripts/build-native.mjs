// Compiles the addon into build/Release (or build/Debug with --debug). Used by `prepare` in a clone
// and by `npm explore completion-port -- npm run build:native` where no prebuilt binary fits.
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const windows = process.platform === 'win32';

const compilerAdvice = windows
  ? 'A C++20 compiler is needed: Visual Studio 2022 (or its Build Tools) with "Desktop development\n' +
    'with C++", and Python 3.'
  : 'A C++20 compiler is needed: g++ 11 or clang++ 14 at least, make, and Python 3.\n' +
    '  Debian, Ubuntu: apt-get install build-essential python3\n' +
    '  Fedora, RHEL:   dnf install gcc-c++ make python3\n' +
    '  Alpine:         apk add build-base python3 linux-headers';

/** The package's own dependencies in a clone; in a consumer's node_modules a private copy of them. */
function toolsRequire() {
  const require = createRequire(import.meta.url);
  const has = (require, name) => {
    try {
      return Boolean(require.resolve(name));
    } catch {
      return false;
    }
  };
  const needed = ['node-addon-api', 'node-gyp/bin/node-gyp.js'];
  if (needed.every((name) => has(require, name))) return require;

  const folder = path.join(root, '.build-tools');
  const tools = createRequire(path.join(folder, 'package.json'));
  if (needed.every((name) => has(tools, name))) return tools;
  const { devDependencies } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
  const packages = ['node-addon-api', 'node-gyp'].map((name) => `${name}@${devDependencies[name]}`);
  mkdirSync(folder, { recursive: true });
  writeFileSync(path.join(folder, 'package.json'), '{ "private": true }\n');
  const npm = process.env.npm_execpath;
  const args = ['install', '--no-save', '--ignore-scripts', '--no-audit', '--no-fund', ...packages];
  // `npm explore` and `npm run` tell their children where they are; their settings must not be
  // mistaken for this folder's.
  const env = { ...process.env, npm_config_prefix: '', npm_config_local_prefix: folder };
  const options = { cwd: folder, stdio: 'inherit', env };
  const result = npm
    ? spawnSync(process.execPath, [npm, ...args], options)
    : spawnSync('npm', args, { ...options, shell: windows });
  if (result.status !== 0) throw new Error(`cannot install ${packages.join(' and ')}`);
  return tools;
}

/** Headers without a download: configured ones, else those beside the running Node.js. */
function nodeDirectory() {
  if (process.env.npm_config_nodedir) return [];
  const prefix = path.resolve(process.execPath, windows ? '..' : '../..');
  const own = ['node_api.h', 'common.gypi'].every((file) =>
    existsSync(path.join(prefix, 'include', 'node', file)),
  );
  return own ? [`--nodedir=${prefix}`] : [];
}

/** What `buildNative` makes. */
export const builtBinary = path.join(root, 'build', 'Release', 'completion_port.node');

/** Whether a binary that was built here is newer than its sources; `undefined`: there is none. */
export function builtIsCurrent() {
  const built = statSync(builtBinary, { throwIfNoEntry: false });
  if (!built) return undefined;
  const sources = readdirSync(path.join(root, 'native'), { recursive: true })
    .filter((file) => /\.(cc|h)$/.test(file))
    .map((file) => path.join('native', file));
  return ['addon.gypi', ...sources].every(
    (file) => statSync(path.join(root, file)).mtimeMs <= built.mtimeMs,
  );
}

/** What node-gyp looks for. The package comes without it: see there. */
function writeGypFile() {
  const file = path.join(root, 'binding.gyp');
  if (!existsSync(file)) writeFileSync(file, '{ "includes": ["addon.gypi"] }\n');
}

export function buildNative({ debug = false } = {}) {
  const require = toolsRequire();
  writeGypFile();
  const gyp = require.resolve('node-gyp/bin/node-gyp.js');
  const args = ['rebuild', debug ? '--debug' : '--release', '-j', '2', ...nodeDirectory()];
  const result = spawnSync(process.execPath, [gyp, ...args], {
    cwd: root,
    stdio: 'inherit',
    env: {
      ...process.env,
      // read by addon.gypi
      COMPLETION_PORT_NAPI_INCLUDE: path.dirname(require.resolve('node-addon-api/napi.h')),
    },
  });
  if (result.status !== 0)
    throw new Error(`the native addon could not be built.\n${compilerAdvice}`);
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    buildNative({ debug: process.argv.includes('--debug') });
  } catch (error) {
    console.error(`\ncompletion-port: ${error.message}`);
    process.exit(1);
  }
}
