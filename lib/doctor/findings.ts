/**
 * What the doctor finds.
 */
import type { Origin, Unusable } from '../loader';

/** A limit of the process: what holds, and how far it may be raised. */
export interface Limit {
  readonly soft: number | 'unlimited';
  readonly hard: number | 'unlimited';
}

/** Limits of the process that have a bearing on it. */
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

/** Where it runs. */
export interface System {
  /** 'Linux', 'Windows_NT' */
  readonly name: string;
  /** Release of the kernel. */
  readonly kernel: string;
  readonly architecture: string;
  /** 'Node.js v22.12.0', 'Bun v1.4.5', 'Deno v2.9.6' */
  readonly runtime: string;
  /** Node-API version of the runtime. */
  readonly nodeApi: string | null;
}

/** The native binary. */
export interface BinaryFinding {
  /** The folder of this platform in `prebuilds/`. */
  readonly platform: string;
  /** The one in use; null: none can be. */
  readonly file: string | null;
  readonly origin: Origin | null;
  /** Version of the interface between the binary and the library. */
  readonly abi: number | null;
  /** When none can be used: those that were tried, and why not. */
  readonly tried: readonly Unusable[];
}

export interface DriverFinding {
  /** The one in use; null: none works. */
  readonly name: string | null;
  /** Why it is not the platform's first choice, or why none works. */
  readonly reason: string;
  /** COMPLETION_PORT_DRIVER, when it chooses. */
  readonly chosen: string | null;
}

/** One thing the platform's first-choice driver asks of the kernel. */
export interface CapabilityFinding {
  readonly name: string;
  /** First kernel version that has it. */
  readonly since: string;
  /** Without it the driver is not used; else it only gets slower. */
  readonly required: boolean;
  /** null: granted; else the code the kernel answered with. */
  readonly error: string | null;
}

/**
 * How io_uring's completions reach other threads while the one they are for is busy: by a signal
 * that the library sends to that thread, with the timer's tick, or not before it comes.
 * COMPLETION_PORT_NUDGE chooses.
 */
export interface NudgeFinding {
  readonly mode: 'signal' | 'tick' | 'off';
  /** Why it is not the signal; '' when it is. */
  readonly reason: string;
}

/** What `completion-port doctor --json` prints. */
export interface Diagnosis {
  /** Of the library. */
  readonly version: string;
  /** good: the first choice, or the driver that was chosen, works; fallback: another does. */
  readonly status: 'good' | 'fallback' | 'broken';
  readonly system: System;
  readonly binary: BinaryFinding;
  readonly driver: DriverFinding;
  readonly capabilities: readonly CapabilityFinding[];
  /** null: the driver in use needs nothing of the kind. */
  readonly nudge: NudgeFinding | null;
  readonly restrictions: Restrictions;
  readonly limits: Limits;
  readonly advice: readonly string[];
}
