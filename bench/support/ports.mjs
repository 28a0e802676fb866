/**
 * A port on the driver that is asked for, or none where it can't be had.
 */
import { CompletionPort } from 'completion-port';
import { report } from './stopwatch.mjs';

export function makePort(options) {
  const port = tryToMake(options);
  if (port?.driver === options.driver) return port;
  report({ notMeasured: `no ${options.driver} here${port ? `: ${port.driverReason}` : ''}` });
  process.exit(0);
}

export function driverIsHad(driver) {
  const port = tryToMake({ driver });
  void port?.close();
  return port?.driver === driver;
}

/** Ends the process where that driver is unavailable. */
export function assertDriver(driver) {
  void makePort({ driver }).close();
}

function tryToMake(options) {
  try {
    return new CompletionPort(options);
  } catch (error) {
    if (options.driver !== 'io_uring') throw error;
    return undefined;
  }
}
