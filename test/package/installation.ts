/**
 * The package as a consumer gets it: packed, installed into an empty folder without scripts, without
 * a network and without a compiler, and programs run from there.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  realpathSync,
  renameSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { expect } from 'vitest';

export const root = fileURLToPath(new URL('../..', import.meta.url));

const body = readFileSync(new URL('./program.js', import.meta.url), 'utf8');
/** The program in both module systems, by file name. */
export const PROGRAMS = {
  'program.cjs': `const { CompletionPort } = require('completion-port');\n${body}`,
  'program.mjs': `import { CompletionPort } from 'completion-port';\n${body}`,
};
/** What the program prints. */
const answer = (driver: string): string => `${driver} written echoed`;

export interface Ended {
  readonly code: number | null;
  readonly stdout: string;
  readonly stderr: string;
}

export function expectAnswer(ended: Ended, driver: string): void {
  expect(ended, ended.stderr).toMatchObject({ code: 0, stdout: `${answer(driver)}\n` });
}

/** Whether this machine grants the driver. */
const isGranted = (driver: string): boolean =>
  spawnSync(process.execPath, ['-e', 'new (require("./dist/index.js").CompletionPort)().close()'], {
    cwd: root,
    env: { ...process.env, COMPLETION_PORT_DRIVER: driver },
  }).status === 0;
/** The drivers that this machine grants, the first choice first. */
export const granted = (process.platform === 'win32' ? ['iocp'] : ['io_uring', 'epoll']).filter(
  isGranted,
);

/** npm as a program for Node.js, which needs no PATH. */
export function npm(): string {
  const running = process.env['npm_execpath'];
  if (running?.endsWith('npm-cli.js')) return running;
  const folders = (process.env['PATH'] ?? '').split(path.delimiter);
  const found = folders.map((folder) => path.join(folder, 'npm')).find((file) => existsSync(file));
  if (!found) throw new Error('npm is not on the PATH');
  return realpathSync(found);
}

/** Packs the package into `folder`. */
export function pack(folder: string): { tarball: string; contents: string[] } {
  const [packed] = JSON.parse(
    execFileSync(
      process.execPath,
      // The library is built by now, and building prints to where the answer is expected.
      [npm(), 'pack', '--json', '--ignore-scripts', '--pack-destination', folder],
      { cwd: root, encoding: 'utf8', stdio: ['ignore', 'pipe', 'inherit'] },
    ),
  ) as [{ filename: string; files: { path: string }[] }];
  const contents = packed.files.map((file) => file.path);
  return { tarball: path.join(folder, packed.filename), contents };
}

export class Installation {
  /** The consumer's folder. */
  readonly folder: string;
  /** What the registry would show of each file: its path in the package. */
  readonly contents: readonly string[];
  private readonly temporary: string;
  private readonly binaries: string;

  constructor() {
    this.temporary = mkdtempSync(path.join(tmpdir(), 'completion-port-package-'));
    this.folder = path.join(this.temporary, 'consumer');
    this.binaries = path.join(this.temporary, 'bin');
    mkdirSync(this.folder);
    mkdirSync(this.binaries);
    // All that is on the PATH: no compiler, no make, no Python.
    symlinkSync(process.execPath, path.join(this.binaries, 'node'));
    const { tarball, contents } = pack(this.temporary);
    this.contents = contents;
    this.install(tarball);
  }

  private install(tarball: string): void {
    writeFileSync(path.join(this.folder, 'package.json'), '{ "private": true }\n');
    const flags = ['--ignore-scripts', '--offline', '--no-audit', '--no-fund'];
    const cache = ['--cache', path.join(this.temporary, 'cache')];
    const installed = this.run(process.execPath, [npm(), 'install', ...flags, ...cache, tarball]);
    if (installed.code !== 0) throw new Error(installed.stdout + installed.stderr);
    for (const [name, text] of Object.entries(PROGRAMS)) {
      writeFileSync(path.join(this.folder, name), text);
    }
  }

  /** A path inside of the installed package. */
  file(name: string): string {
    return path.join(this.folder, 'node_modules', 'completion-port', name);
  }

  /** Runs a command in the consumer's folder, with nothing but Node.js on the PATH. */
  run(program: string, args: readonly string[], env: NodeJS.ProcessEnv = {}, seconds = 120): Ended {
    const result = spawnSync(program, args, {
      cwd: this.folder,
      encoding: 'utf8',
      env: { HOME: this.temporary, PATH: this.binaries, NO_COLOR: '1', ...env },
      timeout: seconds * 1000,
      killSignal: 'SIGKILL',
    });
    if (result.error) throw result.error;
    return { code: result.status, stdout: result.stdout, stderr: result.stderr };
  }

  /** Runs one of the programs, or a bundle of it. */
  runProgram(command: readonly string[], program: string, env: NodeJS.ProcessEnv = {}): Ended {
    const target = path.join(this.temporary, `file-${path.basename(program)}`);
    return this.run(command[0]!, [...command.slice(1), program, target], env);
  }

  /** `completion-port doctor --json`, as the link that npm made runs it. */
  doctor(node: readonly string[]): Ended {
    const link = path.join(this.folder, 'node_modules', '.bin', 'completion-port');
    return this.run(node[0]!, [...node.slice(1), realpathSync(link), 'doctor', '--json']);
  }

  /** What the loader's error says to run, with everything this machine has and the network. */
  build(): Ended {
    const args = [npm(), 'explore', 'completion-port', '--', process.execPath, npm()];
    return this.run(process.execPath, [...args, 'run', 'build:native'], process.env, 500);
  }

  /** What the package does while some of its files are not there. */
  without<T>(names: readonly string[], fn: () => T): T {
    const away = (name: string): string => `${this.file(name)}.away`;
    for (const name of names) renameSync(this.file(name), away(name));
    try {
      return fn();
    } finally {
      for (const name of names) renameSync(away(name), this.file(name));
    }
  }

  remove(): void {
    rmSync(this.temporary, { recursive: true, force: true });
  }
}
