/**
 * Several things at one time: scopes, and waiting for all of them, for the first, or for one of them.
 */
import type { Waitable } from '../api';
import { abortError, invalidState, timedOut } from '../support/errors';
import { endWith, outlive } from '../support/lifetime';
import { Operation } from '../await/operation';
import type { Suspension, Waiter } from '../await/suspension';
import { clearTimeout, now, setTimeout } from '../support/timers';
import * as validate from '../support/validate';
import type * as api from './api';
import { Channel } from './channel';
import { cleanedUp } from './clean-up';
import { each } from './each';
import { cancelled, noGenerator, spawnFor, spawnInside } from './spawn';
import { Takable } from './taking';
import { MicroThread, waitsForItself, type Parent } from './thread';
import { milliseconds, Wait } from './wait';

const LARGEST = 2 ** 31 - 1;

/** Whether `yield*` takes it, and `for`. */
function isIterable(value: unknown): boolean {
  return typeof (value as Partial<Waitable<unknown>> | null)?.[Symbol.iterator] === 'function';
}

function notWaitable(name: string, value: unknown): Error {
  let meant = '';
  if (validate.isThenable(value)) meant = ', as wait(promise) is';
  if (typeof value === 'function') meant = ', as what a generator function returns: call it';
  return validate.invalidType(name, `what yield* waits for${meant}`, value);
}

// ---- within

/**
 * Waits for `waitable` for `delay` milliseconds at most: then that is cancelled, and `ETIMEDOUT` is
 * thrown. An operation whose natural result comes first all the same gives that (rule O4). A generator
 * ends as a cancelled micro-thread does, and is waited for. 0 and Infinity: no limit of time. A
 * `signal` ends it likewise, with an `AbortError`.
 */
export function* within<T>(
  delay: number,
  waitable: Waitable<T>,
  options: api.WithinOptions = {},
): api.Micro<T> {
  const limit = milliseconds(delay, 'delay');
  if (!isIterable(waitable)) throw notWaitable('waitable', waitable);
  validate.options(options);
  validate.known(options, 'options', ['name', 'signal']);
  const signal = validate.signal(options.signal);
  const timed = limit !== 0 && limit !== Infinity;
  // An operation is under way already: it is cancelled, and may have its natural result.
  if (signal?.aborted && !(waitable instanceof Operation)) throw abortError(signal.reason);
  if (!timed && signal === undefined) return yield* waitable;
  const inner = waitable instanceof Operation ? waitable : spawnInside(waitable, within);
  let failure: (() => Error) | undefined;
  const end = (why: () => Error): void => {
    now();
    failure ??= why;
    inner.cancel();
  };
  const expired = (): Error => timedOut(options.name ?? 'within', {});
  const timer = timed ? setTimeout(end, limit, expired) : undefined;
  const watch = { onAbort: (): void => end(() => abortError(signal!.reason)) };
  if (signal !== undefined) endWith(signal, watch);
  function* limited(): api.Micro<T> {
    try {
      return yield* inner as Waitable<T>;
    } catch (error) {
      const cut = (error as { code?: unknown } | null)?.code === 'ECANCELED';
      throw cut && failure !== undefined ? failure() : error;
    }
  }
  return yield* cleanedUp(limited(), function* () {
    clearTimeout(timer);
    if (signal !== undefined) outlive(signal, watch);
    if (inner instanceof MicroThread) yield* cancelled(inner);
  });
}

// ---- scopes

/** What lives in a scope; it is over when nothing does. */
class Scope extends Wait<void> implements api.Scope, Parent {
  readonly owner = MicroThread.current;
  private readonly living = new Set<MicroThread<unknown>>();
  private readonly errors: unknown[] = [];
  /** All of it is to end, what is spawned meanwhile as well. */
  private ending = false;

  override get what(): string {
    return 'scope';
  }

  spawn<T>(
    body: (() => api.Micro<T>) | api.Micro<T>,
    options: api.SpawnOptions = {},
  ): MicroThread<T> {
    if (this.done) throw invalidState('The scope has ended');
    // eslint-disable-next-line @typescript-eslint/unbound-method -- names the caller
    const thread = spawnFor(this, body, options, this.spawn);
    if (this.ending) thread.cancel();
    return thread;
  }

  cancel(reason?: unknown): void {
    for (const thread of [...this.living]) {
      if (thread !== MicroThread.current) thread.cancel(reason);
    }
  }

  /** @internal */
  began(thread: MicroThread<unknown>): void {
    this.living.add(thread);
  }

  /** @internal */
  ended(thread: MicroThread<unknown>): void {
    this.living.delete(thread);
    if (thread.threwError) {
      this.errors.push(thread.failure());
      this.end();
    }
    if (this.living.size === 0) this.fulfil();
  }

  /** @internal Nothing in it goes on. */
  end(): void {
    if (this.ending) return;
    this.ending = true;
    this.cancel();
  }

  /** @internal Waits for the end of what is left, and throws what has failed. */
  *finish(): api.Micro<void> {
    try {
      if (!this.done) {
        this.end();
        yield* this;
      }
    } finally {
      for (const thread of [...this.living]) thread.expire(); // its clean-up waits no longer
    }
    this.rethrow();
  }

  /** The first failure, with the others in `errors`. */
  private rethrow(): void {
    if (this.errors.length === 0) return;
    const [first, ...others] = this.errors;
    if (others.length > 0 && typeof first === 'object' && first !== null) {
      Object.assign(first, { errors: others });
    }
    throw first;
  }

  protected override begin(): void {
    // It has begun with its first micro-thread.
  }

  protected override stop(): void {
    // Whoever leaves it ends it.
  }
}

/**
 * Runs `body`, which spawns micro-threads that live no longer than the scope: it waits for them, and
 * gives what `body` returns. The first failure cancels all others, `body` too, and is thrown, with
 * those of the others in its `errors`.
 */
export function* scope<T>(body: (scope: api.Scope) => api.Micro<T>): api.Micro<T> {
  validate.callback(body, 'body');
  const inside = new Scope();
  const main = inside.spawn(() => body(inside), { name: body.name });
  yield* cleanedUp(inside, () => inside.finish());
  return yield* main;
}

/**
 * What `fn` makes of each of `items`, in their order; `concurrency` of them are worked on at one
 * time, and the next one is asked for when there is room for it. The first failure cancels the others.
 */
export function* parallelMap<T, R>(
  items: Iterable<T> | api.EachSource<T>,
  fn: (item: T, index: number) => Waitable<R>,
  options: api.ParallelMapOptions,
): api.Micro<R[]> {
  if (!isIterable(items) && (typeof items !== 'object' || items === null)) {
    throw validate.invalidType('items', 'a channel or an iterable, async or not', items);
  }
  validate.callback(fn, 'fn');
  validate.given(options);
  validate.known(options, 'options', ['concurrency']);
  const places = new Channel<true>(
    validate.integer(options.concurrency, 'options.concurrency', 1, LARGEST),
  );
  const results: R[] = [];
  let count = 0;
  function* work(item: T, index: number): api.Micro<void> {
    try {
      const result = fn(item, index);
      if (!isIterable(result)) throw noGenerator(fn);
      results[index] = yield* result;
    } finally {
      places.tryTake();
    }
  }
  yield* scope(function* workers(inside) {
    const begin = (item: T): void => void inside.spawn(work(item, count++), { name: fn.name });
    yield* places.put(true);
    if (isIterable(items)) {
      for (const item of items as Iterable<T>) {
        begin(item);
        yield* places.put(true);
      }
      return;
    }
    for (const item of yield* each(items as api.EachSource<T>)) {
      begin(item);
      yield* places.put(true);
      yield* each.next();
    }
  });
  return results;
}

// ---- groups

/** One of a group. */
class Branch implements Waiter {
  private readonly group: Group;
  private readonly index: number;

  constructor(group: Group, index: number) {
    this.group = group;
    this.index = index;
  }

  get behind(): readonly (Waiter | undefined)[] {
    return this.group.behind;
  }

  wake(): void {
    this.group.partIsOver(this.index);
  }
}

interface Other {
  readonly part: Suspension;
  readonly branch: Branch;
  readonly index: number;
}

const allOver = (group: Group): boolean => group.pending === 0;
const oneOver = (group: Group): boolean => group.winner >= 0;
const allOverOrOneFailed = (group: Group): boolean => group.pending === 0 || group.failure >= 0;

/** Several that are waited for; `enough` says for how long. */
class Group extends Wait<void> {
  readonly what: string;
  readonly parts: readonly Suspension[];
  pending: number;
  /** Which was over first, and which of those that failed; -1: none. */
  winner = -1;
  failure = -1;
  private enough: (group: Group) => boolean;
  /** Of those that it has heard of. */
  private readonly branches: (Branch | undefined)[] = [];
  private readonly over: boolean[] = [];

  constructor(what: string, parts: readonly Suspension[], enough: (group: Group) => boolean) {
    super();
    this.what = what;
    this.parts = parts;
    this.pending = parts.length;
    this.enough = enough;
  }

  /** Who can't go on while one of the parts does: nobody where another part may be enough. */
  get behind(): readonly (Waiter | undefined)[] {
    return this.enough === oneOver ? [] : [this.waiter];
  }

  /** Begins to wait for them, up to where it has enough. */
  start(): this {
    this.look();
    for (let i = 0; i < this.parts.length && !this.done; i++) this.hearPart(i);
    return this;
  }

  partIsOver(index: number): void {
    if (this.over[index]) return;
    this.over[index] = true;
    this.pending--;
    if (this.winner < 0) this.winner = index;
    if (this.failure < 0 && this.parts[index]!.failed) this.failure = index;
    this.look();
  }

  /** Lets the others go on without it. */
  leaveOthers(): void {
    for (const { part, branch } of this.others()) part.leave(branch);
  }

  /** Cancels those that are under way, and waits for their end. */
  *cancelOthers(): api.Micro<void> {
    this.hearOthers();
    const others = this.others();
    for (const { part, branch, index } of others) {
      if (part instanceof MicroThread) part.cancel();
      else if (part.abandon(branch)) this.partIsOver(index);
    }
    this.enough = allOver;
    this.done = false;
    this.pending = this.others().length;
    this.look();
    yield* this;
    for (const { part, branch } of others) {
      if (part instanceof MicroThread) part.reportFor(branch);
    }
  }

  /** The value of one that is over; throws where it failed. */
  result(index: number): unknown {
    const part = this.parts[index]!;
    part.next();
    return part.value;
  }

  protected override begin(): void {
    // See start().
  }

  protected override stop(): void {
    // Whoever leaves it says what becomes of the parts.
  }

  /** It has enough, before anybody is told. */
  protected decided(): void {
    // Only a selection lets go of the others at once.
  }

  private look(): void {
    if (this.done || !this.enough(this)) return;
    this.decided();
    this.fulfil();
  }

  private hearPart(index: number): void {
    const branch = new Branch(this, index);
    this.branches[index] = branch;
    this.parts[index]!.hear(branch);
  }

  /** Where it had enough before it heard of all: those that are under way, whether heard or not. */
  private hearOthers(): void {
    for (const [index, part] of this.parts.entries()) {
      const underWay = part instanceof MicroThread || part instanceof Operation;
      if (underWay && this.branches[index] === undefined) this.hearPart(index);
    }
  }

  /** Those that it has heard of, and that are not over. */
  private others(): Other[] {
    const others: Other[] = [];
    for (const [index, part] of this.parts.entries()) {
      const branch = this.branches[index];
      if (branch !== undefined && !this.over[index]) others.push({ part, branch, index });
    }
    return others;
  }
}

/** One of several: what another channel has, from now on, is for others. */
class Selection extends Group {
  protected override decided(): void {
    this.leaveOthers();
  }
}

function isSuspension(value: unknown): value is Suspension {
  return typeof (value as Partial<Suspension> | null | undefined)?.hear === 'function';
}

function refuseItself(one: unknown): void {
  if (one === MicroThread.current) throw waitsForItself();
}

/** Before any of them is started. */
function checkParts(waitables: readonly Waitable<unknown>[]): void {
  if (!Array.isArray(waitables)) {
    throw validate.invalidType('waitables', 'an instance of Array', waitables);
  }
  for (const waitable of waitables) {
    if (!isIterable(waitable)) throw notWaitable('waitables', waitable);
    refuseItself(waitable);
  }
}

/** Generators become micro-threads. */
function partsOf(
  waitables: readonly Waitable<unknown>[],
  above: (...args: never[]) => unknown,
): Suspension[] {
  return waitables.map((waitable) =>
    isSuspension(waitable) ? waitable : spawnInside(waitable, above),
  );
}

/**
 * Waits for all, generators among them side by side, and gives their values in the same order. The
 * first failure cancels the others, and is thrown when they have ended.
 */
export function* all<T extends readonly unknown[] | []>(waitables: {
  readonly [K in keyof T]: Waitable<T[K]>;
}): api.Micro<T> {
  checkParts(waitables);
  for (const one of waitables) if (one instanceof MicroThread) one.refuseCircle();
  const group = new Group('all', partsOf(waitables, all), allOverOrOneFailed).start();
  yield* cleanedUp(group, () => group.cancelOthers());
  if (group.failure >= 0) group.result(group.failure);
  return group.parts.map((_, i) => group.result(i)) as readonly unknown[] as T;
}

/**
 * Waits for the first that is over, generators among them side by side: gives its value, or throws
 * its failure. The others are cancelled, and have ended then.
 */
export function* race<T>(waitables: readonly Waitable<T>[]): api.Micro<T> {
  checkParts(waitables);
  if (waitables.length === 0) {
    throw validate.invalidValue('waitables', 'must not be empty', waitables);
  }
  const group = new Group('race', partsOf(waitables, race), oneOver).start();
  yield* cleanedUp(group, () => group.cancelOthers());
  return group.result(group.winner) as T;
}

/**
 * Waits for one of several cases: a channel that has a value, an operation, a micro-thread, `sleep`…
 * Gives which it is, and its value; where several are there, the first of them in `cases`. The others
 * go on: nothing is taken from their channels, and their operations are not cancelled, so that the
 * next `select` may have them again.
 */
export function* select<T extends object>(cases: {
  readonly [K in keyof T]: Waitable<T[K]> | api.ReadonlyChannel<T[K]>;
}): api.Micro<api.Selected<T>> {
  if (typeof cases !== 'object' || cases === null) {
    throw validate.invalidType('cases', 'of type object', cases);
  }
  const names = Object.keys(cases) as (keyof T)[];
  if (names.length === 0) throw validate.invalidValue('cases', 'must not be empty', cases);
  const parts = names.map((name) => caseOf(cases[name], String(name)));
  const group = new Selection('select', parts, oneOver).start();
  try {
    yield* group;
  } finally {
    group.leaveOthers();
  }
  return {
    which: names[group.winner]!,
    value: group.result(group.winner),
  } as api.Selected<T>;
}

function caseOf(one: unknown, name: string): Suspension {
  if (one instanceof Takable) return one.newTake();
  if (isSuspension(one)) {
    refuseItself(one);
    return one;
  }
  throw validate.invalidType(`cases.${name}`, 'a channel, an operation or a micro-thread', one);
}
