/**
 * What lies in a job: values as V8 serializes them, in base64, since BullMQ keeps JSON. Both sides find
 * a task by the name of the job, which has no path: the file lies elsewhere on another machine.
 */
import { deserialize, serialize } from 'node:v8';
import { toThrown, type Thrown } from '../support/thrown';
import type { Known } from '../cpu/tasks';
import * as validate from '../support/validate';

export interface JobData {
  readonly args: string;
  /** Of the last attempt that failed. */
  readonly failure?: Failure;
}

/** What BullMQ keeps of an error is its message, by which it is found here. */
interface Failure {
  readonly reason: string;
  readonly thrown: string;
}

/** File and name, `sum.tasks.mjs#sumn`. */
export function jobName({ module, name }: Known): string {
  const file = /^file:.*\/([^/?#]+)/.exec(module)?.[1];
  if (file !== undefined) return `${decodeURIComponent(file)}#${name}`;
  throw validate.invalidValue('task', 'must be of a module in a file to go elsewhere', module);
}

/** Throws a DataCloneError that names `who`. */
export function pack(values: readonly unknown[], who: string): string {
  try {
    return serialize(values).toString('base64');
  } catch (error) {
    const text = `${who}: ${(error as Error).message}`;
    throw new DOMException(text, { name: 'DataCloneError', cause: error } as never);
  }
}

export function unpack(text: string): unknown[] {
  // Typed arrays that are found are views of what is deserialized: not of memory others share.
  const bytes = Buffer.allocUnsafeSlow(Buffer.byteLength(text, 'base64'));
  bytes.write(text, 'base64');
  return deserialize(bytes) as unknown[];
}

function clones(value: unknown): boolean {
  try {
    serialize(value);
    return true;
  } catch {
    return false;
  }
}

export function failureOf(error: unknown, reason: string): Failure {
  return { reason, thrown: serialize(toThrown(error, clones)).toString('base64') };
}

/** What was thrown; undefined where BullMQ tells of another end than the task's. */
export function thrownIn(data: JobData | undefined, reason: string): Thrown | undefined {
  if (data?.failure?.reason !== reason) return undefined;
  return unpack(data.failure.thrown) as unknown as Thrown;
}
