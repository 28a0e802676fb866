/**
 * Stacks of errors that were made elsewhere: what waited for them is added, as Node.js does where
 * they are awaited.
 */
import { isOfLibrary } from '../support/stack';

const traced = new WeakSet<object>();

/** Of the generators of a program, not of this library, nor of V8's between two of them. */
function isOfProgram(line: string): boolean {
  return !isOfLibrary(line) && !line.includes('<anonymous>') && !line.includes('node:');
}

/** Adds those that wait now; `above`: the function of the library that they called. */
export function trace(error: unknown, above: (...args: never[]) => unknown): unknown {
  if (!(error instanceof Error) || typeof error.stack !== 'string') return error;
  if (traced.has(error) || Object.isFrozen(error)) return error;
  traced.add(error);
  const here = { stack: '' };
  Error.captureStackTrace(here, above);
  const lines = here.stack.split('\n').slice(1).filter(isOfProgram);
  error.stack += lines.map((line) => line.replace(/^(\s+at )/, '\n$1async ')).join('');
  return error;
}
