/**
 * The worker threads of one stage: started, replaced when they die, ended.
 */
import path = require('node:path');
import { createHistogram, type RecordableHistogram } from 'node:perf_hooks';
import { Worker } from 'node:worker_threads';
import { abandonable } from '../../support/abandonable';
import { coded } from '../../support/errors';
import type { CompletionPort } from '../../port';
import { clearTimeout, now, setTimeout } from '../../support/timers';
import { Counter, newCounters } from '../record/counters';
import type { RecordFields } from '../api';
import { asError, fromPlain, type RawFailure } from '../failures';
import type { MicroThreads } from '../inspector/micro-threads';
import type { FromWorker, ToWorker, WorkerOptions } from './messages';
import type { Plan } from '../definition/plan';

/** So many deaths in so many milliseconds without a packet handled in between are too many. */
const MOST_DEATHS = 5;
const DEATHS_WITHIN = 10_000;
/** How long a thread without a `teardown` has for leaving by itself, in milliseconds. */
const LEAVING = 1000;
/** How long a thread has for telling of its micro-threads, in milliseconds. */
const ANSWERING = 500;
/** How long one with a `teardown` has for that. */
const TEARDOWN = 10_000;

/** What `promise` gives, or `ETIMEDOUT`, when the `teardown` of a stage takes too long. */
export async function tornDown(stage: string, promise: Promise<void>): Promise<void> {
  let late = true;
  const over = promise.finally(() => (late = false));
  try {
    await abandonable(over, 'teardown', { timeout: TEARDOWN });
  } catch (thrown) {
    const error = asError(thrown);
    throw late ? Object.assign(error, { stage }) : error;
  }
}

/** Looked up when it is wanted: in a bundle for ES modules there is no `__dirname`. */
const program = (): string => path.join(__dirname, 'worker.js');

/** What a stage's module told of it. */
export interface Loaded {
  readonly fields: RecordFields;
  readonly states: readonly string[];
  /** Names of the stages it hands to; undefined: any, or checked already. */
  readonly targets: readonly string[] | undefined;
}

export interface PoolOptions {
  readonly stage: string;
  readonly index: number;
  readonly port: CompletionPort;
  readonly threads: number;
  readonly module: string;
  readonly data: unknown;
  /** One for each thread; none: wherever the system puts it. */
  readonly cpus: readonly number[];
  readonly byState: boolean;
  readonly onFailure: (failure: RawFailure) => void;
  readonly onDeath: (index: number, error: Error) => void;
  /** Its threads die faster than they work, or can't be replaced. */
  readonly onBroken: (error: Error) => void;
}

/** One thread of the pool, and those it has replaced. */
interface Seat {
  readonly index: number;
  readonly counters: Float64Array;
  /** What the dead ones had measured. */
  readonly past: { readonly queueing: RecordableHistogram; readonly handling: RecordableHistogram };
  queueing: RecordableHistogram | undefined;
  handling: RecordableHistogram | undefined;
  worker: Worker;
  loaded: Deferred<Loaded>;
  ready: Deferred<void>;
  left: Deferred<void>;
  /** It, or one before it, has taken packets. */
  started: boolean;
}

export class Pool {
  restarts = 0;
  private readonly options: PoolOptions;
  private readonly seats: Seat[] = [];
  private readonly deaths: { readonly at: number; readonly packets: number }[] = [];
  private plan: Plan | undefined = undefined;
  private readonly questions = new Map<number, (threads: MicroThreads) => void>();
  private latestQuestion = 0;
  private holds = true;
  private leaving = false;
  /** Whether the stage has a `teardown`. */
  private tearsDown = false;

  constructor(options: PoolOptions) {
    this.options = options;
    for (let index = 0; index < options.threads; index++) this.seats.push(this.seat(index));
  }

  /** Resolves to what the module told; rejects when one of the threads can't load it. */
  async loaded(): Promise<Loaded> {
    const all = await Promise.all(this.seats.map((seat) => seat.loaded.promise));
    return all[0]!;
  }

  /** Has the threads take packets; resolves when all do. */
  async run(plan: Plan): Promise<void> {
    this.plan = plan;
    for (const seat of this.seats) say(seat, { type: 'plan', plan });
    await Promise.all(this.seats.map((seat) => seat.ready.promise));
  }

  /**
   * The threads leave the port and end; one that does not in time is ended. Rejects with what a
   * `teardown` threw, or because it took too long, when all have ended.
   */
  async leave(): Promise<void> {
    this.leaving = true;
    const left = await Promise.allSettled(this.seats.map((seat) => this.vacate(seat)));
    for (const one of left) if (one.status === 'rejected') throw one.reason;
  }

  private async vacate(seat: Seat): Promise<void> {
    say(seat, { type: 'leave' });
    try {
      if (this.tearsDown) await tornDown(this.options.stage, seat.left.promise);
      else await Promise.race([seat.left.promise, after(LEAVING)]);
    } finally {
      await seat.worker.terminate();
    }
  }

  /** Those of each of its threads; undefined for one that is too busy to answer. */
  microThreads(): Promise<(MicroThreads | undefined)[]> {
    return Promise.all(this.seats.map((seat) => this.ask(seat)));
  }

  private ask(seat: Seat): Promise<MicroThreads | undefined> {
    const id = ++this.latestQuestion;
    return new Promise((resolve) => {
      const answered = (threads?: MicroThreads): void => {
        clearTimeout(timer);
        this.questions.delete(id);
        resolve(threads);
      };
      const timer = setTimeout(answered, ANSWERING).unref();
      this.questions.set(id, answered);
      say(seat, { type: 'microThreads', id });
    });
  }

  /** Whether its threads keep the process alive. */
  hold(holds: boolean): void {
    this.holds = holds;
    for (const { worker } of this.seats) {
      if (holds) worker.ref();
      else worker.unref();
    }
  }

  get threads(): number {
    return this.seats.length;
  }

  /** The sum of one counter over all threads, the dead ones included. */
  sum(counter: Counter): number {
    return this.seats.reduce((sum, seat) => sum + seat.counters[counter]!, 0);
  }

  queueing(): RecordableHistogram[] {
    return this.seats.flatMap((seat) => [
      seat.past.queueing,
      ...(seat.queueing ? [seat.queueing] : []),
    ]);
  }

  handling(): RecordableHistogram[] {
    return this.seats.flatMap((seat) => [
      seat.past.handling,
      ...(seat.handling ? [seat.handling] : []),
    ]);
  }

  /** The ids of the workers, for those who want to end one: tests. */
  get workers(): readonly Worker[] {
    return this.seats.map((seat) => seat.worker);
  }

  // ---- starting and replacing

  private seat(index: number): Seat {
    const counters = newCounters();
    const seat: Seat = {
      index,
      counters,
      past: { queueing: createHistogram(), handling: createHistogram() },
      queueing: undefined,
      handling: undefined,
      worker: this.start(index, counters),
      loaded: deferred(),
      ready: deferred(),
      left: deferred(),
      started: false,
    };
    this.listen(seat);
    return seat;
  }

  private start(index: number, counters: Float64Array): Worker {
    const { port, stage, module, data, cpus, byState } = this.options;
    const workerData: WorkerOptions = {
      token: port.token,
      stage,
      index: this.options.index,
      thread: index,
      module,
      data,
      cpu: cpus.length > 0 ? cpus[index % cpus.length] : undefined,
      byState,
      counters: counters.buffer as SharedArrayBuffer,
    };
    // A descriptor that a stage opens may be closed at another one: a thread that ends must not close
    // those that it happened to open.
    return new Worker(program(), {
      workerData,
      name: `${stage} ${index}`,
      trackUnmanagedFds: false,
    });
  }

  private listen(seat: Seat): void {
    const { worker } = seat;
    let cause: Error | undefined;
    worker.on('message', (message: FromWorker) => this.receive(seat, message));
    worker.on('error', (error) => (cause = asError(error)));
    worker.on('messageerror', (error) => (cause = error));
    worker.once('exit', (code) => {
      if (seat.worker === worker) this.gone(seat, cause ?? exited(this.options.stage, code));
    });
  }

  private receive(seat: Seat, message: FromWorker): void {
    switch (message.type) {
      case 'loaded':
        this.tearsDown = message.tearsDown;
        seat.loaded.resolve(message);
        if (this.plan !== undefined) say(seat, { type: 'plan', plan: this.plan });
        break;
      case 'refused':
        this.refused(seat, fromPlain(message.error));
        break;
      case 'ready':
        seat.queueing = message.measures?.queueing;
        seat.handling = message.measures?.handling;
        seat.started = true;
        seat.ready.resolve();
        break;
      case 'failures':
        for (const { error, ...failure } of message.failures) {
          this.options.onFailure({
            stage: this.options.stage,
            ...failure,
            error: fromPlain(error),
          });
        }
        break;
      case 'microThreads':
        this.questions.get(message.id)?.(message.threads);
        break;
      case 'left':
        if (message.error === undefined) seat.left.resolve();
        else seat.left.reject(fromPlain(message.error));
    }
  }

  /** Its module can't be loaded, or its `setup` fails, which those of another thread did not. */
  private refused(seat: Seat, error: Error): void {
    Object.assign(error, { stage: this.options.stage });
    if (seat.started) this.options.onBroken(error);
    seat.loaded.reject(error);
    seat.ready.reject(error);
  }

  private gone(seat: Seat, error: Error): void {
    seat.left.resolve();
    if (this.leaving) return;
    if (this.plan === undefined) return this.refused(seat, error);
    this.options.onDeath(seat.index, error);
    if (this.tooManyDeaths()) return this.options.onBroken(error);
    this.restarts++;
    this.replace(seat);
  }

  /** Its keys come back as `abandoned` by themselves (rule T1). */
  private replace(seat: Seat): void {
    if (seat.queueing !== undefined) seat.past.queueing.add(seat.queueing);
    if (seat.handling !== undefined) seat.past.handling.add(seat.handling);
    seat.queueing = seat.handling = undefined;
    seat.worker = this.start(seat.index, seat.counters);
    if (!this.holds) seat.worker.unref();
    seat.left = deferred();
    this.listen(seat);
  }

  private tooManyDeaths(): boolean {
    const { deaths } = this;
    const time = now();
    const packets = this.sum(Counter.Packets);
    deaths.push({ at: time, packets });
    while (deaths.length > MOST_DEATHS) deaths.shift();
    const first = deaths[0]!;
    if (deaths.length < MOST_DEATHS || time - first.at > DEATHS_WITHIN) return false;
    // Each death may have taken the packet it died of.
    return packets - first.packets < MOST_DEATHS;
  }
}

function say(seat: Seat, message: ToWorker): void {
  seat.worker.postMessage(message);
}

function exited(stage: string, code: number): Error {
  return coded(
    new Error(`A thread of stage '${stage}' ended with code ${code}`),
    'ERR_STAGE_THREAD_EXIT',
  );
}

interface Deferred<T> {
  readonly promise: Promise<T>;
  readonly resolve: (value: T) => void;
  readonly reject: (error: Error) => void;
}

/** Whoever does not wait for it does not hear of its rejection. */
export function deferred<T>(): Deferred<T> {
  let resolve!: (value: T) => void;
  let reject!: (error: Error) => void;
  const promise = new Promise<T>((yes, no) => {
    resolve = yes;
    reject = no;
  });
  promise.catch(() => undefined);
  return { promise, resolve, reject };
}

function after(milliseconds: number): Promise<void> {
  return new Promise((resolve) => setTimeout(resolve, milliseconds).unref());
}
