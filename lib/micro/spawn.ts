/**
 * Starting micro-threads, and waiting for their end.
 */
import type { Suspended, Waitable } from '../api';
import { coded } from '../support/errors';
import type { Waiter } from '../await/suspension';
import * as validate from '../support/validate';
import type * as api from './api';
import { MicroThread, start, type Parent, type Site } from './thread';
import { milliseconds, Wait } from './wait';

/** Milliseconds. */
const GRACE = 5000;
const OPTIONS = ['name', 'signal', 'grace'];
const noOptions: api.SpawnOptions = {};
const never = undefined as never;

/**
 * Starts a micro-thread, which runs until it first waits before this returns. `body` is a generator
 * function without arguments, or a generator: `spawn(serve(socket), { name: 'serve' })`.
 */
export function spawn<T>(
  body: (() => api.Micro<T>) | api.Micro<T>,
  options: api.SpawnOptions = noOptions,
): api.MicroThread<T> {
  return spawnFor(undefined, body, options, spawn);
}

/** For what no function of the program spawns; `site`: a stack of one line, which stands for that. */
export function spawnHandler<T>(
  body: api.Micro<T>,
  name: string,
  grace: number,
  site: Site,
): api.MicroThread<T> {
  return start(body, { name, signal: undefined, grace, scope: undefined }, site);
}

/** `scope` is told of its end. */
export function spawnFor<T>(
  scope: Parent | undefined,
  body: (() => api.Micro<T>) | api.Micro<T>,
  options: api.SpawnOptions,
  above: (...args: never[]) => unknown,
): MicroThread<T> {
  validate.options(options);
  if (typeof body !== 'function' && !validate.isGenerator(body)) {
    throw validate.invalidType('body', 'a generator function or a generator', body);
  }
  const settings = settingsOf(options, scope, typeof body === 'function' ? body.name : '');
  // What is cancelled before it begins runs nothing: not even a function that is no generator's.
  const generator = settings.signal?.aborted ? through<T>(never) : generatorOf(body);
  return start(generator, settings, above);
}

function settingsOf(
  options: api.SpawnOptions,
  scope: Parent | undefined,
  name: string,
): ConstructorParameters<typeof MicroThread>[1] {
  if (options === noOptions) return { name, signal: undefined, grace: GRACE, scope };
  validate.known(options, 'options', OPTIONS);
  return {
    name: validate.string(options.name ?? name, 'options.name'),
    signal: validate.signal(options.signal),
    grace: milliseconds(options.grace ?? GRACE, 'options.grace'),
    scope,
  };
}

function generatorOf<T>(body: (() => api.Micro<T>) | api.Micro<T>): api.Micro<T> {
  if (typeof body !== 'function') return body;
  const generator = body();
  if (validate.isGenerator(generator)) return generator;
  throw noGenerator(body);
}

export function noGenerator(body: (...args: never[]) => unknown): Error {
  return coded(
    new TypeError(`${body.name || 'The body'} returned no generator: write it as function*`),
    'ERR_INVALID_RETURN_VALUE',
  );
}

function* through<T>(waitable: Waitable<T>): Generator<Suspended, T, unknown> {
  return yield* waitable;
}

/** The running micro-thread waits for what it starts, and sees what becomes of that. */
class Joined implements Parent {
  readonly owner = MicroThread.current;

  began(): void {
    // It waits for all of them once they have begun.
  }

  ended(part: MicroThread<unknown>): void {
    // It hears of that where it waits; nobody does if its own time was over before.
    if (this.owner?.over === true) part.reportFor(undefined);
  }
}

/** A micro-thread that waits for `waitable`, for the running one, which joins it. */
export function spawnInside<T>(
  waitable: Waitable<T>,
  above: (...args: never[]) => unknown,
): MicroThread<T> {
  const scope = new Joined();
  const settings = { name: scope.owner?.name ?? '', signal: undefined, grace: GRACE, scope };
  const generator = validate.isGenerator(waitable) ? (waitable as api.Micro<T>) : through(waitable);
  return start(generator, settings, above);
}

/** The end of a micro-thread, whatever it is. */
class End extends Wait<void> implements Waiter {
  private readonly thread: MicroThread<unknown>;

  constructor(thread: MicroThread<unknown>) {
    super();
    this.thread = thread;
  }

  override get what(): string {
    return this.thread.what;
  }

  get behind(): readonly (Waiter | undefined)[] {
    return [this.waiter];
  }

  wake(): void {
    this.fulfil();
  }

  protected override begin(): void {
    this.thread.hear(this);
  }

  protected override stop(): void {
    this.thread.leave(this);
  }
}

/** For `finally`: cancels `thread`, and waits for its end. Throws what its clean-up throws. */
export function* cancelled<T>(thread: MicroThread<T>): api.Micro<void> {
  if (thread.done || thread.failed) return;
  thread.cancel();
  yield* new End(thread);
  if (thread.threwError) yield* thread;
}
