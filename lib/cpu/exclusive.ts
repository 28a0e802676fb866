/**
 * One task at a time in the whole process: a thread that wants to run one waits for its turn in the
 * line of native/port/turns.h, and runs it itself.
 *
 * Whoever holds the turn gives it back by leaving the line, and native code does so for a thread that
 * ends. So a ticket that is granted is left exactly once here: when its task is over, or at once
 * where nobody waits for that any more.
 */
import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import { inspect } from 'node:util';
import { binding, type NativeTurns } from '../native/binding';
import { setImmediate } from '../support/timers';
import type { Policy } from './api';
import type { Computation } from './computation';
import { OwnPolicy, type Call } from './policy';

/** Tickets are the numbers below that. */
const TICKETS = 2 ** 32;
const NONE = -1;

/** A turn that this thread has, one at most, and the tasks that run in it. */
interface Turn {
  readonly ticket: number;
  /** Not over yet: the first, and those that it has called. */
  tasks: number;
}

/** A task that waits for its turn. */
interface Waiting {
  readonly computation: Computation<unknown>;
  readonly call: Call;
  /** The asynchronous context of the call. */
  readonly scope: AsyncResource;
}

/** The thread's place in the line, made when it is first wanted. */
let turns: NativeTurns | undefined;
let last = 0;
let held = NONE;
const waiting = new Map<number, Waiting>();
/** The turn that the running code is in. */
const current = new AsyncLocalStorage<Turn>();
/** A task ran in this turn of the event loop because its turn had come: the next one waits for it. */
let ran = false;

class Exclusive extends OwnPolicy {
  override begin(computation: Computation<unknown>, call: Call): void {
    computation.keepArgs();
    const turn = current.getStore();
    // A task that waited for a turn of its own would wait for itself.
    if (turn !== undefined && turn.tasks > 0) return run(turn, computation, call);
    turns ??= binding.turns(granted);
    const ticket = newTicket();
    if (turns.ask(ticket)) return run({ ticket, tasks: 0 }, computation, call);
    wait(ticket, { computation, call, scope: new AsyncResource('CompletionPort.exclusive') });
  }

  [inspect.custom](): string {
    return `Exclusive { waiting: ${waiting.size} }`;
  }
}

function newTicket(): number {
  do last = (last + 1) % TICKETS;
  while (last === held || waiting.has(last));
  return last;
}

function wait(ticket: number, one: Waiting): void {
  waiting.set(ticket, one);
  if (waiting.size === 1) turns!.ref();
  one.computation.worker = { abandoned: () => giveUp(ticket) };
}

function forget(ticket: number): Waiting | undefined {
  const one = waiting.get(ticket);
  if (waiting.delete(ticket) && waiting.size === 0) turns!.unref();
  return one;
}

/** Nobody waits for the task any more; once it runs it goes on. */
function giveUp(ticket: number): void {
  if (forget(ticket) !== undefined) turns!.leave(ticket);
}

/** Called by native code. The event loop goes round once between two tasks. */
function granted(ticket: number): void {
  if (ran) {
    setImmediate(() => granted(ticket));
    return;
  }
  const one = forget(ticket);
  if (one === undefined) return;
  ran = true;
  setImmediate(() => (ran = false));
  one.computation.worker = undefined;
  one.scope.runInAsyncScope(() => run({ ticket, tasks: 0 }, one.computation, one.call));
}

function run(turn: Turn, computation: Computation<unknown>, { known, args }: Call): void {
  turn.tasks++;
  held = turn.ticket;
  let result: unknown;
  try {
    result = current.run(turn, () => known.fn.apply(undefined, args as unknown[]));
  } catch (error) {
    over(turn);
    computation.fail(error as Error);
    return;
  }
  if (typeof (result as PromiseLike<unknown> | null | undefined)?.then === 'function') {
    void settle(turn, computation, result as PromiseLike<unknown>);
    return;
  }
  over(turn);
  computation.fulfil(result);
}

async function settle(
  turn: Turn,
  computation: Computation<unknown>,
  promise: PromiseLike<unknown>,
): Promise<void> {
  let value: unknown;
  try {
    value = await promise;
  } catch (error) {
    over(turn);
    computation.fail(error as Error);
    return;
  }
  over(turn);
  computation.fulfil(value);
}

function over(turn: Turn): void {
  if (--turn.tasks > 0) return;
  held = NONE;
  turns!.leave(turn.ticket);
}

const oneAtATime = new Exclusive();

/**
 * In place, one task at a time in the whole process, all its threads, first come first served: at
 * once where none runs. A task that waits leaves the line when it is given up. The turn is an async
 * task's until its promise is settled; tasks that it calls itself run in it. A thread that ends gives
 * up its turn. The turn comes to the event loop of the thread that called, and everybody waits for
 * that.
 */
export function exclusive(): Policy {
  return oneAtATime;
}
