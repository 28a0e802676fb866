/**
 * BullMQ, which only those install who want it. It is loaded when it is first used.
 */
import type * as bullmq from 'bullmq';
import { coded } from '../support/errors';
import { warnOnce } from '../support/warnings';

export function loadBullmq(): typeof bullmq {
  try {
    return require('bullmq') as typeof bullmq;
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'MODULE_NOT_FOUND') throw cause;
    const text =
      'completion-port/bullmq needs a package that is not installed: npm install bullmq ioredis';
    throw coded(new Error(text, { cause }), 'ERR_PEER_MISSING');
  }
}

/** As BullMQ takes it. */
export function connectionOf(given: string | object): bullmq.ConnectionOptions {
  return typeof given === 'string' ? { url: given } : given;
}

/** BullMQ tries again by itself, for ever. */
export function warnOfRedis(error: Error): void {
  const reason = error.message || (error as NodeJS.ErrnoException).code || 'no connection';
  warnOnce(
    'RedisWarning',
    'CP_WARN_REDIS',
    `Redis does not answer as it should, and tasks may wait for it: ${reason}`,
  );
}
