/**
 * The micro-threads of one thread as they can be posted to another one, and shown.
 */
import { inspect } from 'node:util';
import { living, type Living } from '../../await/suspension';
import { now } from '../../support/timers';

/** One that lives. */
export interface MicroThreadRow {
  readonly id: number;
  readonly name: string;
  readonly state: string;
  /** What it waits for, and of what. */
  readonly operation: string | undefined;
  readonly of: string | undefined;
  /** Milliseconds that it has waited. */
  readonly elapsed: number | undefined;
  /** The id of the one that spawned it. */
  readonly parent: number | undefined;
  readonly spawnedAt: string;
}

/** Those of one thread. */
export interface MicroThreads {
  /** How many there are: not all of them are among `rows`. */
  readonly count: number;
  readonly rows: readonly MicroThreadRow[];
}

/** The same with whose they are; without where that thread did not answer. */
export type ThreadsMicroThreads = { readonly thread: string } & Partial<MicroThreads>;

const MOST_ROWS = 200;
const MOST_TEXT = 100;

/** Those of this thread; none, and nothing is loaded for it, where a program has no micro-threads. */
export function microThreadsHere(): MicroThreads {
  const { count, first } = living.some?.(MOST_ROWS) ?? { count: 0, first: [] };
  const time = now();
  return { count, rows: first.map((one) => rowOf(one, time)) };
}

function rowOf(one: Living, time: number): MicroThreadRow {
  const { id, name, state, operation, of, since, parent, spawnedAt } = one;
  return {
    ...{ id, name, state, operation, spawnedAt },
    of: of && textOf(of),
    elapsed: since === undefined ? undefined : Math.max(0, time - since),
    parent: parent?.id,
  };
}

/** A handle or a channel, in a line. What a program made may throw when it is looked at. */
function textOf(object: object): string {
  try {
    const shown = inspect(object, { depth: -1, breakLength: Infinity });
    const text = shown.replace(/ \[Object\]$/, '').replaceAll(/\s+/g, ' ');
    return text.length > MOST_TEXT ? `${text.slice(0, MOST_TEXT)}…` : text;
  } catch {
    return 'object';
  }
}
