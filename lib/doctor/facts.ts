/**
 * What a process can learn about the system it is on without the addon. Nothing here throws: what
 * cannot be read (another system, a sandbox, the permission model) is null.
 */
import fs = require('node:fs');
import os = require('node:os');
import path = require('node:path');

/** A limit of the process: what holds, and how far it may be raised. */
export interface Limit {
  readonly soft: number | 'unlimited';
  readonly hard: number | 'unlimited';
}

export interface Limits {
  /** RLIMIT_NOFILE */
  readonly descriptors: Limit | null;
  /** RLIMIT_MEMLOCK, bytes */
  readonly lockedMemory: Limit | null;
}

/** What may forbid io_uring. */
export interface Restrictions {
  /** seccomp(2) mode of this process: containers use 'filter'. */
  readonly seccomp: 'off' | 'strict' | 'filter' | null;
  /** kernel.io_uring_disabled: 0 granted to all, 1 to the group and the privileged, 2 to nobody. */
  readonly ioUringDisabled: number | null;
  /** kernel.io_uring_group: -1 none. */
  readonly ioUringGroup: number | null;
}

export interface System {
  /** 'Linux', 'Windows_NT' */
  readonly name: string;
  /** Release of the kernel. */
  readonly kernel: string;
  readonly architecture: string;
  /** 'Node.js v22.12.0', 'Bun v1.4.5' */
  readonly runtime: string;
  /** Node-API version of the runtime. */
  readonly nodeApi: string | null;
}

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

function readNumber(file: string): number | null {
  const text = read(file)?.trim();
  return text ? Number(text) : null;
}

function limit(limits: string | null, name: string): Limit | null {
  const found = new RegExp(`^${name}\\s+(\\S+)\\s+(\\S+)`, 'm').exec(limits ?? '');
  if (!found) return null;
  const [soft, hard] = found
    .slice(1)
    .map((text) => (text === 'unlimited' ? text : Number(text))) as Limit['soft'][];
  return { soft: soft!, hard: hard! };
}

export function limits(): Limits {
  const text = read('/proc/self/limits');
  return {
    descriptors: limit(text, 'Max open files'),
    lockedMemory: limit(text, 'Max locked memory'),
  };
}

export function restrictions(): Restrictions {
  const mode = /^Seccomp:\s*(\d)/m.exec(read('/proc/self/status') ?? '')?.[1];
  return {
    seccomp: mode === undefined ? null : ((['off', 'strict', 'filter'] as const)[+mode] ?? null),
    ioUringDisabled: readNumber('/proc/sys/kernel/io_uring_disabled'),
    ioUringGroup: readNumber('/proc/sys/kernel/io_uring_group'),
  };
}

export function system(): System {
  const { bun, napi } = process.versions;
  return {
    name: os.type(),
    kernel: os.release(),
    architecture: process.arch,
    runtime: bun ? `Bun v${bun}` : `Node.js ${process.version}`,
    nodeApi: napi ?? null,
  };
}
