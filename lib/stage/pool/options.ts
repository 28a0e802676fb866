/**
 * What `new Pipeline` takes, and the checks of it.
 */
import { existsSync } from 'node:fs';
import path = require('node:path');
import { fileURLToPath, pathToFileURL } from 'node:url';
import * as validate from '../../support/validate';
import type { JavaScriptStageOptions, NativeStageOptions, Stage } from '../api';
import { machineOf } from '../definition/definition';
import { checkTargets, unknownStage } from '../failures';
import { settingsOf, type Settings } from '../definition/frames';

/** A stage's options, checked. */
export interface StageSpecification {
  readonly name: string;
  readonly index: number;
  /** Of a native stage. */
  readonly native: Settings | undefined;
  /** Index of the stage that a native one hands documents to. */
  readonly next: number;
  /** In this thread. */
  readonly here: Stage | undefined;
  /** URL of the module. */
  readonly module: string;
  readonly threads: number;
  readonly concurrency: number | undefined;
  readonly pin: boolean;
  readonly dispatch: 'any' | 'affine';
  readonly order: 'arrival' | 'state';
  readonly queue: number;
  readonly data: unknown;
}

const DEFAULT_THREADS = 5;
const MOST_THREADS = 256;
/** Their indexes are bytes; the last says none. */
const MOST_STAGES = 255;
export const MOST_CONNECTIONS = 2 ** 20 - 1;

export function checkStages(stages: unknown): StageSpecification[] {
  if (typeof stages !== 'object' || stages === null) {
    throw validate.invalidType('stages', 'of type object', stages);
  }
  const entries = Object.entries(stages as Record<string, unknown>);
  if (entries.length === 0 || entries.length > MOST_STAGES) {
    throw validate.outOfRange('stages', `from 1 to ${MOST_STAGES} stages`, entries.length);
  }
  const names = entries.map(([name]) => name);
  const all = entries.map(([name, options], index) => checkStage(name, index, options, names));
  for (const { name, native, next } of all) {
    if (native === undefined || all[next]!.native === undefined) continue;
    const reason = 'must be a stage with handlers: a native one takes no documents';
    throw validate.invalidValue(`stages.${name}.next`, reason, names[next]);
  }
  return all;
}

const known = [
  'stage',
  'threads',
  'concurrency',
  'pin',
  'dispatch',
  'order',
  'queueLimit',
  'data',
] as const;

function checkStage(
  name: string,
  index: number,
  given: unknown,
  names: readonly string[],
): StageSpecification {
  const at = `stages.${name}`;
  if (machineOf(given) !== undefined) {
    throw validate.invalidValue(at, 'is a stage itself: write { stage, threads: 0 }', given);
  }
  if (given instanceof URL || typeof given === 'string') {
    throw validate.invalidType(at, 'of type object: { stage: module }', given);
  }
  if (typeof given !== 'object' || given === null) {
    throw validate.invalidType(at, 'of type object', given);
  }
  if ('native' in given) return checkNative(name, index, given as NativeStageOptions, names);
  validate.known(given, at, known);
  const options = given as JavaScriptStageOptions;
  const { threads = DEFAULT_THREADS, concurrency, data } = options;
  validate.integer(threads, `${at}.threads`, 0, MOST_THREADS);
  if (concurrency !== undefined) validate.integer(concurrency, `${at}.concurrency`, 1, 1024);
  const here = hereOf(options.stage, threads, at);
  if (here !== undefined && data !== undefined) {
    const reason = 'is for the module of a stage, in threads of its own';
    throw validate.invalidValue(`${at}.data`, reason, data);
  }
  checkTargets(name, machineOf(here)?.stages, names);
  return {
    name,
    index,
    native: undefined,
    next: -1,
    here,
    module: here === undefined ? moduleUrl(options.stage, `${at}.stage`) : '',
    threads,
    concurrency,
    pin: validate.boolean(options.pin ?? false, `${at}.pin`),
    dispatch: validate.oneOf(options.dispatch ?? 'any', `${at}.dispatch`, ['any', 'affine']),
    order: validate.oneOf(options.order ?? 'arrival', `${at}.order`, ['arrival', 'state']),
    queue: validate.bound(options.queueLimit ?? 65536, `${at}.queueLimit`, 1, 2 ** 32 - 1),
    data,
  };
}

const DEFAULT_NATIVE_THREADS = 2;
const MOST_NATIVE_THREADS = 64;

function checkNative(
  name: string,
  index: number,
  options: NativeStageOptions,
  names: readonly string[],
): StageSpecification {
  const at = `stages.${name}`;
  validate.known(options, at, ['native', 'next', 'threads', 'concurrency', 'pin']);
  const settings = settingsOf(options.native);
  if (settings === undefined) {
    throw validate.invalidValue(`${at}.native`, 'must be what frames() returned', options.native);
  }
  const next = names.indexOf(validate.string(options.next, `${at}.next`));
  if (next < 0) throw unknownStage(options.next, names);
  if (next === index) {
    throw validate.invalidValue(`${at}.next`, 'must be another stage', options.next);
  }
  const { threads = DEFAULT_NATIVE_THREADS, concurrency } = options;
  validate.integer(threads, `${at}.threads`, 1, MOST_NATIVE_THREADS);
  if (concurrency !== undefined) validate.integer(concurrency, `${at}.concurrency`, 1, 1024);
  return {
    name,
    index,
    native: settings,
    next,
    here: undefined,
    module: '',
    threads,
    concurrency,
    pin: validate.boolean(options.pin ?? false, `${at}.pin`),
    dispatch: 'any',
    order: 'arrival',
    queue: 65536,
    data: undefined,
  };
}

function hereOf(stage: unknown, threads: number, at: string): Stage | undefined {
  if (machineOf(stage) === undefined) {
    if (threads > 0) return undefined;
    const reason = 'must be what defineStage() returned when there are no threads';
    throw validate.invalidValue(`${at}.stage`, reason, stage);
  }
  if (threads === 0) return stage as Stage;
  const reason = 'must be the URL of a module: other threads have to load it';
  throw validate.invalidValue(`${at}.stage`, reason, stage);
}

function moduleUrl(stage: unknown, name: string): string {
  const isUrl = stage instanceof URL || (typeof stage === 'string' && /^(file|data):/.test(stage));
  if (!isUrl && typeof stage !== 'string') {
    throw validate.invalidType(name, 'of type string or an instance of URL', stage);
  }
  if (!isUrl && !path.isAbsolute(stage)) {
    throw validate.invalidValue(name, 'must be an absolute path or a URL', stage);
  }
  const url = isUrl ? new URL(stage) : pathToFileURL(stage);
  if (url.protocol === 'file:' && !existsSync(fileURLToPath(url))) {
    throw validate.invalidValue(name, 'names no file that is there', url.href);
  }
  return url.href;
}

export function stageNamed<T extends { readonly name: string }>(
  stages: readonly T[],
  name: unknown,
): T {
  const found = stages.find((stage) => stage.name === validate.string(name, 'stage'));
  if (found !== undefined) return found;
  throw unknownStage(
    name,
    stages.map((stage) => stage.name),
  );
}
