/**
 * Micro-threads: generators that run until they wait, and go on when what they wait for is there.
 */
import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import { inspect } from 'node:util';
import type { Suspended } from '../api';
import { abortError, cancelled, invalidState, rejected } from '../support/errors';
import { Watch, type Stoppable } from '../await/operation';
import {
  living,
  running,
  waitFor,
  withoutWaiter,
  withWaiter,
  type Runner,
  type SomeLiving,
  type Suspension,
  type Waiter,
} from '../await/suspension';
import { clearTimeout, clock, setTimeout } from '../support/timers';
import type * as api from './api';
import { makeReady, runOthers, type Resumable } from './scheduler';
import { trace } from './trace';

type Generated = Generator<Suspended, unknown, unknown>;

const enum State {
  Running,
  Ready,
  Waiting,
  Done,
  Failed,
  Cancelled,
}

const enum Cancel {
  None,
  /** Asked for: what it waits for has been told, or it has not waited since. */
  Wanted,
  /** It ends when it runs next. */
  Due,
  /** It was told to end, and cleans up. */
  Told,
}

const stateNames = ['running', 'ready', 'waiting', 'done', 'failed', 'cancelled'] as const;

/** Clean-up that has no time left, and goes on waiting, is given up after so many refusals. */
const REFUSALS = 1000;
/** Codes of what clean-up finds when the port is closed: no failures of the program. */
const portIsGone = ['ERR_PORT_CLOSED', 'ERR_HANDLE_CLOSED', 'ECANCELED'];

/** Who is told first that a micro-thread begins and ends, and has joined it by that. */
export interface Parent {
  /** The micro-thread that waits for all of them. */
  readonly owner: MicroThread<unknown> | undefined;
  began(thread: MicroThread<unknown>): void;
  ended(thread: MicroThread<unknown>): void;
}

/** A loop of `each`, for `each.next()`. */
export interface InnerLoop {
  readonly advance: Suspension;
}

export interface Settings {
  readonly name: string;
  readonly signal: AbortSignal | undefined;
  readonly grace: number;
  readonly scope: Parent | undefined;
}

/** Of those that were cancelled, or are to be, or awaited: 100,000 others have no room for it. */
class Seldom {
  reason: unknown = undefined;
  /** A closed port ended it. */
  byPort = false;
  watch: Watch | undefined = undefined;
  timer: NodeJS.Timeout | undefined = undefined;
  /** Clean-up may wait no longer. */
  expired = false;
  refusals = 0;
  settle: ((value: never) => void) | undefined = undefined;
  reject: ((reason: unknown) => void) | undefined = undefined;
}

type Above = (...args: never[]) => unknown;

/** A stack of one line. */
export interface Site {
  readonly stack?: string;
}

/**
 * Whether an AsyncResource keeps what `enterWith` made of its context: from Node.js 24 on it has
 * that of its making for ever.
 */
function keepsWhatIsEntered(): boolean {
  const storage = new AsyncLocalStorage<boolean>();
  const resource = new AsyncResource('MicroThread');
  resource.runInAsyncScope(() => storage.enterWith(true));
  const kept = resource.runInAsyncScope(() => storage.getStore() === true);
  storage.disable();
  return kept;
}
const keepsEntered = keepsWhatIsEntered();

let latestId = 0;
/** The ends of the list of those that live. */
let oldest: MicroThread<unknown> | undefined;
let youngest: MicroThread<unknown> | undefined;
let watchesExit = false;

/** The micro-thread of lib/micro/api.ts. */
export class MicroThread<T>
  implements api.MicroThread<T>, Runner, Suspension, Resumable, Stoppable
{
  readonly id = ++latestId;
  readonly name: string;
  /** Loops of `each` that it is in, the innermost last. */
  loops: InnerLoop[] | undefined = undefined;

  private spawner: MicroThread<unknown> | undefined;
  private readonly generator: Generated;
  private context: AsyncResource;
  /** Where it was spawned; the function that did, until somebody may want to know. */
  private site: Site | Above;
  private readonly grace: number;
  private readonly scope: Parent | undefined;
  private status = State.Ready;
  private awaited: Suspension | undefined = undefined;
  private since = 0;
  /** What it was about to wait for is over. */
  private woken = false;
  private cancelState = Cancel.None;
  private seldom: Seldom | undefined = undefined;
  /** What it returned or threw. */
  private outcome: unknown = undefined;
  private waiter: Waiter | undefined = undefined;
  private promise: Promise<T> | undefined = undefined;
  /** @internal Beside it in the list of those that live. */
  older: MicroThread<unknown> | undefined = undefined;
  /** @internal */
  younger: MicroThread<unknown> | undefined = undefined;

  constructor(generator: Generated, settings: Settings, above: Above | Site) {
    this.generator = generator;
    this.name = settings.name;
    this.grace = settings.grace;
    this.scope = settings.scope;
    this.site = above;
    this.spawner = settings.scope === undefined ? MicroThread.current : settings.scope.owner;
    this.context = new AsyncResource('MicroThread');
    enlist(this);
    if (!watchesExit) watchExit();
    if (settings.scope !== undefined) settings.scope.began(this);
    if (settings.signal !== undefined) this.heed(settings.signal);
  }

  static get current(): MicroThread<unknown> | undefined {
    return running.thread as MicroThread<unknown> | undefined;
  }

  static list(): api.MicroThreadInfo[] {
    const infos: api.MicroThreadInfo[] = [];
    for (let one = oldest; one !== undefined; one = one.younger) infos.push(one.info());
    return infos;
  }

  /** @internal */
  static some(limit: number): SomeLiving {
    const first: api.MicroThreadInfo[] = [];
    let count = 0;
    for (let one = oldest; one !== undefined; one = one.younger) {
      if (count++ < limit) first.push(one.info());
    }
    return { count, first };
  }

  get parent(): MicroThread<unknown> | undefined {
    return this.spawner?.over === false ? this.spawner : undefined;
  }

  get state(): api.MicroThreadState {
    const waits = this.status === State.Waiting || this.status === State.Ready;
    return waits && this.cancelState === Cancel.Told ? 'ending' : stateNames[this.status];
  }

  /** @internal Whether it was told to end, and cleans up. */
  get told(): boolean {
    return this.cancelState === Cancel.Told;
  }

  cancel(reason?: unknown): void {
    if (this.over || this.cancelState !== Cancel.None) return;
    if (reason !== undefined) this.rarely().reason = reason;
    this.cancelState = Cancel.Wanted;
    if (this.status !== State.Waiting) return;
    if (this.givesUp()) this.end();
    else this.startGrace();
  }

  /** Its clean-up waits no longer. */
  expire(): void {
    if (this.over || this.expired) return;
    this.cancel();
    this.rarely().expired = true;
    if (this.status === State.Waiting && this.givesUp()) this.end();
  }

  then<A = T, B = never>(
    fulfilled?: ((value: T) => A | PromiseLike<A>) | null,
    rejected?: ((reason: unknown) => B | PromiseLike<B>) | null,
  ): Promise<A | B> {
    this.promise ??= this.promised();
    return this.promise.then(fulfilled, rejected);
  }

  async [Symbol.asyncDispose](): Promise<void> {
    this.cancel();
    try {
      await this;
    } catch (error) {
      if (this.status === State.Failed) throw error;
    }
  }

  [inspect.custom](depth: number, options: object, show: typeof inspect): string {
    const { id, name, state, site } = this;
    if (depth < 0) return `MicroThread ${id} { ${name} }`;
    const more = this.over ? {} : { waitsFor: this.awaited?.what, spawnedAt: placeOf(site) };
    return `MicroThread ${id} ${show({ name, state, ...more }, options)}`;
  }

  toJSON(): object {
    const { id, name, state } = this;
    return { id, name, state };
  }

  // ---- what it waits for

  /** @internal */
  traced(error: unknown, above: Above): unknown {
    return trace(error, above);
  }

  /** @internal */
  waitFor(what: Suspension): void {
    if (this.awaited !== undefined) {
      throw invalidState(`The micro-thread waits for ${this.awaited.what} already: use yield*`);
    }
    this.awaited = what;
    this.since = Math.trunc(clock.time);
    what.hear(this);
  }

  /** @internal What it waits for is there. */
  wake(): void {
    this.woken = this.status === State.Running;
    if (this.status !== State.Waiting) return;
    this.status = State.Ready;
    makeReady(this);
  }

  /** @internal Runs it up to where it waits next. */
  resume(): void {
    this.context.runInAsyncScope(advance, this);
  }

  /** @internal In its own context. */
  advance(): void {
    const outer = running.thread;
    running.thread = this;
    this.status = State.Running;
    try {
      let result = this.enter();
      while (result.done !== true) {
        if (this.awaited === undefined) {
          result = this.generator.throw(
            invalidState('A micro-thread waits with yield*, not yield'),
          );
        } else if (this.woken) result = this.enter();
        else if (this.stays()) {
          if (!keepsEntered) this.context = new AsyncResource('MicroThread');
          return;
        } else result = this.tellEnd();
      }
      this.returned(result.value);
    } catch (error) {
      this.threw(error);
    } finally {
      running.thread = outer;
    }
  }

  /** @internal It ends once more: see clean-up.ts. */
  tellAgain(): void {
    this.cancelState = Cancel.Due;
    this.woken = true;
  }

  private enter(): IteratorResult<Suspended, unknown> {
    const what = this.awaited;
    this.awaited = undefined;
    this.woken = false;
    if (what !== undefined && what.failed) this.failedWaiting(what);
    if (this.cancelState !== Cancel.Due) return this.generator.next();
    return this.tellEnd();
  }

  /** Nobody sees the failure of what was cancelled, or went with its port. */
  private failedWaiting(what: Suspension): void {
    if (this.cancelState === Cancel.Wanted || this.expired) this.cancelState = Cancel.Due;
    else if (this.cancelState === Cancel.None && what.gone === true) {
      this.cancelState = Cancel.Due;
      this.rarely().byPort = true;
    }
  }

  private tellEnd(): IteratorResult<Suspended, unknown> {
    this.awaited = undefined;
    this.cancelState = Cancel.Told;
    if (this.expired && ++this.rarely().refusals > REFUSALS) {
      throw invalidState('The clean-up of the micro-thread waits although it may not any more');
    }
    return this.generator.return(undefined);
  }

  /** It has yielded: whether it waits. */
  private stays(): boolean {
    this.status = State.Waiting;
    if (this.cancelState === Cancel.None) return true;
    if (this.cancelState === Cancel.Told && !this.expired) {
      this.startGrace();
      return true;
    }
    if (!this.givesUp()) {
      this.startGrace();
      return true;
    }
    this.status = State.Running;
    return false;
  }

  /** Gives up what it waits for; false where it is woken when that has ended. */
  private givesUp(): boolean {
    const what = this.awaited!;
    if (what.abandon(this)) return true;
    if (!this.expired || this.status !== State.Waiting) return false;
    what.leave(this);
    return true;
  }

  private end(): void {
    this.cancelState = Cancel.Due;
    this.awaited = undefined;
    this.status = State.Ready;
    makeReady(this);
  }

  private startGrace(): void {
    if (this.over || this.grace === Infinity) return;
    this.rarely().timer ??= setTimeout(expire, this.grace, this);
  }

  /** @internal The signal was aborted. */
  stop(error: Error | undefined): void {
    this.cancel(error);
  }

  private heed(signal: AbortSignal): void {
    if (signal.aborted) {
      this.rarely().reason = abortError(signal.reason);
      this.cancelState = Cancel.Due;
    } else this.rarely().watch = new Watch(signal, this);
  }

  // ---- its end

  private get expired(): boolean {
    return this.seldom !== undefined && this.seldom.expired;
  }

  private rarely(): Seldom {
    return (this.seldom ??= new Seldom());
  }

  /**
   * While it runs for the first time, and after, the function that spawned it is on the stack. To
   * look takes longer than all the rest: one that never waits does without, and the others look when
   * they wait, and the stack is short again.
   */
  findSite(): void {
    const limit = Error.stackTraceLimit;
    if (typeof this.site !== 'function' || this.status === State.Done || limit === 0) return;
    const site: Site = {}; // with a property of that name it would take 100 bytes more
    Error.stackTraceLimit = 1;
    Error.captureStackTrace(site, this.site);
    Error.stackTraceLimit = limit;
    this.site = site;
  }

  /** @internal */
  get over(): boolean {
    return this.status >= State.Done;
  }

  private returned(value: unknown): void {
    if (this.cancelState === Cancel.Told) this.finish(State.Cancelled, undefined);
    else this.finish(State.Done, value);
  }

  private threw(error: unknown): void {
    this.findSite();
    const code = (error as { code?: unknown } | null | undefined)?.code;
    const gone = this.seldom?.byPort === true && portIsGone.includes(code as string);
    if (gone && this.cancelState === Cancel.Told) this.finish(State.Cancelled, undefined);
    else this.finish(State.Failed, error);
  }

  private finish(status: State, outcome: unknown): void {
    this.status = status;
    this.outcome = outcome;
    this.awaited = this.loops = this.spawner = undefined;
    delist(this);
    if (this.seldom !== undefined) this.finishSeldom(this.seldom);
    if (this.scope !== undefined) this.scope.ended(this);
    else if (status === State.Failed && this.waiter === undefined && this.promise === undefined) {
      this.report();
    }
    if (this.waiter !== undefined) this.waiter.wake();
  }

  private finishSeldom({ watch, timer, settle, reject }: Seldom): void {
    if (watch !== undefined) watch.end();
    if (timer !== undefined) clearTimeout(timer);
    if (this.status === State.Done) settle?.(this.outcome as never);
    else reject?.(this.failure());
  }

  /** @internal Reports its failure where nobody but `waiter` has joined it, who tells nobody. */
  reportFor(waiter: Waiter | undefined): void {
    const joined = this.waiter !== waiter || this.promise !== undefined;
    if (this.status === State.Failed && !joined) this.report();
  }

  /** Nobody has joined it: Node.js says so, unless somebody does at once. */
  private report(): void {
    const error = this.outcome;
    if (error instanceof Error && typeof error.stack === 'string') {
      const who = this.name === '' ? `Micro-thread ${this.id}` : `Micro-thread ${this.name}`;
      error.stack += `\n    ${who} was spawned at ${placeOf(this.site)}`;
    }
    this.promise = rejected(error);
  }

  /** @internal What joining it throws. */
  failure(): unknown {
    if (this.status === State.Failed) return this.outcome;
    this.outcome ??= this.cancelError();
    return this.outcome;
  }

  private cancelError(): Error {
    const reason = this.seldom?.reason;
    if ((reason as { name?: unknown } | undefined)?.name === 'AbortError') return reason as Error;
    return Object.assign(cancelled('microThread', {}), { cause: reason });
  }

  private promised(): Promise<T> {
    if (this.status === State.Done) return Promise.resolve(this.outcome as T);
    if (this.over) return rejected(this.failure());
    return new Promise<T>((resolve, reject) => {
      this.rarely().settle = resolve;
      this.rarely().reject = reject;
    });
  }

  /** The process, or this worker, ends: its clean-up runs as far as it does not wait. */
  exit(): void {
    if (this.over || this.status === State.Running) return;
    this.rarely().expired = true;
    this.awaited?.leave(this);
    this.cancelState = Cancel.Due;
    this.resume();
    if (this.status === State.Failed && this.waiter === undefined) throw this.outcome;
  }

  private info(): api.MicroThreadInfo {
    const { id, name, state, parent, awaited } = this;
    if (this === running.thread) this.findSite();
    return {
      id,
      name,
      state,
      operation: awaited?.what,
      of: awaited?.owner,
      since: awaited === undefined ? undefined : this.since,
      parent,
      spawnedAt: placeOf(this.site),
    };
  }

  // ---- joining it

  [Symbol.iterator](): Iterator<Suspended, T, unknown> {
    return this as unknown as Iterator<Suspended, T, unknown>;
  }

  /** @internal */
  get done(): boolean {
    return this.status === State.Done;
  }

  /** @internal */
  get value(): unknown {
    return this.outcome;
  }

  /** @internal */
  get failed(): boolean {
    return this.status > State.Done;
  }

  /** @internal Whether it failed, rather than being cancelled. */
  get threwError(): boolean {
    return this.status === State.Failed;
  }

  /** @internal */
  get what(): string {
    return this.name === '' ? `join of ${this.id}` : `join of ${this.name}`;
  }

  /** @internal */
  get owner(): object {
    return this;
  }

  /** @internal */
  next(): this {
    if (!this.over) {
      this.refuseCircle();
      waitFor(this);
    } else if (this.status !== State.Done) {
      this.silence();
      // eslint-disable-next-line @typescript-eslint/unbound-method -- names where the stack begins
      throw trace(this.failure(), this.next);
    }
    return this;
  }

  /** @internal */
  hear(waiter: Waiter): void {
    if (!this.over) {
      this.waiter = withWaiter(this.waiter, waiter);
      return;
    }
    this.silence();
    waiter.wake();
  }

  /** @internal */
  leave(waiter: Waiter): void {
    this.waiter = withoutWaiter(this.waiter, waiter);
  }

  /** @internal */
  abandon(waiter: Waiter): boolean {
    this.leave(waiter);
    return true;
  }

  /** @internal Those that can't go on before it has ended. */
  get behind(): readonly (Waiter | undefined)[] {
    return [this.waiter, this.scope?.owner];
  }

  /** @internal Whether `other` waits for its end, as for a part of what it does. */
  isPartOf(other: MicroThread<unknown>): boolean {
    let one: MicroThread<unknown> | undefined = this.scope?.owner;
    while (one !== undefined && one !== other) one = one.scope?.owner;
    return one === other;
  }

  /** @internal Whoever waits for itself, through others perhaps, waits for ever. */
  refuseCircle(): void {
    const { current } = MicroThread;
    if (current === undefined || this.over) return;
    const alone = current.waiter === undefined && current.scope === undefined;
    if (alone ? current === this : holdsUp(current, this)) throw waitsForItself();
  }

  private silence(): void {
    void this.promise?.catch(() => undefined);
  }
}

/** Whether `other` can't go on before `thread` has ended. */
function holdsUp(thread: MicroThread<unknown>, other: Waiter): boolean {
  const heldUp = new Set<Waiter | undefined>([thread]);
  for (const one of heldUp) {
    if (one === other) return true;
    for (const behind of one?.behind ?? []) heldUp.add(behind); // the loop comes to it
  }
  return false;
}

export function waitsForItself(): Error {
  return invalidState('The micro-thread would wait for its own end');
}

living.some = (limit) => MicroThread.some(limit);

function enlist(thread: MicroThread<unknown>): void {
  thread.older = youngest;
  if (youngest === undefined) oldest = thread;
  else youngest.younger = thread;
  youngest = thread;
}

function delist(thread: MicroThread<unknown>): void {
  const { older, younger } = thread;
  if (older === undefined) oldest = younger;
  else older.younger = younger;
  if (younger === undefined) youngest = older;
  else younger.older = older;
  thread.older = thread.younger = undefined;
}

/** With what it is about as `this`: arguments would be an array for each time. */
function advance(this: MicroThread<unknown>): void {
  this.advance();
}

function expire(thread: MicroThread<unknown>): void {
  thread.expire();
}

/** Function, file and place of the line that a site has. */
function placeOf(site: Site | Above): string {
  const { stack } = site as Site;
  return /\n\s+at (?:new )?(.*)/.exec(stack ?? '')?.[1] ?? 'an unknown place';
}

/**
 * Starts a micro-thread, which runs until it waits; `above`: the function that the program called, or
 * what is shown in its place.
 */
export function start<T>(
  generator: api.Micro<T>,
  settings: Settings,
  above: Above | Site,
): MicroThread<T> {
  const thread = new MicroThread<T>(generator, settings, above);
  thread.resume();
  thread.findSite();
  runOthers();
  return thread;
}

function watchExit(): void {
  watchesExit = true;
  process.on('exit', () => {
    const living: MicroThread<unknown>[] = [];
    for (let one = youngest; one !== undefined; one = one.older) living.push(one);
    const errors: unknown[] = [];
    // Youngest first: those that others wait for are done when these clean up.
    for (const thread of living) {
      try {
        thread.exit();
      } catch (error) {
        errors.push(error);
      }
    }
    if (errors.length > 0) throw errors[0];
  });
}
