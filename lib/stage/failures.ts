/**
 * Failures of connections and handlers: where they are told. A thread of a pool tells its own
 * subscribers, and the pipeline's thread, which tells its. Where else connections are told of.
 */
import diagnostics = require('node:diagnostics_channel');
import { inspect } from 'node:util';
import { coded, type CodedError } from '../support/errors';
import type { StageFailure } from './api';

const channel = diagnostics.channel('completion-port:stage:failed');
/** Channels for what becomes of connections and tasks, in the thread that is at them. */
export const arrived = diagnostics.channel('completion-port:connection:arrived');
export const handedOff = diagnostics.channel('completion-port:connection:handedOff');
export const closed = diagnostics.channel('completion-port:connection:closed');

/** A failure whose trace nobody has looked at. */
export type RawFailure = Omit<StageFailure, 'trace'> & { readonly trace: Uint32Array | undefined };

/** Whether this thread has subscribers that failures are told. */
export function hasSubscribers(): boolean {
  return channel.hasSubscribers;
}

export function publish(failure: StageFailure): void {
  channel.publish(failure);
}

export function unknownState(stage: string, state: string, key: number, next: unknown): CodedError {
  const what = typeof next === 'string' ? `unknown state '${next}'` : `no state: ${inspect(next)}`;
  return coded(
    new Error(`Stage '${stage}', state '${state}', key ${key}: the handler returned ${what}`),
    'ERR_UNKNOWN_STATE',
  );
}

/** By whoever looks for connections in it. */
export function unknownStateAsked(
  state: string,
  stage: string | undefined,
  known: readonly string[],
): CodedError {
  const where = stage === undefined ? 'No stage of this pipeline has' : `Stage '${stage}' has no`;
  const states = [...new Set(known)].map((name) => `'${name}'`).join(', ');
  const what = stage === undefined ? `a state '${state}'` : `state '${state}'`;
  return coded(new Error(`${where} ${what}; there are ${states}`), 'ERR_UNKNOWN_STATE');
}

export function unknownStage(name: unknown, known: readonly string[]): CodedError {
  const stages = known.map((stage) => `'${stage}'`).join(', ');
  return coded(
    new Error(`There is no stage ${inspect(name)} in this pipeline; it has ${stages}`),
    'ERR_UNKNOWN_STAGE',
  );
}

/** Of `defineStage`'s `stages`: `stage` hands to one that the pipeline does not have. */
export function checkTargets(
  stage: string,
  targets: readonly string[] | undefined,
  known: readonly string[],
): void {
  const missing = targets?.find((name) => !known.includes(name));
  if (missing === undefined) return;
  const stages = known.map((name) => `'${name}'`).join(', ');
  throw coded(
    new Error(
      `Stage '${stage}' hands over to '${missing}' (definition.stages), which is not in this ` +
        `pipeline; it has ${stages}`,
    ),
    'ERR_UNKNOWN_STAGE',
  );
}

/** Of a hand-off to a stage that is not among those which the definition names. */
export function unlistedStage(stage: string, name: string, targets: readonly string[]): CodedError {
  const stages = targets.map((target) => `'${target}'`).join(', ') || 'none';
  return coded(
    new Error(
      `Stage '${stage}' does not hand over to '${name}': definition.stages names ${stages}`,
    ),
    'ERR_UNKNOWN_STAGE',
  );
}

export function endlessTransitions(stage: string, state: string, key: number): CodedError {
  return coded(
    new Error(`Stage '${stage}', state '${state}', key ${key}: transitions without end`),
    'ERR_ENDLESS_TRANSITIONS',
  );
}

export function pipelineClosed(): CodedError {
  return coded(new Error('The pipeline is closed'), 'ERR_PIPELINE_CLOSED');
}

/** What was thrown, as an Error. A program may throw anything, a revoked Proxy as well. */
export function asError(thrown: unknown): Error {
  if (tried(() => thrown instanceof Error, false)) return thrown as Error;
  const what = tried(() => inspect(thrown), 'what cannot be looked at');
  return coded(new Error(`A handler threw ${what}`, { cause: thrown }), 'ERR_THROWN');
}

function tried<T>(look: () => T, otherwise: T): T {
  try {
    return look();
  } catch {
    return otherwise;
  }
}

/** A property of an error that should be text, and may be anything. */
function textOf(error: Error, name: 'name' | 'message' | 'stack'): string | undefined {
  const value = tried<unknown>(() => error[name], undefined);
  if (value === undefined || typeof value === 'string') return value;
  return tried(() => inspect(value), undefined);
}

/** An error as it can be posted to another thread: a class of a user's own can't. */
export interface PlainError {
  readonly name: string;
  readonly message: string;
  readonly stack: string | undefined;
  readonly properties: Readonly<Record<string, string | number | boolean>>;
}

export function toPlain(error: Error): PlainError {
  const properties: Record<string, string | number | boolean> = {};
  for (const key of tried(() => Object.keys(error), [])) {
    const value = tried(() => (error as unknown as Record<string, unknown>)[key], undefined);
    if (['string', 'number', 'boolean'].includes(typeof value)) properties[key] = value as string;
  }
  return {
    name: textOf(error, 'name') ?? 'Error',
    message: textOf(error, 'message') ?? '',
    stack: textOf(error, 'stack'),
    properties,
  };
}

export function fromPlain(plain: PlainError): Error {
  const error = new Error(plain.message);
  if (plain.name !== 'Error') error.name = plain.name;
  if (plain.stack !== undefined) error.stack = plain.stack;
  return Object.assign(error, plain.properties);
}
