/**
 * Where tasks run: the policies, which one is current, and `cpu`, which asks it.
 */
import { AsyncLocalStorage } from 'node:async_hooks';
import type { Operation, Suspended } from '../api';
import * as validate from '../support/validate';
import type { Cpu, CpuOptions, Policy, Task } from './api';
import { Computation } from './computation';
import { knownOf, taskOf, type Known } from './tasks';

/** A policy of this library: it has the computation itself, and makes no promise of its own. */
export abstract class OwnPolicy implements Policy {
  /** Throws at once where the task can't be taken. */
  abstract begin(computation: Computation<unknown>, call: Call): void;

  apply<T extends Task>(
    task: T,
    args: Parameters<T>,
    options: { readonly signal?: AbortSignal | undefined } = noOptions,
  ): Operation<Awaited<ReturnType<T>>> {
    const known = knownOf(task);
    validate.list(args, 'args');
    validate.options(options);
    const { signal } = options;
    const call: Call = { known, args, terminate: false };
    return start(this, call, { signal }) as Operation<Awaited<ReturnType<T>>>;
  }
}

/** One call of a task. */
export interface Call {
  readonly known: Known;
  readonly args: readonly unknown[];
  readonly terminate: boolean;
}

const noOptions: CpuOptions = {};
const OPTIONS = ['signal', 'timeout', 'terminate'];

class Inline extends OwnPolicy {
  override begin(computation: Computation<unknown>, { known, args }: Call): void {
    computation.keepArgs();
    try {
      computation.follow(known.fn.apply(undefined, args as unknown[]));
    } catch (error) {
      computation.fail(error as Error);
    }
  }
}

const inPlace = new Inline();

/** In place, at once: the thread does nothing else meanwhile. The default. */
export function inline(): Policy {
  return inPlace;
}

// ---- which one is current

const storage = new AsyncLocalStorage<Policy>();
let fallback: Policy = inPlace;

function checked(policy: Policy): Policy {
  if (typeof (policy as Partial<Policy> | null | undefined)?.apply === 'function') return policy;
  throw validate.invalidType('policy', 'an object with a method apply()', policy);
}

/** Tasks that this thread calls run under `policy`, but for those within `applyWith`. */
export function setApply(policy: Policy): void {
  fallback = checked(policy);
}

/**
 * Calls `fn`, and returns what it returns. Tasks that it calls run under `policy`: also behind an
 * `await`, in micro-threads that it spawns, and in the generator that it returns, if it is a
 * generator's function: `yield* applyWith(policy, function* () { … })`.
 */
export function applyWith<T>(policy: Policy, fn: () => T): T {
  checked(policy);
  validate.callback(fn, 'fn');
  const result = storage.run(policy, fn);
  return isGenerator(result) ? (new Within(policy, result) as T) : result;
}

type Generated = Generator<Suspended, unknown, unknown>;

function isGenerator(value: unknown): value is Generated {
  return Object.prototype.toString.call(value) === '[object Generator]';
}

/** A generator whose steps are made under a policy. Its results go through as they are. */
class Within {
  private readonly policy: Policy;
  private readonly generator: Generated;

  constructor(policy: Policy, generator: Generated) {
    this.policy = policy;
    this.generator = generator;
  }

  next(value: unknown): unknown {
    return storage.run(this.policy, () => this.generator.next(value));
  }

  throw(error: unknown): unknown {
    return storage.run(this.policy, () => this.generator.throw(error));
  }

  return(value: unknown): unknown {
    return storage.run(this.policy, () => this.generator.return(value));
  }

  [Symbol.iterator](): this {
    return this;
  }
}

// ---- calling

function start(policy: Policy, call: Call, options: CpuOptions): Operation<unknown> {
  const timeout = validate.timeout(options.timeout);
  const computation = new Computation<unknown>(call.known.name, call.args);
  if (!computation.begin(options, timeout)) return computation;
  try {
    if (policy instanceof OwnPolicy) {
      policy.begin(computation, call);
      computation.keepArgs();
    } else ask(policy, computation, call);
  } catch (error) {
    computation.refused();
    throw error;
  }
  return computation;
}

/** A policy of the program. What it throws is what the task fails with. */
function ask(policy: Policy, computation: Computation<unknown>, { known, args }: Call): void {
  const controller = new AbortController();
  computation.worker = { abandoned: () => controller.abort() };
  try {
    computation.follow(policy.apply(taskOf(known), args, { signal: controller.signal }));
  } catch (error) {
    computation.fail(error as Error);
  }
}

function call(task: Task, ...args: unknown[]): Operation<unknown> {
  const known = knownOf(task);
  return start(storage.getStore() ?? fallback, { known, args, terminate: false }, noOptions);
}

function callWith(options: CpuOptions, task: Task, ...args: unknown[]): Operation<unknown> {
  validate.given(options);
  validate.known(options, 'options', OPTIONS);
  const terminate = validate.boolean(options.terminate ?? false, 'options.terminate');
  const known = knownOf(task);
  return start(storage.getStore() ?? fallback, { known, args, terminate }, options);
}

/** Runs a task under the current policy. */
export const cpu: Cpu = Object.assign(call as unknown as Cpu, {
  with: callWith as unknown as Cpu['with'],
});
