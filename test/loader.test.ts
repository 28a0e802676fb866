import { cpSync, mkdirSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  ended,
  root,
  skipOnWindows,
  startProcess,
  temporaryDirectory,
  windows,
  type Ended,
} from './support/harness';

const binary =
  process.env['COMPLETION_PORT_BINDING'] ?? path.join(root, 'build/Release/completion_port.node');
const platform = (
  (await import('../dist/loader.js')) as unknown as { platformName(): string }
).platformName();
const built = 'build/Release/completion_port.node';
const debug = 'build/Debug/completion_port.node';
const prebuilt = `prebuilds/${platform}/completion-port.node`;

/** A package of which only the library and these binaries are there; `text`: one that can't load. */
function packageWith(files: Record<string, 'binary' | 'text'>): string {
  const folder = temporaryDirectory();
  cpSync(path.join(root, 'dist'), path.join(folder, 'dist'), { recursive: true });
  for (const [name, what] of Object.entries(files)) {
    const file = path.join(folder, name);
    mkdirSync(path.dirname(file), { recursive: true });
    if (what === 'binary') cpSync(binary, file);
    else writeFileSync(file, 'not a library');
  }
  return folder;
}

function load(folder: string, before = ''): Promise<Ended> {
  const file = JSON.stringify(path.join(folder, 'dist', 'native', 'binding.js'));
  const code = `${before}; const { bindingFile, bindingOrigin } = require(${file});
    console.log(bindingOrigin, bindingFile);`;
  return ended(startProcess(['-e', code], { env: { COMPLETION_PORT_BINDING: undefined } }));
}

describe('the binary that is loaded', () => {
  test('is the prebuilt one where none was built', async () => {
    const folder = packageWith({ [prebuilt]: 'binary' });
    const expected = `prebuilt ${path.join(folder, prebuilt)}\n`;
    expect(await load(folder)).toMatchObject({ code: 0, stdout: expected });
  });

  test('is the one that was built rather than the prebuilt one', async () => {
    const folder = packageWith({ [built]: 'binary', [prebuilt]: 'binary' });
    expect((await load(folder)).stdout).toBe(`built ${path.join(folder, built)}\n`);
  });

  test('is the debug build when there is no other', async () => {
    const folder = packageWith({ [debug]: 'binary', [prebuilt]: 'binary' });
    expect((await load(folder)).stdout).toBe(`built ${path.join(folder, debug)}\n`);
  });

  test('is the next one when the first does not load', async () => {
    const folder = packageWith({ [built]: 'text', [prebuilt]: 'binary' });
    expect((await load(folder)).stdout).toBe(`prebuilt ${path.join(folder, prebuilt)}\n`);
  });

  test('is not one of another version of the library', async () => {
    const folder = packageWith({ [built]: 'binary', [prebuilt]: 'text' });
    const other = `process.dlopen = (module) => { module.exports = { abi: -1 }; }`;
    const { code, stderr } = await load(folder, other);
    expect(code).not.toBe(0);
    expect(stderr).toContain(`${path.join(folder, built)}: built for another version`);
  });
});

describe('where no binary loads', () => {
  test('the error has what was tried, why it failed, and what builds one', async () => {
    const folder = packageWith({ [built]: 'text' });
    const { code, stderr } = await load(folder);
    expect(code).not.toBe(0);
    expect(stderr).toContain('ERR_COMPLETION_PORT_BINDING');
    expect(stderr).toContain(`no usable native binary for ${platform}`);
    const reason = windows ? '(not a valid Win32|Bad EXE)' : '(file too short|invalid ELF)';
    expect(stderr).toMatch(new RegExp(`build.Release.completion_port\\.node: .*${reason}`));
    expect(stderr).toContain(`${path.join(folder, debug)}: not there`);
    expect(stderr).toContain(`${path.join(folder, prebuilt)}: not there`);
    expect(stderr).toContain('npm explore completion-port -- npm run build:native');
  });

  test('a platform the package has no binary for is named', async () => {
    const folder = packageWith({ [prebuilt]: 'binary' });
    const { stderr } = await load(
      folder,
      "Object.defineProperty(process, 'arch', { value: 'mips' })",
    );
    expect(stderr).toContain(`no usable native binary for ${process.platform}-mips`);
  });

  test('a system with musl is told from one with glibc', async (context) => {
    skipOnWindows(context, 'no libc of its own');
    const folder = packageWith({ [prebuilt]: 'binary' });
    const musl = `
      const fs = process.getBuiltinModule('fs');
      const { readFileSync } = fs;
      fs.readFileSync = (name, ...more) =>
        name === '/proc/self/maps' ? '7f00 /lib/ld-musl-x86_64.so.1' : readFileSync(name, ...more)`;
    const { stderr } = await load(folder, musl);
    expect(stderr).toContain(`no usable native binary for linux-${process.arch}-musl`);
  });
});
