/**
 * Whether the library works in this process, and all that has a bearing on it. The addon is loaded
 * here, when it is asked for: not being able to is one of the answers.
 */
import { getSystemErrorName } from 'node:util';
import type * as binding from '../binding';
import type * as port from '../port';
import { platformName, type LoadError, type Origin, type Unusable } from '../loader';
import { advise } from './advice';
import { libraryVersion, limits, restrictions, system } from './facts';
import type { Limits, Restrictions, System } from './facts';

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

type Binding = typeof binding;

function loadBinary(): { loaded: Binding | undefined; finding: BinaryFinding } {
  const platform = platformName();
  try {
    const loaded = require('../binding') as Binding;
    const { bindingFile: file, bindingOrigin: origin, ABI: abi } = loaded;
    return { loaded, finding: { platform, file, origin, abi, tried: [] } };
  } catch (error) {
    const { code, tried } = error as LoadError;
    if (code !== 'ERR_COMPLETION_PORT_BINDING') throw error;
    return { loaded: undefined, finding: { platform, file: null, origin: null, abi: null, tried } };
  }
}

/** Not only which driver would be chosen: a packet goes through a port of it. */
async function tryDriver(loaded: Binding | undefined): Promise<DriverFinding> {
  const chosen = process.env['COMPLETION_PORT_DRIVER'] || null;
  if (loaded === undefined) return { name: null, reason: 'there is no binary', chosen };
  try {
    const { CompletionPort } = require('../port') as typeof port;
    const one = new CompletionPort({ concurrency: 1 });
    try {
      one.post(1, 2);
      const values = Array.from(one.get(1, 0), (packet) => packet.value);
      if (values[0] !== 2) throw new Error('a posted packet did not come back');
      return { name: one.driver, reason: one.driverReason, chosen };
    } finally {
      await one.close();
    }
  } catch (error) {
    return { name: null, reason: (error as Error).message, chosen };
  }
}

function askKernel(loaded: Binding | undefined): CapabilityFinding[] {
  const found = loaded?.binding.capabilities() ?? [];
  return found.map(({ errno, ...rest }) => ({
    ...rest,
    error: errno === 0 ? null : getSystemErrorName(errno),
  }));
}

function askNudging(loaded: Binding | undefined, driver: DriverFinding): NudgeFinding | null {
  if (loaded === undefined || driver.name !== 'io_uring') return null;
  const { mode, reason } = loaded.binding.nudging();
  return mode === '' ? null : { mode, reason };
}

function statusOf(driver: DriverFinding): Diagnosis['status'] {
  if (driver.name === null) return 'broken';
  return driver.reason === '' || driver.name === driver.chosen ? 'good' : 'fallback';
}

export async function diagnose(): Promise<Diagnosis> {
  const { loaded, finding: binary } = loadBinary();
  const driver = await tryDriver(loaded);
  const facts = {
    version: libraryVersion(),
    status: statusOf(driver),
    system: system(),
    binary,
    driver,
    capabilities: askKernel(loaded),
    nudge: askNudging(loaded, driver),
    restrictions: restrictions(),
    limits: limits(),
  };
  return { ...facts, advice: advise(facts) };
}
