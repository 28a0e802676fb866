/**
 * Errors of the pool itself.
 */
import { coded, type CodedError } from '../support/errors';
import { warnOnce } from '../support/warnings';

export function workerDied(task: string, code: number, cause: Error | undefined): CodedError {
  const how = cause === undefined ? `ended with code ${code}` : `ended: ${cause.message}`;
  const error = new Error(`The thread that ran task '${task}' ${how}`, because(cause));
  return Object.assign(coded(error, 'ERR_WORKER_DIED'), { exitCode: code });
}

/** Threads die before they have run anything. */
export function poolBroken(cause: Error | undefined, code: number): CodedError {
  const how = cause === undefined ? `code ${code}` : cause.message;
  const text = `The threads of the pool end as soon as they start: ${how}`;
  return Object.assign(coded(new Error(text, because(cause)), 'ERR_WORKER_DIED'), {
    exitCode: code,
  });
}

/** No task fails with it, so nobody would hear. `stats().replaced` counts those that follow. */
export function diedBetweenTasks(thread: number, code: number, cause: Error | undefined): void {
  const how =
    cause === undefined ? `ended with code ${code}` : `ended: ${cause.stack ?? cause.message}`;
  warnOnce(
    'PoolThreadWarning',
    'CP_WARN_POOL_THREAD_DIED',
    `Thread ${thread} of a pool ${how}. It ran no task, and another one takes its place: something ` +
      'that a task has left behind, a timer or a promise perhaps, has thrown or called process.exit()',
  );
}

function because(cause: Error | undefined): ErrorOptions {
  return cause === undefined ? {} : { cause };
}

export function poolClosed(): CodedError {
  return coded(new Error('The pool is closed'), 'ERR_POOL_CLOSED');
}

export function poolFull(limit: number): CodedError {
  const text = `As many tasks wait for a thread of the pool as may (queueLimit: ${limit})`;
  return coded(new Error(text), 'ERR_QUEUE_FULL');
}
