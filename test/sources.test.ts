import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { handleKindOf, syscallOf } from '../dist/native/kinds.js';

const root = fileURLToPath(new URL('..', import.meta.url));
const folders = ['port', 'driver', 'stage', 'addon', 'system'];

/** What only the simulator has. */
const simulated = /\/sim\//;

function filesOnDisk(ofSimulator = false): string[] {
  return readdirSync(`${root}/native`, { recursive: true, encoding: 'utf8' })
    .map((file) => `native/${file.replaceAll('\\', '/')}`)
    .filter((file) => file.endsWith('.cc') && folders.includes(file.split('/')[1]!))
    .filter((file) => simulated.test(file) === ofSimulator)
    .sort();
}

/** Every native/….cc named outside a comment. */
function listed(file: string): string[] {
  const text = readFileSync(`${root}/${file}`, 'utf8').replace(/#.*$/gm, '');
  return [...text.matchAll(/(?<![\w/])native\/[\w/]+\.cc/g)].map(([name]) => name).sort();
}

test('addon.gypi compiles every file of native/ once', () => {
  expect(listed('addon.gypi')).toEqual(filesOnDisk());
});

test('CMakeLists.txt compiles every file of native/ once', () => {
  expect(listed('CMakeLists.txt')).toEqual(filesOnDisk());
});

test('the simulator compiles every file of its own, and nothing that is published does', () => {
  const its = listed('test/sim/CMakeLists.txt').filter((file) => simulated.test(file));
  expect(its).toEqual(filesOnDisk(true));
  expect(listed('addon.gypi').filter((file) => simulated.test(file))).toEqual([]);
});

test('no simulated world is in the package, nor in a binary that is published', () => {
  const { files } = JSON.parse(readFileSync(`${root}/package.json`, 'utf8')) as { files: string[] };
  expect(files).toEqual(expect.arrayContaining(['!native/driver/sim', '!native/system/sim']));
  expect(files.filter((file) => file.startsWith('test'))).toEqual([]);
  // Where it takes its seed from: a world that serves a process can't do without.
  expect(readFileSync(`${root}/native/driver/sim/process_system.cc`, 'utf8')).toContain('CP_SEED');
  const published = readFileSync(`${root}/build/Release/completion_port.node`);
  expect(published.includes('CP_SEED')).toBe(false);
});

/** Errors are Linux’s numbers everywhere; the names of Windows’ <cerrno> have others. */
test('what is built for Windows has the names of errors from driver/errno.h', () => {
  const linux = /\/linux(\/|_)|\/epoll\/|\/uring\//;
  const wrong = filesOnDisk().filter((file) => {
    const text = readFileSync(`${root}/${file}`, 'utf8').replace(/\/\/.*$/gm, '');
    const names = /-E[A-Z0-9]{3,}\b|case E[A-Z0-9]{3,}:/.test(text);
    return !linux.test(file) && names && !text.includes('"driver/errno.h"');
  });
  expect(wrong).toEqual([]);
});

interface KindRow {
  name: string;
  number: number;
  handle: string | undefined;
  /** Whether it is an operation, which then has the name of a system call. */
  begins: boolean;
}

function nativeKinds(): KindRow[] {
  const text = readFileSync(`${root}/native/port/kinds.h`, 'utf8');
  const numbers = new Map([...text.matchAll(/^ {2}k(\w+) = (\d+),/gm)].map(([, a, b]) => [a, b]));
  return [...text.matchAll(/\{\.kind = PacketKind::k(\w+)([^}]*)\}/g)].map(([, name, traits]) => ({
    name: name!,
    number: Number(numbers.get(name)),
    handle: /HandleKind::k(\w+)/.exec(traits!)?.[1]?.toLowerCase(),
    begins: traits!.includes('.begins = '),
  }));
}

function kindsOfJavaScript(): KindRow[] {
  const text = readFileSync(`${root}/lib/native/kinds.ts`, 'utf8');
  return [...text.matchAll(/^ {2}(\w+) = (\d+),/gm)].map(([, name, number]) => ({
    name: name!,
    number: Number(number),
    handle: handleKindOf(Number(number)),
    begins: syscallOf(Number(number)) !== 'completionPort',
  }));
}

test('the tables of kinds in C++ and TypeScript are equal', () => {
  const none: KindRow = { name: 'None', number: 0, handle: undefined, begins: false };
  expect(nativeKinds()).toEqual([none, ...kindsOfJavaScript()]);
});

/** The bodies of the switches in a source that is laid out by clang-format. */
function switches(text: string): string[] {
  return [...text.matchAll(/^( *)switch \([^]*?\n\1\}/gm)].map(([body]) => body);
}

/** The compiler then says which are missing (-Werror=switch): none silently becomes another. */
test('no switch over kinds or opcodes has a default', () => {
  const wrong = filesOnDisk().filter((file) =>
    switches(readFileSync(`${root}/${file}`, 'utf8')).some(
      (body) => /\b(PacketKind|Opcode|Flow|Command)::/.test(body) && /\bdefault:/.test(body),
    ),
  );
  expect(wrong).toEqual([]);
});
