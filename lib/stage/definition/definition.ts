/**
 * What a user writes: a stage, as a record, states and the handlers of events in each state; and
 * the table it is turned into.
 */
import type { Suspended } from '../../api';
import { coded } from '../../support/errors';
import { placeAbove } from '../../support/stack';
import * as validate from '../../support/validate';
import type {
  Connection,
  HandlerResult,
  RecordFields,
  Stage,
  StageContext,
  StageDefinition,
} from '../api';
import { eventNames } from './events';
import { checkFields } from './fields';

const brand: unique symbol = Symbol('completion-port.stage');

// eslint-disable-next-line @typescript-eslint/no-explicit-any
type AnyConnection = Connection<any, any, any>;
type AnyResult =
  HandlerResult<string> | Promise<HandlerResult<string>> | Handling<HandlerResult<string>>;
type Handling<T> = Generator<Suspended, T, unknown>;

/** The handlers that hold in one state, its own or those of `otherwise`. */
export interface State {
  readonly name: string;
  readonly index: number;
  /** Whether anything is to be received in this state. */
  readonly listens: boolean;
  readonly entered: ((c: AnyConnection) => AnyResult) | undefined;
  readonly handedOff: ((c: AnyConnection, from: string) => AnyResult) | undefined;
  readonly received: ((c: AnyConnection, bytes: Buffer) => AnyResult) | undefined;
  readonly ended: ((c: AnyConnection, rest: Buffer | undefined) => AnyResult) | undefined;
  readonly sent: ((c: AnyConnection, bytes: number) => AnyResult) | undefined;
  readonly fileSent: ((c: AnyConnection, bytes: number) => AnyResult) | undefined;
  readonly drain: ((c: AnyConnection) => AnyResult) | undefined;
  readonly posted: ((c: AnyConnection, value: number) => AnyResult) | undefined;
  readonly timeout: ((c: AnyConnection) => AnyResult) | undefined;
  readonly closed: ((c: AnyConnection) => void | Promise<void> | Handling<void>) | undefined;
  readonly abandoned: ((c: AnyConnection) => AnyResult) | undefined;
  readonly failed: ((c: AnyConnection, error: Error) => AnyResult) | undefined;
  readonly message: ((c: AnyConnection, message: unknown) => AnyResult) | undefined;
}

/** A stage as the runner uses it. */
export interface Machine {
  readonly record: RecordFields;
  readonly states: readonly State[];
  readonly indexes: ReadonlyMap<string, State>;
  readonly initial: State;
  /** Whether any state hears of files that have gone out. */
  readonly hearsOfFiles: boolean;
  /** Names of the stages it hands to; undefined: any. */
  readonly stages: readonly string[] | undefined;
  readonly local: ((c: AnyConnection) => unknown) | undefined;
  readonly setup: ((context: StageContext) => void | Promise<void>) | undefined;
  readonly teardown: ((context: StageContext) => void | Promise<void>) | undefined;
  /** File and line of its `defineStage`; undefined where stacks are not taken down. */
  readonly definedAt: string | undefined;
}

/** Bit 7 of a record's state says something else. */
const MOST_STATES = 127;

/**
 * Defines a stage: a small state machine that the threads of a pool run for each connection. The
 * compiler rejects a state or an event that there is not, and a field the record does not have.
 *
 * ```ts
 * export default defineStage({
 *   record: { received: 'u32' },
 *   states: {
 *     header: { received(c, bytes) { c.record.received += bytes.length; return 'body'; } },
 *     body: { received: (c) => c.handOff('work') },
 *   },
 * });
 * ```
 */
export function defineStage<
  const R extends RecordFields = Record<never, never>,
  S extends string = string,
  L = undefined,
  const N extends string = string,
>(definition: StageDefinition<R, S, L, N>): Stage<R, S> {
  if (typeof definition !== 'object' || definition === null) {
    throw validate.invalidType('definition', 'of type object', definition);
  }
  const known = [
    'record',
    'stages',
    'local',
    'setup',
    'teardown',
    'initial',
    'states',
    'otherwise',
  ];
  for (const name of Object.keys(definition)) {
    if (!known.includes(name)) throw unknownName(`definition.${name}`, known, name);
  }
  const machine = compile(definition, placeAbove(defineStage));
  const record = machine.record as R;
  const states = machine.states.map((state) => state.name as S);
  return Object.freeze({ [brand]: machine, record, states }) as unknown as Stage<R, S>;
}

/** The table of a stage; undefined for what `defineStage` did not make. */
export function machineOf(stage: unknown): Machine | undefined {
  return (stage as { readonly [brand]?: Machine } | null | undefined)?.[brand];
}

interface Untyped {
  readonly record?: unknown;
  readonly stages?: unknown;
  readonly local?: unknown;
  readonly setup?: unknown;
  readonly teardown?: unknown;
  readonly initial?: unknown;
  readonly states?: unknown;
  readonly otherwise?: unknown;
}

function compile(definition: Untyped, definedAt: string | undefined): Machine {
  const record = checkFields(definition.record);
  const { local, setup, teardown, states, otherwise = {} } = definition;
  for (const [name, given] of Object.entries({ local, setup, teardown })) {
    if (given !== undefined) validate.callback(given, `definition.${name}`);
  }
  if (typeof states !== 'object' || states === null) {
    throw validate.invalidType('definition.states', 'of type object', states);
  }
  const names = Object.keys(states);
  if (names.length === 0 || names.length > MOST_STATES) {
    throw validate.outOfRange('definition.states', `from 1 to ${MOST_STATES} states`, names.length);
  }
  checkHandlers(otherwise, 'definition.otherwise');
  const compiled = names.map((name, index) => {
    const own = (states as Record<string, unknown>)[name];
    checkHandlers(own, `definition.states.${name}`);
    return stateOf(name, index, own as object, otherwise as object);
  });
  const initial = definition.initial ?? names[0];
  const first = compiled.find((state) => state.name === initial);
  if (first === undefined) {
    throw validate.invalidValue('definition.initial', 'must name one of the states', initial);
  }
  return {
    record,
    states: compiled,
    indexes: new Map(compiled.map((state) => [state.name, state])),
    initial: first,
    hearsOfFiles: compiled.some(({ fileSent }) => fileSent !== undefined),
    stages: checkStageNames(definition.stages),
    local: local as Machine['local'],
    setup: setup as Machine['setup'],
    teardown: teardown as Machine['teardown'],
    definedAt,
  };
}

function checkStageNames(stages: unknown): readonly string[] | undefined {
  if (stages === undefined) return undefined;
  if (!Array.isArray(stages)) {
    throw validate.invalidType('definition.stages', 'an instance of Array', stages);
  }
  return stages.map((name, index) => validate.string(name, `definition.stages[${index}]`));
}

function checkHandlers(handlers: unknown, name: string): void {
  if (typeof handlers !== 'object' || handlers === null) {
    throw validate.invalidType(name, 'of type object', handlers);
  }
  for (const [event, handler] of Object.entries(handlers)) {
    if (!(eventNames as readonly string[]).includes(event)) {
      throw unknownName(`${name}.${event}`, eventNames, event);
    }
    if (handler !== undefined) validate.callback(handler, `${name}.${event}`);
  }
}

/** Every state has the same shape, so that calls of handlers stay monomorphic. */
function stateOf(name: string, index: number, own: object, otherwise: object): State {
  const chosen = { ...otherwise, ...own } as State;
  return {
    name,
    index,
    listens: chosen.received !== undefined || chosen.ended !== undefined,
    entered: chosen.entered,
    handedOff: chosen.handedOff,
    received: chosen.received,
    ended: chosen.ended,
    sent: chosen.sent,
    fileSent: chosen.fileSent,
    drain: chosen.drain,
    posted: chosen.posted,
    timeout: chosen.timeout,
    closed: chosen.closed,
    abandoned: chosen.abandoned,
    failed: chosen.failed,
    message: chosen.message,
  };
}

function unknownName(what: string, known: readonly string[], name: string): TypeError {
  return coded(
    new TypeError(`The property '${what}' is unknown: '${name}' is none of ${known.join(', ')}`),
    'ERR_INVALID_ARG_VALUE',
  );
}
