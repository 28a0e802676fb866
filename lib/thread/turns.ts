/**
 * When a thread on an event loop calls native code: at the end of a turn of microtasks, when native
 * code says that something has completed, and again while there may be more.
 */
import type { NativeThread } from '../native/binding';
import { hasLibuv } from '../support/runtime';
import { nextTick, now, setImmediate } from '../support/timers';

/** After so many rounds, or so much time, the event loop gets a turn. */
const ROUNDS_IN_TURN = 64;
const MILLISECONDS_IN_TURN = 2;
/**
 * Who awaits goes on after so many answers, although there may be more. It submits then what the
 * caches still hold: with 1,000 connections a message costs 0.7 times the CPU on io_uring, and on
 * epoll 0.9 times what it does with 128. Fewer would make more calls of what 50 connections answer.
 */
const ANSWERS_AT_ONCE = 64;

/** Its reactions run after those of all that was settled until now. */
const settledBefore = Promise.resolve();

/** The thread's part of the port: lib/thread/port-thread.ts. */
interface Owner {
  readonly native: NativeThread;
  readonly closed: boolean;
  /** The program has packets to go through. */
  readonly busy: boolean;
  /** Whether a turn ended in the middle of a packet. */
  readonly heldInTurn: boolean;
  /** Whether there are submissions that native code has not been told of. */
  readonly submits: boolean;
  /** Whether anything keeps the process alive. */
  readonly referenced: boolean;
  /** Calls native code. The number of packets that came; negative: the port is closed. */
  enter(): number;
  /** Settles the awaited ones among them; how many. */
  settleAwaited(count: number): number;
  /** Gives the others to whoever takes them. */
  consume(count: number): void;
  down(): void;
}

export class Turns {
  started = false;
  /** Native code is being called, or what came is being dealt with. */
  driving = false;
  private readonly owner: Owner;
  private scheduled = false;
  private rounds = 0;
  private turnBegan = 0;
  private glancing = false;

  /**
   * After an uncaught exception in a worker Node.js still runs what was scheduled for the end of
   * the turn, but no immediates. Calling native code there would say that the packet at hand was
   * dealt with, and nobody would be told that its key was abandoned (rule T1).
   */
  private readonly tick = (): void => {
    if (this.owner.heldInTurn) this.later();
    else this.drive();
  };
  private readonly turn = (): void => {
    this.rounds = 0;
    this.drive();
  };
  private readonly glance = (): void => {
    this.glancing = false;
    if (this.owner.busy) this.turn();
  };
  private readonly whenSettled = (): void => this.schedule();

  constructor(owner: Owner) {
    this.owner = owner;
  }

  /** Calls native code soon: at the end of the current turn of microtasks. */
  schedule(): void {
    if (this.scheduled || this.driving || this.owner.closed) return;
    this.scheduled = true;
    nextTick(this.tick);
  }

  /** From now on native code tells the event loop of what has completed. */
  start(): void {
    if (this.started) return;
    this.started = true;
    const threadsafe = !hasLibuv || process.env['COMPLETION_PORT_NOTIFIER'] === 'threadsafe';
    const { native, referenced } = this.owner;
    native.start(this.turn, threadsafe);
    if (!referenced) native.unref();
  }

  /** One call to native code, and what it brings back; again while there may be more. */
  private drive(): void {
    this.scheduled = false;
    if (this.driving || this.owner.closed) return;
    this.start();
    this.driving = true;
    let finished = false;
    try {
      finished = this.run();
    } finally {
      this.driving = false;
      // A handler threw: what is left of its batch goes back at the next call.
      if (!finished) this.later();
    }
  }

  private run(): boolean {
    const { owner } = this;
    let answered = 0;
    for (;;) {
      if (this.overBudget()) {
        this.later();
        return true;
      }
      const got = owner.enter();
      if (got < 0) owner.down();
      if (got <= 0) return true;
      const settled = owner.settleAwaited(got);
      if (got > settled) owner.consume(got);
      if (owner.closed) return true;
      if (owner.busy) this.glanceLater();
      answered += settled;
      // Between packets, too, so that those keep nobody waiting who awaits.
      const enough = answered >= ANSWERS_AT_ONCE || got > settled || owner.submits;
      if (answered > 0 && (enough || owner.busy)) {
        this.callAgain();
        return true;
      }
      if (owner.busy) return true;
    }
  }

  /**
   * What awaits comes first: it submits more, and one call does for all of that. Micro-threads have
   * submitted by now; promises' reactions run after the ticks that were asked for, so the tick is
   * asked for behind them.
   */
  private callAgain(): void {
    if (!this.owner.submits) {
      void settledBefore.then(this.whenSettled);
      return;
    }
    this.scheduled = true;
    nextTick(this.tick);
  }

  private overBudget(): boolean {
    const time = now();
    if (this.rounds++ === 0) this.turnBegan = time;
    return this.rounds > ROUNDS_IN_TURN || time - this.turnBegan > MILLISECONDS_IN_TURN;
  }

  private later(): void {
    this.scheduled = true;
    setImmediate(this.turn);
  }

  /**
   * A loop has a batch to go through and asks for the next one itself. Should it await something
   * in between, the completions of others are not to wait for it.
   */
  private glanceLater(): void {
    if (this.glancing) return;
    this.glancing = true;
    setImmediate(this.glance);
  }
}
