/**
 * Whether the library works in this process, and all that has a bearing on it. The addon is loaded
 * here, when it is asked for: not being able to is one of the answers.
 */
import { getSystemErrorName } from 'node:util';
import type * as binding from '../native/binding';
import type * as port from '../port';
import { platformName, type LoadError } from '../loader';
import { advise } from './advice';
import { libraryVersion, limits, restrictions, system } from './facts';
import type {
  BinaryFinding,
  CapabilityFinding,
  Diagnosis,
  DriverFinding,
  NudgeFinding,
} from './findings';

type Binding = typeof binding;

function loadBinary(): { loaded: Binding | undefined; finding: BinaryFinding } {
  const platform = platformName();
  try {
    const loaded = require('../native/binding') as Binding;
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

/**
 * Looks, tries the driver by sending a packet through a port, and says what would make it better.
 * Does not fail where the library does not work: that is an answer.
 */
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
