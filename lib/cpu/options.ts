/** What `pool` takes, checked. */
import { binding } from '../native/binding';
import * as validate from '../support/validate';
import type { PoolOptions } from './api';

export interface Settings {
  readonly minThreads: number;
  readonly maxThreads: number;
  /** Milliseconds, or Infinity. */
  readonly idleTimeout: number;
  readonly queueLimit: number;
  /** For each thread. */
  readonly thread: PoolOptions;
}

const OPTIONS = [
  ...['threads', 'minThreads', 'maxThreads', 'idleTimeout', 'queueLimit'],
  ...['resourceLimits', 'execArgv', 'name'],
];
const LIMITS = [
  ...['maxOldGenerationSizeMb', 'maxYoungGenerationSizeMb'],
  ...['codeRangeSizeMb', 'stackSizeMb'],
];
const MOST_THREADS = 256;
const IDLE = 10_000;
const QUEUE = 65536;
const LONGEST = 2 ** 31 - 1;

export function checkOptions(options: PoolOptions = {}): Settings {
  validate.options(options);
  validate.known(options, 'options', OPTIONS);
  const { resourceLimits, execArgv, name } = options;
  if (name !== undefined) validate.string(name, 'options.name');
  if (execArgv !== undefined) {
    validate.list(execArgv, 'options.execArgv');
    for (const one of execArgv) validate.string(one, 'options.execArgv');
  }
  if (resourceLimits !== undefined) checkLimits(resourceLimits);
  return {
    ...threadsOf(options),
    idleTimeout: unlimited(options.idleTimeout ?? IDLE, 'options.idleTimeout', LONGEST),
    queueLimit: unlimited(options.queueLimit ?? QUEUE, 'options.queueLimit', 2 ** 32 - 1),
    thread: { resourceLimits, execArgv, name },
  };
}

function threadsOf(options: PoolOptions): Pick<Settings, 'minThreads' | 'maxThreads'> {
  const { threads, minThreads, maxThreads } = options;
  if (threads !== undefined) {
    if (minThreads !== undefined || maxThreads !== undefined) {
      const reason = 'says both minThreads and maxThreads: give it alone';
      throw validate.invalidValue('options.threads', reason, threads);
    }
    validate.integer(threads, 'options.threads', 1, MOST_THREADS);
    return { minThreads: threads, maxThreads: threads };
  }
  const most = Math.min(MOST_THREADS, Math.max(binding.availableParallelism(), minThreads ?? 1));
  const max = validate.bound(maxThreads ?? most, 'options.maxThreads', 1, MOST_THREADS);
  const min = validate.integer(minThreads ?? max, 'options.minThreads', 0, max);
  return { minThreads: min, maxThreads: max };
}

/** Whole, or Infinity. */
function unlimited(value: number, name: string, most: number): number {
  return value === Infinity ? value : validate.integer(value, name, 0, most);
}

function checkLimits(limits: NonNullable<PoolOptions['resourceLimits']>): void {
  validate.options(limits, 'options.resourceLimits');
  validate.known(limits, 'options.resourceLimits', LIMITS);
  for (const [name, value] of Object.entries(limits)) {
    if (value === undefined) continue;
    const given = validate.number(value, `options.resourceLimits.${name}`);
    if (!(given > 0)) throw validate.outOfRange(`options.resourceLimits.${name}`, '> 0', value);
  }
}
