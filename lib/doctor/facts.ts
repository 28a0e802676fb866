/**
 * What a process can learn about the system it is on without the addon. Nothing here throws: what
 * cannot be read (another system, a sandbox, the permission model) is null.
 */
import fs = require('node:fs');
import os = require('node:os');
import path = require('node:path');
import type { Limit, Limits, Restrictions, System } from './findings';

export function libraryVersion(): string {
  const file = path.join(__dirname, '..', '..', 'package.json');
  return (JSON.parse(fs.readFileSync(file, 'utf8')) as { version: string }).version;
}

/** Under Linux only: an emulator of another system may show the files of its host. */
function read(file: string): string | null {
  if (process.platform !== 'linux') return null;
  try {
    return fs.readFileSync(file, 'utf8');
  } catch {
    return null;
  }
}

/** A number that stands alone in a file; null where there is none. */
function numberIn(text: string | null): number | null {
  const digits = /^\s*(-?\d+)\s*$/.exec(text ?? '')?.[1];
  return digits === undefined ? null : Number(digits);
}

function limitIn(limits: string | null, name: string): Limit | null {
  const bound = '(unlimited|\\d+)';
  const found = new RegExp(`^${name}\\s+${bound}\\s+${bound}\\s`, 'm').exec(limits ?? '');
  if (!found) return null;
  const [soft, hard] = found
    .slice(1)
    .map((text) => (text === 'unlimited' ? text : Number(text))) as Limit['soft'][];
  return { soft: soft!, hard: hard! };
}

/** `text`: /proc/self/limits. */
export function limitsIn(text: string | null): Limits {
  return {
    descriptors: limitIn(text, 'Max open files'),
    lockedMemory: limitIn(text, 'Max locked memory'),
  };
}

export const limits = (): Limits => limitsIn(read('/proc/self/limits'));

/** `status`: /proc/self/status; the others: the files of those names in /proc/sys/kernel. */
export function restrictionsIn(
  status: string | null,
  ioUringDisabled: string | null,
  ioUringGroup: string | null,
): Restrictions {
  const mode = /^Seccomp:\s*(\d)\s*$/m.exec(status ?? '')?.[1];
  return {
    seccomp: mode === undefined ? null : ((['off', 'strict', 'filter'] as const)[+mode] ?? null),
    ioUringDisabled: numberIn(ioUringDisabled),
    ioUringGroup: numberIn(ioUringGroup),
  };
}

export const restrictions = (): Restrictions =>
  restrictionsIn(
    read('/proc/self/status'),
    read('/proc/sys/kernel/io_uring_disabled'),
    read('/proc/sys/kernel/io_uring_group'),
  );

export function system(): System {
  const { bun, deno, napi } = process.versions as NodeJS.ProcessVersions & { deno?: string };
  return {
    name: os.type(),
    kernel: os.release(),
    architecture: process.arch,
    // Not from lib/support, which is part of what may not load.
    runtime: bun ? `Bun v${bun}` : deno ? `Deno v${deno}` : `Node.js ${process.version}`,
    nodeApi: napi ?? null,
  };
}
