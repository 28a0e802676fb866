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

function tryToMake(options) {
  try {
    return new CompletionPort(options);
  } catch (error) {
    if (options.driver !== 'io_uring') throw error;
    return undefined;
  }
}
