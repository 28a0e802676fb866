/**
 * Tasks: functions that other threads find by the module that defines them, and their names.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import path = require('node:path');
import { pathToFileURL } from 'node:url';
import { coded } from '../support/errors';
import * as validate from '../support/validate';
import type { Task, TaskFunction, Tasks } from './api';

/** A task as it is known in this thread. */
export interface Known {
  readonly module: string;
  readonly name: string;
  readonly fn: (...args: unknown[]) => unknown;
}

/** Of each module, by name. */
const modules = new Map<string, Map<string, Known>>();
const tasks = new WeakMap<object, Known>();

/**
 * Makes tasks of functions. `module` is that of the call, `import.meta.url` or `__filename`: other
 * threads import it, and find the functions under the same names. Names are those of their module
 * alone. To define a name again replaces it.
 */
export function defineTasks<T extends Readonly<Record<string, TaskFunction>>>(
  module: string | URL,
  functions: T,
): Tasks<T> {
  const url = urlOf(module);
  validate.object(functions, 'functions');
  const named = Object.entries(functions);
  if (named.length === 0) throw validate.invalidValue('functions', 'has no function', functions);
  for (const [name, fn] of named) validate.callback(fn, `functions.${name}`);
  const own = modules.get(url) ?? new Map<string, Known>();
  modules.set(url, own);
  for (const [name, fn] of named) {
    const known = { module: url, name, fn: fn as unknown as Known['fn'] };
    own.set(name, known);
    tasks.set(fn, known);
    Object.defineProperty(fn, 'name', { value: name, configurable: true });
    Object.defineProperty(fn, 'module', { value: url, configurable: true });
  }
  return { ...functions } as unknown as Tasks<T>;
}

function urlOf(module: unknown): string {
  if (module instanceof URL) return module.href;
  const text = validate.string(module, 'module');
  if (/^(file|data):/.test(text)) return text;
  if (path.isAbsolute(text)) return pathToFileURL(text).href;
  throw validate.invalidValue('module', 'must be import.meta.url or __filename', module);
}

/** Throws for what is no task. */
export function knownOf(task: unknown): Known {
  const known = typeof task === 'function' ? tasks.get(task) : undefined;
  if (known !== undefined) return known;
  throw validate.invalidType('task', 'a function that defineTasks() returned', task);
}

/** The task with these names, in a thread that has imported its module. */
export function findTask(module: string, name: string): Known {
  const found = modules.get(module)?.get(name);
  if (found !== undefined) return found;
  const names = [...(modules.get(module)?.keys() ?? [])];
  const has = names.length === 0 ? 'no tasks' : `only ${names.join(', ')}`;
  throw coded(
    new Error(
      `Task '${name}' is not in ${module}, which defines ${has}: its defineTasks() has to be called ` +
        'with import.meta.url, or __filename, whenever the module is imported',
    ),
    'ERR_TASK_MODULE',
  );
}

/** All that this thread has. */
export function allTasks(): Known[] {
  return [...modules.values()].flatMap((own) => [...own.values()]);
}

/** The module that is being imported for its tasks, in what it does meanwhile and what comes of that. */
const imported = new AsyncLocalStorage<string>();

/** Modules that have failed: what they had defined by then is not to be run. */
const broken = new Set<string>();

/** Imports a module for its tasks. `what` names it in the error. */
export async function importModule(url: string, what: string): Promise<void> {
  try {
    await imported.run(url, () => import(url));
  } catch (cause) {
    broken.add(url);
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw coded(new Error(`${what} does not load: ${reason}`, { cause }), 'ERR_TASK_MODULE');
  }
}

/** Imports the module of a task. */
export async function importTask(module: string, name: string): Promise<Known> {
  if (modules.get(module)?.has(name) !== true || broken.has(module)) {
    await importModule(module, `The module of task '${name}', ${module},`);
  }
  return findTask(module, name);
}

/**
 * For policies that have the module imported elsewhere. One that calls its own task then calls it
 * there as well: threads, or jobs, without end.
 */
export function refuseOwnCalls({ module, name }: Known): void {
  if (imported.getStore() !== module) return;
  throw coded(
    new Error(
      `Task '${name}' is called by its own module, ${module}, where it is imported to run the task: ` +
        'tasks belong in a module that calls none of them when it is imported',
    ),
    'ERR_TASK_MODULE',
  );
}

/** The function of a known task, for policies. */
export function taskOf(known: Known): Task {
  return known.fn as unknown as Task;
}
