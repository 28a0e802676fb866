/** What the tests of computation share. */
import { createRequire } from 'node:module';
import { onTestFinished } from 'vitest';
import type * as api from '../../dist/cpu.js';

const require = createRequire(import.meta.url);
/** Modules as Node.js itself loads them: threads look for what these URLs name. */
export const { applyWith, cpu, defineTasks, exclusive, inline, pool, setApply, transfer } =
  require('../../dist/cpu.js') as typeof api;

/* eslint-disable-next-line @typescript-eslint/no-explicit-any */
type Any = api.Task<(...args: any[]) => any>;
type Fixture = Readonly<Record<string, Any>>;

const { tasks: all } = (await import('./fixtures/tasks.mjs')) as { tasks: Fixture };
export const tasks = new Proxy(all, {
  get(target, name: string) {
    const found = target[name];
    if (found === undefined) throw new Error(`no task is called ${name}`);
    return found;
  },
}) as Readonly<Record<string, Any>> & { readonly sumn: Any };

/** A pool that is closed after the test. */
export function newPool(options?: api.PoolOptions): api.Pool {
  const made = pool(options);
  onTestFinished(() => made.close());
  return made;
}

/** Memory that tasks share with the test: goes as a message, as it is. */
export function sharedWords(count = 16): Int32Array {
  return new Int32Array(new SharedArrayBuffer(4 * count));
}
