// Which systems a binary of the addon loads on: the newest version of each library it asks for, and
// whether it asks for anything that Node.js does not bring along. `node scripts/check-binary.mjs
// FILE...` fails when one would not load where it is promised to.
import { execFileSync, spawnSync } from 'node:child_process';
import { closeSync, openSync, readFileSync, readSync, statSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));

/** RHEL 8 and its like, which the official builds of Node.js need too. */
const CEILINGS = { GLIBC: '2.28', GLIBCXX: '3.4.25', CXXABI: '1.3.11' };

/**
 * Functions that musl has had only since 1.2.5 (Alpine 3.20). No Linux binary asks for one, glibc's
 * neither (with or without the endings it gives them), so that each build finds a new one.
 */
const TOO_NEW_FOR_MUSL = /^(statx|p(read|write)v(64)?v2|renameat2|posix_getdents|qsort_s)$/;

const LIBRARIES = {
  elf: /^(lib(c|m|dl|pthread|stdc\+\+|gcc_s|c\.musl-\w+)\.so(\.\d+)?|ld-linux-[\w-]+\.so\.\d)$/,
  // No runtime library of a compiler: neither MinGW's nor Visual C++'s is part of Windows.
  pe: /^(node\.exe|kernel32|ntdll|advapi32|ws2_32|mswsock|msvcrt|ucrtbase|api-ms-win-[\w-]+)(\.dll|\.exe)?$/i,
};

/** -1, 0 or 1: '2.4' is older than '2.28'. */
function compareVersions(a, b) {
  const [left, right] = [a, b].map((version) => version.split('.').map(Number));
  for (let i = 0; i < Math.max(left.length, right.length); i++) {
    const difference = (left[i] ?? 0) - (right[i] ?? 0);
    if (difference !== 0) return Math.sign(difference);
  }
  return 0;
}

function formatOf(file) {
  const magic = Buffer.alloc(4);
  const descriptor = openSync(file, 'r');
  readSync(descriptor, magic, 0, 4, 0);
  closeSync(descriptor);
  if (magic.toString('latin1') === '\x7fELF') return 'elf';
  if (magic.toString('latin1', 0, 2) === 'MZ') return 'pe';
  throw new Error(`${file} is neither an ELF nor a PE file`);
}

function output(program, ...args) {
  try {
    const env = { ...process.env, LC_ALL: 'C' };
    return execFileSync(program, args, { encoding: 'utf8', env, maxBuffer: 1 << 28 });
  } catch (error) {
    if (error.code !== 'ENOENT') throw error;
    throw new Error(`${program} is needed to look into a binary (package binutils)`, {
      cause: error,
    });
  }
}

/** Functions of Node-API in the version addon.gypi asks for. */
function nodeApi() {
  const { symbols } = createRequire(import.meta.url)('node-api-headers');
  const gyp = readFileSync(path.join(root, 'addon.gypi'), 'utf8');
  const version = /"napi_build_version%": "(\d+)"/.exec(gyp)[1];
  const known = symbols[`v${version}`];
  return new Set([...known.js_native_api_symbols, ...known.node_api_symbols]);
}

/** readelf reads the files of every architecture, objdump those it was built for. */
function inspectElf(file) {
  const text = output('readelf', '--wide', '--dynamic', '--version-info', '--dyn-syms', file);
  const newest = {};
  for (const [, name, version] of text.matchAll(/Name: ([A-Z]+)_([\d.]+)\s/g)) {
    if (compareVersions(version, newest[name] ?? '0') > 0) newest[name] = version;
  }
  const libraries = [...text.matchAll(/\(NEEDED\).*\[(.+)\]/g)].map(([, library]) => library);
  const undefinedSymbols = text
    .split('\n')
    .map((line) => line.trim().split(/\s+/))
    .filter(([, , , , bind, , section]) => bind === 'GLOBAL' && section === 'UND')
    .map((columns) => columns[7] ?? '');
  // A symbol with a version comes from one of the libraries, and so does any on musl.
  const musl = libraries.some((library) => library.startsWith('libc.musl'));
  const others = undefinedSymbols.filter((name) => name && !musl && !name.includes('@'));
  const tooNew = undefinedSymbols
    .map((name) => name.replace(/@.*/, ''))
    .filter((name) => TOO_NEW_FOR_MUSL.test(name));
  return { newest, libraries, symbols: [...others, ...tooNew] };
}

/** The first program that is installed and knows the architecture. */
function inspectPe(file) {
  for (const program of ['llvm-objdump', 'objdump', 'x86_64-w64-mingw32-objdump']) {
    const result = spawnSync(program, ['-p', file], { encoding: 'utf8', maxBuffer: 1 << 28 });
    const libraries = [...(result.stdout ?? '').matchAll(/DLL Name: (\S+)/g)];
    if (libraries.length > 0)
      return { newest: {}, libraries: libraries.map(([, name]) => name), symbols: [] };
  }
  throw new Error(`${file}: no objdump reads it (packages llvm, binutils)`);
}

/** What `file` needs, as a line of text, and what is wrong with that. */
export function checkBinary(file) {
  const format = formatOf(file);
  const { newest, libraries, symbols } = format === 'elf' ? inspectElf(file) : inspectPe(file);
  const api = nodeApi();
  const problems = [
    ...Object.entries(CEILINGS)
      .filter(([name, ceiling]) => compareVersions(newest[name] ?? '0', ceiling) > 0)
      .map(([name, ceiling]) => `needs ${name}_${newest[name]}, more than ${name}_${ceiling}`),
    ...libraries.filter((name) => !LIBRARIES[format].test(name)).map((name) => `needs ${name}`),
    ...symbols.filter((name) => !api.has(name)).map((name) => `imports ${name}`),
  ];
  if (libraries.length === 0) problems.push('names no library it needs');
  const versions = Object.keys(CEILINGS).flatMap((name) =>
    newest[name] === undefined ? [] : [`${name}_${newest[name]}`],
  );
  const needs = versions.length > 0 ? versions : libraries;
  return { summary: `${statSync(file).size >> 10} KiB, needs ${needs.join(', ')}`, problems };
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    const files = process.argv.slice(2);
    if (files.length === 0) throw new Error('usage: check-binary.mjs FILE...');
    for (const file of files) {
      const { summary, problems } = checkBinary(file);
      console.log(`${file}: ${summary}`);
      for (const problem of problems) console.error(`${file}: ${problem}`);
      if (problems.length > 0) process.exitCode = 1;
    }
  } catch (error) {
    console.error(`check-binary: ${error.message}`);
    process.exitCode = 2;
  }
}
