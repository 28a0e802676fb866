/**
 * A pool of threads that run tasks: a port that brings them, another one that brings the answers, and
 * a table in the first one's memory where arguments and results lie.
 *
 * Tasks that the threads can begin soon have a place in the table and a message in the port; the
 * others wait here. A thread takes a place by compare-and-swap of its state, so a message that comes
 * twice, or late, because a thread died with it, does no harm (rule T1).
 */
import { createHistogram } from 'node:perf_hooks';
import { inspect } from 'node:util';
import { deserialize } from 'node:v8';
import { abandonable } from '../support/abandonable';
import type { AwaitOptions } from '../api';
import { binding } from '../native/binding';
import { outOfBuffers } from '../support/errors';
import { AWAIT_OPTIONS } from '../await/operation';
import { CompletionPort } from '../port';
import { monotonic } from '../support/clock';
import { clearTimeout, now, setImmediate, setTimeout } from '../support/timers';
import * as validate from '../support/validate';
import type * as api from './api';
import {
  buffersIn,
  cannotClone,
  detach,
  Form,
  freeze,
  move,
  type Frozen,
  type ToMessage,
  type ToMove,
} from '../support/codec';
import { cloned } from './clones';
import type { Computation } from './computation';
import { diedBetweenTasks, poolBroken, poolClosed, poolFull, workerDied } from './failures';
import { fromThrown, type Thrown } from '../support/thrown';
import { checkOptions, type Settings } from './options';
import { OwnPolicy, type Call } from './policy';
import { Seat } from './seat';
import {
  Answer,
  ANSWERS,
  FAILED,
  HEADER,
  INLINE,
  kindOf,
  LARGE,
  Leave,
  LEAVE,
  READY,
  SEAT,
  SEATS,
  SERIALIZED,
  Slot,
  State,
  Table,
} from './table';
import { refuseOwnCalls, type Known } from './tasks';
import type { Named } from './worker';

/** Places in the table for each thread: so many tasks one batch brings it. */
const PLACES = 64;
const MOST_PLACES = 4096;
/** No sockets or files: the smallest buffers there are. */
const BUFFERS = { size: 1024, count: 1 } as const;
/** So many threads that end before they take tasks are too many. */
const MOST_BARREN = 3;
/** Tasks under way at most for which the owner waits itself, */
const MOST_WATCHED = 8;
/** milliseconds, and those after which it tries again when none came. */
const PATIENCE = 0.05;
const SHORTEST_REST = 0.5;
const LONGEST_REST = 8;
/** What threads look for messages before they sleep: longer than a task that another one wakes takes. */
const SPIN_MICROSECONDS = binding.availableParallelism() > 1 ? 100 : 0;
const HIGH = 2 ** 32;
const MOST_GENERATIONS = 2 ** 30;
const NOWHERE = -1;

/** Values that a thread has been sent already, and the place in which the task is to be. */
type SentValues = Extract<Frozen, { form: Form.Message }> & {
  readonly sent: { readonly seat: number; readonly slot: number };
};

/** One call of a task. */
class Job {
  slot = NOWHERE;
  readonly called = monotonic();

  constructor(
    readonly pool: Pool,
    readonly computation: Computation<unknown>,
    readonly name: string,
    readonly task: number,
    readonly terminate: boolean,
    public values: Frozen,
  ) {}

  /** The computation was given up. */
  abandoned(): void {
    this.pool.giveUp(this);
  }
}

/** Pools of this thread that are open: their threads are told before the thread ends. */
const open = new Set<Pool>();
let watchesExit = false;

function tellAll(): void {
  for (const pool of open) pool.exit();
}

export class Pool extends OwnPolicy implements api.Pool {
  private readonly settings: Settings;
  private readonly work: CompletionPort;
  private readonly answers: CompletionPort;
  private readonly table: Table;
  private readonly place: { readonly chunk: number; readonly start: number };
  private readonly seats = new Map<number, Seat>();
  /** Tasks whose place is taken, by that. */
  private readonly jobs: (Job | undefined)[] = [];
  private readonly free: number[] = [];
  private used = 0;
  /** The seat whose thread has answered last. */
  private latest = 0;
  /** Those without a place, in the order in which they came. */
  private readonly queue = new Set<Job>();
  private readonly tasks: Named[] = [];
  private readonly numbers = new Map<Known, number>();

  /** Tasks that wait or run; also those that run for nobody any more. */
  private load = 0;
  /** The greatest load since the last look at idle threads. */
  private peak = 0;
  /** Tasks that somebody waits for. */
  private pending = 0;
  private completed = 0;
  private replaced = 0;
  /** Threads that have too little to do, and are yet to be told. */
  private excess = 0;
  /** Threads, one after the other, that ended before they took tasks. */
  private barren = 0;
  private readonly waitTime = createHistogram();
  private readonly runTime = createHistogram();

  /** The owner looks for answers in the event loop's next turn: no thread need wake it. */
  private watching = false;
  /** It has looked and found none, and does not for so many milliseconds. */
  private rest = 0;
  private restUntil = 0;

  private referenced = true;
  private held = false;
  private idleTimer: NodeJS.Timeout | undefined = undefined;
  private broken: Error | undefined = undefined;
  private closing: Promise<void> | undefined = undefined;
  /** Whoever waits until there are no more tasks. */
  private quiet: (() => void) | undefined = undefined;
  private readonly waiters = new Set<() => void>();
  /** Places that were promised to those who had waited for room, and are not taken yet. */
  private promised = 0;

  constructor(options: api.PoolOptions | undefined) {
    super();
    this.settings = checkOptions(options);
    const { maxThreads, minThreads } = this.settings;
    this.work = new CompletionPort({
      concurrency: maxThreads,
      buffers: BUFFERS,
      spinMicroseconds: SPIN_MICROSECONDS,
    });
    this.answers = new CompletionPort({ concurrency: 1, buffers: BUFFERS });
    for (const port of [this.work, this.answers]) port.thread.leaveToOthers();
    const places = Math.min(MOST_PLACES, maxThreads * PLACES);
    const { memory } = this.work.thread;
    memory.take(HEADER + places * Slot.SIZE);
    this.place = { chunk: memory.chunk, start: memory.start };
    this.table = new Table(memory, memory.chunk, memory.start);
    const end = memory.start + HEADER + places * Slot.SIZE;
    this.table.area(memory.chunk).bytes.fill(0, memory.start, end);
    for (let slot = places; slot-- > 0;) this.free.push(slot);
    this.answers.unref();
    this.answers.consume(({ key, value }) => this.answered(key, value!));
    for (let i = 0; i < minThreads; i++) this.addThread();
    open.add(this);
    if (!watchesExit) process.on('exit', tellAll);
    watchesExit = true;
  }

  get closed(): boolean {
    return this.closing !== undefined;
  }

  override begin(computation: Computation<unknown>, call: Call): void {
    if (this.closing !== undefined) throw poolClosed();
    refuseOwnCalls(call.known);
    const { queueLimit, maxThreads } = this.settings;
    if (this.load - maxThreads >= queueLimit) {
      computation.fail(poolFull(queueLimit));
      return;
    }
    if (this.broken !== undefined) {
      computation.fail(this.broken);
      return;
    }
    const { known, terminate } = call;
    const values = this.sendLarge(frozen(call, this.toMessage));
    const job = new Job(this, computation, known.name, this.numberOf(known), terminate, values);
    computation.worker = job;
    if (this.promised > 0) this.promised--;
    this.pending++;
    if (++this.load > this.peak) this.peak = this.load;
    if (!this.held) this.reconcile();
    if (this.load > this.seats.size) this.keepAll();
    if (this.load > this.staying && this.seats.size < maxThreads) {
      const error = this.tryToAddThread();
      if (error !== undefined && this.seats.size === 0) {
        this.settled(job);
        computation.fail(error);
        return;
      }
    }
    if ('sent' in values) this.enter(job, values.sent);
    else if (this.queue.size > 0 || !this.give(job)) {
      job.values = detach(values);
      this.queue.add(job);
    }
  }

  async room(options: AwaitOptions = {}): Promise<void> {
    validate.options(options);
    validate.known(options, 'options', AWAIT_OPTIONS);
    if (this.closing !== undefined) throw poolClosed();
    if (this.hasRoom()) {
      this.promise();
      return;
    }
    let waiter!: () => void;
    const free = new Promise<void>((resolve) => this.waiters.add((waiter = resolve)));
    try {
      await abandonable(free, 'room', options);
    } catch (error) {
      // Where its turn has come meanwhile, the place is the next one's.
      if (!this.waiters.delete(waiter)) this.promised--;
      this.letIn();
      throw error;
    }
    if (this.closing !== undefined) throw poolClosed();
  }

  stats(): api.PoolStats {
    const { seats, completed, replaced, waitTime, runTime } = this;
    const running = this.closed ? 0 : this.countRunning();
    const waiting = Math.max(0, this.load - running);
    const allocatedBytes = this.work.closed ? 0 : this.work.stats().allocatedBytes;
    const threads = seats.size;
    return {
      ...{ threads, running, waiting, completed, replaced },
      ...{ allocatedBytes, waitTime, runTime },
    };
  }

  ref(): this {
    this.referenced = true;
    this.reconcile();
    return this;
  }

  unref(): this {
    this.referenced = false;
    this.reconcile();
    return this;
  }

  hasRef(): boolean {
    return this.referenced && !this.closed;
  }

  close(options: api.PoolCloseOptions = {}): Promise<void> {
    validate.options(options);
    validate.known(options, 'options', ['grace']);
    const grace = validate.timeout(options.grace);
    const forever = options.grace === Infinity;
    this.closing ??= this.shutDown(forever ? Infinity : grace);
    return this.closing;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }

  [inspect.custom](_depth: number, options: object, show: typeof inspect): string {
    return `Pool ${show(this.toJSON(), options)}`;
  }

  toJSON(): object {
    const { threads, running, waiting, completed } = this.stats();
    return { threads, running, waiting, completed, closed: this.closed };
  }

  // ---- tasks on their way to a thread

  private numberOf(known: Known): number {
    const number = this.numbers.get(known);
    if (number !== undefined) return number;
    const { module, name } = known;
    this.numbers.set(known, this.tasks.length);
    this.tasks.push({ module, name });
    for (const seat of this.seats.values()) seat.tell({ module, name });
    return this.tasks.length - 1;
  }

  /** Gives a task a place; false when there is none, or no memory while others have some. */
  private give(job: Job): boolean {
    const slot = this.free.pop();
    if (slot === undefined) return false;
    const { values } = job;
    if (values.form !== Form.Message && values.size > INLINE && !this.allocate(slot, values.size)) {
      this.free.push(slot);
      // A task has a place whose memory comes back.
      if (this.used > 0) return false;
      this.settled(job);
      job.computation.fail(outOfBuffers());
      return true;
    }
    if (values.form !== Form.Message) job.values = nothing;
    this.occupy(job, slot, values, State.Queued);
    this.work.thread.post(slot, 0);
    return true;
  }

  /** The place tells of the task; whoever sees its state begins it. */
  private occupy(job: Job, slot: number, values: Frozen, state: number): void {
    const at = this.table.at(slot);
    const { words } = this.table;
    this.table.write(at, values, 0);
    words[(at + Slot.TASK) >> 2] = job.task;
    job.slot = slot;
    this.jobs[slot] = job;
    Atomics.store(words, at >> 2, state);
    this.used++;
    if (!this.watching) this.watch();
  }

  /** What is to be a message goes to a thread that waits, if there is one; else it is kept as it is now. */
  private readonly toMessage: ToMessage<Frozen | SentValues> = (values, list) => {
    const seat = this.reserve();
    if (seat === undefined) return cloned(values, list);
    return this.send(seat, { values, buffers: buffersIn(values), list });
  };

  /** Bytes that are copied once, instead of into the port's memory and out of it. */
  private sendLarge(values: Frozen | SentValues): Frozen | SentValues {
    if (values.form !== Form.Plain || values.size < LARGE) return values;
    const seat = this.reserve();
    if (seat === undefined) return values;
    try {
      return this.send(seat, move(values));
    } catch {
      // No memory for the copy: the port may have some.
      seat.release();
      return values;
    }
  }

  private send(seat: Seat, values: ToMove): SentValues {
    const slot = this.free.pop()!;
    try {
      seat.send(slot, values);
    } catch (error) {
      this.free.push(slot);
      seat.release();
      throw error;
    }
    return { ...gone, sent: { seat: seat.index, slot } };
  }

  /** A thread that waits, and now for one task alone: the last one to answer, since that still looks. */
  private reserve(): Seat | undefined {
    if (this.queue.size > 0 || this.free.length === 0) return undefined;
    const latest = this.seats.get(this.latest);
    if (latest?.reserve() === true) return latest;
    for (const seat of this.seats.values()) if (seat.reserve()) return seat;
    return undefined;
  }

  /** The thread has the values, and waits for this. */
  private enter(job: Job, { seat, slot }: SentValues['sent']): void {
    job.values = nothing;
    this.occupy(job, slot, gone, State.Sent + seat);
    this.work.thread.post(SEATS + seat, slot);
  }

  private allocate(slot: number, size: number): boolean {
    const at = this.table.at(slot);
    const { words } = this.table;
    const place = this.work.thread.native.allocate(size);
    if (place < 0) return false;
    words[(at + Slot.CHUNK) >> 2] = Math.floor(place / HIGH);
    words[(at + Slot.START) >> 2] = place % HIGH;
    words[(at + Slot.CAPACITY) >> 2] = size;
    return true;
  }

  private giveNext(): void {
    for (const job of this.queue) {
      if (!this.give(job)) return;
      this.queue.delete(job);
    }
  }

  /** Nobody waits for the task any more. */
  giveUp(job: Job): void {
    this.pending--;
    if (this.queue.delete(job)) this.unload();
    else if (job.slot !== NOWHERE) this.giveUpPlace(job);
    this.reconcile();
  }

  private giveUpPlace(job: Job): void {
    const { words } = this.table;
    const at = this.table.at(job.slot) >> 2;
    let state = Atomics.compareExchange(words, at, State.Queued, State.Cancelled);
    if (kindOf(state) === State.Sent) {
      state = Atomics.compareExchange(words, at, state, State.Recalled + (state & SEAT));
    }
    if (state === (State.Queued as number) || kindOf(state) === State.Sent) {
      job.values = nothing;
      this.unload();
      return;
    }
    if (!job.terminate || kindOf(state) !== State.Running) return;
    // It could be done just now, and at another task when it is ended.
    const doomed = State.Doomed + (state & SEAT);
    if (Atomics.compareExchange(words, at, state, doomed) === state) {
      this.seats.get(state & SEAT)?.end();
    }
  }

  // ---- answers

  private answered(key: number, value: number): void {
    if (key === READY) return this.begun(value);
    if (key === LEAVE) return this.left(value);
    const what: Answer = value % ANSWERS;
    const at = this.table.at(key);
    const { words } = this.table;
    if (words[(at + Slot.GENERATION) >> 2] !== (value - what) / ANSWERS) return;
    const state = Atomics.load(words, at >> 2);
    if (what === Answer.Fetch) this.fetch(key);
    else if (what === Answer.Freed) this.clear(key);
    else if (kindOf(state) === State.Done) this.finish(key, state & SEAT);
  }

  /**
   * Where few tasks are under way and the last ones were short, the owner waits a moment itself: that a
   * thread wakes it takes longer than the task.
   */
  private watch(): void {
    if (this.used > MOST_WATCHED || (this.rest > 0 && now() < this.restUntil)) return;
    this.watching = true;
    Atomics.store(this.table.words, this.table.watched, 1);
    setImmediate(this.look);
  }

  private readonly look = (): void => {
    if (this.work.closed) return;
    let some = false;
    for (const deadline = now() + PATIENCE; !some && now() < deadline;) some = this.collect();
    Atomics.store(this.table.words, this.table.watched, 0);
    some = this.collect() || some;
    this.watching = false;
    if (some) this.rest = 0;
    else this.takeRest();
    if (some && this.used > 0) this.watch();
  };

  private takeRest(): void {
    this.rest = Math.min(LONGEST_REST, Math.max(SHORTEST_REST, 2 * this.rest));
    this.restUntil = now() + this.rest;
  }

  /** Deals with what threads have said in the table. Whether there was anything. */
  private collect(): boolean {
    const { words } = this.table;
    let some = false;
    for (let slot = 0, left = this.used; left > 0 && slot < this.jobs.length; slot++) {
      if (this.jobs[slot] === undefined) continue;
      left--;
      const at = this.table.at(slot);
      const state = Atomics.load(words, at >> 2);
      if (kindOf(state) === State.Done) this.finish(slot, state & SEAT);
      else if (!this.fetch(slot)) continue;
      some = true;
    }
    return some;
  }

  /** Gives a thread the values that it asks for. Whether one asks. */
  private fetch(slot: number): boolean {
    const asks = (this.table.at(slot) + Slot.ASKS) >> 2;
    const seat = Atomics.exchange(this.table.words, asks, 0) - 1;
    if (seat < 0) return false;
    const job = this.jobs[slot]!;
    const { values } = job;
    job.values = nothing;
    if (values.form === Form.Message) {
      this.seats.get(seat)?.give(slot, values);
    }
    return true;
  }

  /** The answer lies in the place. */
  private finish(slot: number, seat: number): void {
    const job = this.jobs[slot]!;
    const at = this.table.at(slot);
    const { words, numbers } = this.table;
    const form = words[(at + Slot.FORM) >> 2]!;
    let result: unknown;
    let failed = (form & FAILED) !== 0;
    const began = numbers[(at + Slot.BEGAN) >> 3]!;
    record(this.waitTime, began - job.called);
    record(this.runTime, numbers[(at + Slot.ENDED) >> 3]! - began);
    try {
      result = this.resultOf(slot, at, form, this.seats.get(seat));
      if (failed) result = fromThrown(result as Thrown);
    } catch (error) {
      failed = true;
      result = error;
    }
    this.barren = 0;
    this.latest = seat;
    this.clear(slot);
    this.end(job, failed, result);
  }

  private resultOf(slot: number, at: number, form: number, seat: Seat | undefined): unknown {
    if ((form & 0xff) !== (Form.Message as number)) return this.table.read(at)[0];
    const generation = this.table.words[(at + Slot.GENERATION) >> 2]!;
    const values = seat?.take(slot, generation);
    if (values === undefined) throw workerDied(this.jobs[slot]!.name, 0, undefined);
    if ((form & SERIALIZED) === 0) return values[0];
    return (deserialize(values[0] as Uint8Array) as unknown[])[0];
  }

  private end(job: Job, failed: boolean, result: unknown): void {
    const { computation } = job;
    if (computation.pending) this.settled(job);
    else this.unload();
    if (failed) computation.fail(result as Error);
    else computation.fulfil(result);
  }

  /** Somebody hears of its end. */
  private settled(job: Job): void {
    job.computation.worker = undefined;
    this.pending--;
    this.unload();
    if (this.pending === 0) this.reconcile();
  }

  private unload(): void {
    this.load--;
    this.completed++;
    if (this.waiters.size > 0) this.letIn();
    if (this.load === 0) this.quiet?.();
    this.lookForIdle();
  }

  /** The place is free, and its memory. */
  private clear(slot: number): void {
    const { words } = this.table;
    const at = this.table.at(slot);
    const generation = (at + Slot.GENERATION) >> 2;
    words[generation] = (words[generation]! + 1) % MOST_GENERATIONS;
    // A thread may have died while it asked.
    Atomics.store(words, (at + Slot.ASKS) >> 2, 0);
    Atomics.store(words, at >> 2, State.Free);
    if (words[(at + Slot.CAPACITY) >> 2] !== 0) {
      words[(at + Slot.CAPACITY) >> 2] = 0;
      const chunk = words[(at + Slot.CHUNK) >> 2]!;
      this.work.thread.memory.give(chunk, words[(at + Slot.START) >> 2]! >>> 0);
    }
    this.jobs[slot] = undefined;
    this.free.push(slot);
    this.used--;
    if (this.queue.size > 0) this.giveNext();
  }

  // ---- room

  private hasRoom(): boolean {
    const { maxThreads, queueLimit } = this.settings;
    return this.load + this.promised - maxThreads < queueLimit;
  }

  /** Those who waited have the places that are free, in order. */
  private letIn(): void {
    for (const waiter of this.waiters) {
      if (!this.hasRoom()) return;
      this.waiters.delete(waiter);
      this.promise();
      waiter();
    }
  }

  /** For a while: who has waited for room, and calls nothing then, keeps none. */
  private promise(): void {
    if (this.promised++ === 0) setImmediate(() => this.forgetPromises());
  }

  private forgetPromises(): void {
    this.promised = 0;
    this.letIn();
  }

  // ---- threads

  private get staying(): number {
    const { words, leave } = this.table;
    return this.seats.size - (Atomics.load(words, leave) === (Leave.Nobody as number) ? 0 : 1);
  }

  private addThread(): void {
    let index = 0;
    while (this.seats.has(index)) index++;
    const { chunk, start } = this.place;
    const seat = new Seat({
      ...{ index, chunk, start, tasks: [...this.tasks], options: this.settings.thread },
      work: this.work.token,
      answers: this.answers.token,
      onExit: (one, code, cause) => this.gone(one, code, cause),
    });
    this.seats.set(index, seat);
  }

  /** The system may have no thread to give; those that there are do the work then. */
  private tryToAddThread(): Error | undefined {
    try {
      this.addThread();
      return undefined;
    } catch (error) {
      return error as Error;
    }
  }

  private begun(index: number): void {
    const seat = this.seats.get(index);
    if (seat !== undefined) seat.ready = true;
  }

  /** The thread takes no more tasks. */
  private left(index: number): void {
    const seat = this.seats.get(index);
    if (seat === undefined) return;
    seat.leaving = true;
    seat.end();
  }

  private gone(seat: Seat, code: number, cause: Error | undefined): void {
    if (this.work.closed) return;
    const ran = this.settleFor(seat, code, cause);
    this.seats.delete(seat.index);
    this.hasLeft(seat);
    if (this.closing !== undefined && this.load === 0) return;
    if (!seat.leaving) this.replaced++;
    // Of those that never begin, tasks say why.
    if (!ran && seat.ready && !seat.leaving) diedBetweenTasks(seat.index, code, cause);
    this.barren = ran || seat.ready || seat.leaving ? 0 : this.barren + 1;
    if (this.barren >= MOST_BARREN) return this.breakDown(poolBroken(cause, code));
    const { minThreads, maxThreads } = this.settings;
    const wanted = Math.max(minThreads, Math.min(maxThreads, this.load));
    while (this.staying < wanted && this.seats.size < maxThreads) {
      const error = this.tryToAddThread();
      if (error === undefined) continue;
      if (this.seats.size === 0) this.breakDown(error);
      return;
    }
  }

  private hasLeft(seat: Seat): void {
    const { words, leave } = this.table;
    if (Atomics.load(words, leave) !== (Leave.Seat as number) + seat.index) return;
    seat.leaving = true;
    Atomics.store(words, leave, Leave.Nobody);
    this.dismiss();
  }

  /** Tasks that the thread has begun fail, and what it has finished is told. Whether there are any. */
  private settleFor(seat: Seat, code: number, cause: Error | undefined): boolean {
    let some = false;
    this.jobs.forEach((job, slot) => {
      if (job === undefined) return;
      const state = Atomics.load(this.table.words, this.table.at(slot) >> 2);
      if ((state & SEAT) !== seat.index || state < (State.Running as number)) return;
      if (kindOf(state) === State.Recalled) return this.clear(slot);
      some = true;
      if (kindOf(state) === State.Done) return this.finish(slot, seat.index);
      this.clear(slot);
      this.end(job, true, workerDied(job.name, code, cause));
    });
    return some;
  }

  /** No thread stays alive: nothing that waits would ever be begun. */
  private breakDown(error: Error): void {
    this.broken = error;
    this.failAll(error);
  }

  private failAll(error: Error): void {
    const waiting = [...this.jobs, ...this.queue].filter((job) => job?.computation.pending);
    this.queue.clear();
    for (const job of waiting) {
      this.settled(job!);
      job!.computation.fail(error);
    }
  }

  private lookForIdle(): void {
    const { minThreads, idleTimeout } = this.settings;
    if (this.idleTimer !== undefined || idleTimeout === Infinity) return;
    if (this.load >= this.staying || this.staying <= minThreads) return;
    this.peak = this.load;
    this.idleTimer = setTimeout(() => this.endIdle(), idleTimeout).unref();
  }

  private endIdle(): void {
    this.idleTimer = undefined;
    if (this.closing !== undefined) return;
    const stay = Math.max(this.settings.minThreads, this.peak);
    this.excess = this.staying - stay;
    this.dismiss();
    this.lookForIdle();
  }

  /** One of the threads that are too many is to leave; the next when it has. */
  private dismiss(): void {
    const { words, leave } = this.table;
    if (this.excess <= 0 || Atomics.load(words, leave) !== (Leave.Nobody as number)) return;
    this.excess--;
    Atomics.store(words, leave, Leave.Anybody);
    this.work.thread.post(LEAVE, 0);
  }

  /** There is enough to do for all. */
  private keepAll(): void {
    this.excess = 0;
    Atomics.compareExchange(this.table.words, this.table.leave, Leave.Anybody, Leave.Nobody);
  }

  private countRunning(): number {
    const { words } = this.table;
    const isRunning = (slot: number): boolean => {
      const kind = kindOf(Atomics.load(words, this.table.at(slot) >> 2));
      return kind === State.Running || kind === State.Doomed || kind === State.Sent;
    };
    return this.jobs.filter((job, slot) => job !== undefined && isRunning(slot)).length;
  }

  // ---- staying alive, and ending

  private reconcile(): void {
    const wanted = this.referenced && this.pending > 0 && !this.answers.closed;
    if (wanted === this.held) return;
    this.held = wanted;
    if (wanted) this.answers.ref();
    else this.answers.unref();
  }

  private async shutDown(grace: number): Promise<void> {
    clearTimeout(this.idleTimer);
    if (grace > 0 && this.load > 0) await this.untilQuiet(grace);
    this.failAll(poolClosed());
    for (const waiter of this.waiters) waiter();
    this.waiters.clear();
    const seats = [...this.seats.values()];
    for (const seat of seats) seat.leaving = true;
    await this.work.close();
    for (const seat of seats) seat.end();
    await Promise.all(seats.map((seat) => seat.exited));
    this.seats.clear();
    this.load = 0;
    await this.answers.close();
    open.delete(this);
  }

  private untilQuiet(grace: number): Promise<void> {
    return new Promise((resolve) => {
      const timer = grace === Infinity ? undefined : setTimeout(resolve, grace);
      this.quiet = () => {
        clearTimeout(timer);
        resolve();
      };
    });
  }

  /** The thread ends: those that are blocked in `get` are not to keep it waiting. */
  exit(): void {
    if (!this.work.closed) this.work.thread.native.closePort();
  }
}

/** Throws a DataCloneError that names the task. */
function frozen(
  { known, args }: Call,
  toMessage: ToMessage<Frozen | SentValues>,
): Frozen | SentValues {
  try {
    return freeze(args, toMessage);
  } catch (error) {
    throw cannotClone(error, `The arguments of task '${known.name}'`);
  }
}

const nothing: Frozen = { form: Form.Plain, values: [], size: 0 };
const gone = { form: Form.Message, values: [], buffers: [], list: [] } as const;

/** Histograms have whole numbers from 1 on. */
function record(histogram: ReturnType<typeof createHistogram>, milliseconds: number): void {
  histogram.record(Math.max(1, Math.round(milliseconds * 1000)));
}

/**
 * Threads that run tasks, in this process. They import the module of a task when they first run one
 * of it.
 */
export function pool(options?: api.PoolOptions): api.Pool {
  return new Pool(options);
}
