/**
 * Which micro-thread runs next. A completion resumes its own at once; those that another one woke,
 * which runs meanwhile, follow when that waits, in the order in which they were woken.
 */
import { running } from '../await/suspension';
import { now, setImmediate } from '../support/timers';

/** A micro-thread, for the scheduler. */
export interface Resumable {
  /** Runs it up to where it waits next. Throws nothing. */
  resume(): void;
}

/** The event loop has a turn after so many milliseconds, asked about after so many that ran. */
const MILLISECONDS_IN_TURN = 2;
const RUNS_BETWEEN_LOOKS = 64;

const ready: (Resumable | undefined)[] = [];
/** Those before `first` have run. */
let first = 0;
/** The queue is being worked off, or will be in the event loop's next turn. */
let draining = false;

/** Runs it now, or soon where one runs already. */
export function makeReady(thread: Resumable): void {
  if (draining || running.thread !== undefined) {
    ready.push(thread);
    return;
  }
  draining = true;
  thread.resume();
  drain();
}

/** A micro-thread has run that was not in the queue: those that it woke follow. */
export function runOthers(): void {
  if (draining || running.thread !== undefined || ready.length === 0) return;
  draining = true;
  drain();
}

function drain(): void {
  if (first < ready.length) runAll();
  else draining = false;
}

function runAll(): void {
  const deadline = now() + MILLISECONDS_IN_TURN;
  for (let count = 1; first < ready.length; count++) {
    if (count % RUNS_BETWEEN_LOOKS === 0 && now() > deadline) {
      setImmediate(runAll);
      return;
    }
    const thread = ready[first]!;
    ready[first++] = undefined;
    if (first === 1024) {
      ready.splice(0, first);
      first = 0;
    }
    thread.resume();
  }
  ready.length = first = 0;
  draining = false;
}
