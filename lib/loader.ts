/**
 * Finds the native binary: the one that was asked for, else one that was compiled here, else the
 * one for this platform that came with the package.
 */
import { createRequire } from 'node:module';
import fs = require('node:fs');
import path = require('node:path');

/** How the binary in use came about. */
export type Origin =
  /** Named by COMPLETION_PORT_BINDING. */
  | 'chosen'
  /** Compiled here. */
  | 'built'
  /** Came with the package. */
  | 'prebuilt';

export interface Loaded<B> {
  readonly binding: B;
  /** Of a prebuilt binary in a bundle: where it was before bundling. */
  readonly file: string;
  readonly origin: Origin;
}

/** A binary that cannot be used, and why. */
export interface Unusable {
  readonly file: string;
  readonly reason: string;
}

/** No binary can be used; `code` is ERR_COMPLETION_PORT_BINDING. */
export interface LoadError extends Error {
  readonly code: string;
  readonly tried: readonly Unusable[];
}

/** What builds the binary in a program's node_modules. */
export const BUILD_COMMAND = 'npm explore completion-port -- npm run build:native';

/** Where this file is; a bundle that is an ES module has no such thing. */
const here = typeof __dirname === 'string' ? __dirname : undefined;

/**
 * By what is mapped into the process: musl is its own dynamic loader. A report of the process would
 * tell it too, but asks each worker, and waits for those that are in a native call.
 */
function isMusl(): boolean {
  if (process.platform !== 'linux') return false;
  try {
    return fs.readFileSync('/proc/self/maps', 'latin1').includes('/ld-musl-');
  } catch {
    return fs.existsSync('/etc/alpine-release'); // no /proc here
  }
}

let found: string | undefined;

/** The folder of this platform in `prebuilds/`: 'linux-x64', 'linux-x64-musl', 'win32-x64', … */
export function platformName(): string {
  return (found ??= `${process.platform}-${process.arch}${isMusl() ? '-musl' : ''}`);
}

/**
 * Literal paths, for bundlers to follow; and in a `try`, so that they let those be missing that
 * are not there in a clone. `undefined`: the package brings none for this platform.
 */
function requirePrebuilt(): unknown {
  try {
    switch (platformName()) {
      case 'linux-x64':
        return require('../prebuilds/linux-x64/completion-port.node');
      case 'linux-x64-musl':
        return require('../prebuilds/linux-x64-musl/completion-port.node');
      case 'linux-arm64':
        return require('../prebuilds/linux-arm64/completion-port.node');
      case 'linux-arm64-musl':
        return require('../prebuilds/linux-arm64-musl/completion-port.node');
      case 'win32-x64':
        return require('../prebuilds/win32-x64/completion-port.node');
      case 'win32-arm64':
        return require('../prebuilds/win32-arm64/completion-port.node');
      default:
        return undefined;
    }
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'MODULE_NOT_FOUND') return undefined;
    throw error;
  }
}

function requireFile(file: string): unknown {
  if (!fs.existsSync(file)) return undefined;
  return createRequire(file)(file); // a plain `require` would have bundlers search for it
}

interface Candidate {
  readonly file: string;
  readonly origin: Origin;
  /** `undefined`: not there. */
  readonly load: () => unknown;
}

/** One after the other: telling the platform takes milliseconds, which a build here makes needless. */
function* candidates(): Generator<Candidate> {
  const chosen = process.env['COMPLETION_PORT_BINDING'];
  if (chosen) {
    const file = path.resolve(chosen);
    yield { file, origin: 'chosen', load: () => requireFile(file) };
    return;
  }
  const root = path.join(here ?? '.', '..');
  for (const kind of here === undefined ? [] : ['Release', 'Debug']) {
    const file = path.join(root, 'build', kind, 'completion_port.node');
    yield { file, origin: 'built', load: () => requireFile(file) };
  }
  const file = path.join(root, 'prebuilds', platformName(), 'completion-port.node');
  yield { file, origin: 'prebuilt', load: requirePrebuilt };
}

/** The reason why `candidate` cannot be used, or what it exports. */
function attempt(candidate: Candidate, abi: number): { binding?: unknown; reason: string } {
  try {
    const binding = candidate.load() as { abi?: number } | undefined;
    if (binding === undefined) return { reason: 'not there' };
    if (binding.abi === abi) return { binding, reason: '' };
    return { reason: 'built for another version of the library' };
  } catch (error) {
    return { reason: (error as Error).message.split('\n')[0] ?? '' };
  }
}

/** The first binary that loads and has this `abi`; throws a {@link LoadError} when there is none. */
export function loadBinding<B>(abi: number): Loaded<B> {
  const tried: Unusable[] = [];
  for (const candidate of candidates()) {
    const { binding, reason } = attempt(candidate, abi);
    const { file, origin } = candidate;
    if (binding !== undefined) return { binding: binding as B, file, origin };
    tried.push({ file, reason });
  }
  const error = new Error(
    `completion-port: no usable native binary for ${platformName()} (Node.js ${process.version}).\n` +
      tried.map(({ file, reason }) => `  ${file}: ${reason}\n`).join('') +
      (process.env['COMPLETION_PORT_BINDING']
        ? 'COMPLETION_PORT_BINDING names it: unset that to have the usual ones looked for.\n'
        : '') +
      `Build it with: ${BUILD_COMMAND}`,
  );
  throw Object.assign(error, { code: 'ERR_COMPLETION_PORT_BINDING', tried });
}
