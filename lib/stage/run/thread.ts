/**
 * One thread's part of a stage: what the connection at hand, the steps and the runner share.
 */
import type { NativeThread } from '../../native/binding';
import type { PortThread } from '../../thread/port-thread';
import type { MessageAt } from '../../thread/submissions';
import type { CompletionPort } from '../../port';
import { nextTick } from '../../support/timers';
import { monotonic } from '../../support/clock';
import type { StageFailure, TraceEntry } from '../api';
import { Counter, type Measures } from '../record/counters';
import type { Machine } from '../definition/definition';
import { Event } from '../definition/events';
import { hasSubscribers, publish, unknownStage, unlistedStage, type RawFailure } from '../failures';
import { Control, type Plan, type StageInfo } from '../definition/plan';
import { Generators } from './generators';
import { Header, recordClass, Records, type RecordClass } from '../record/record';
import { decodeTrace, Trace } from '../record/trace';

export interface StageThreadOptions {
  readonly port: CompletionPort;
  readonly machine: Machine;
  readonly plan: Plan;
  readonly index: number;
  /** Which of the stage's threads it is. */
  readonly number: number;
  readonly memory: ArrayBuffer;
  /** Where the last events of connections are kept, if they are. */
  readonly traceMemory: ArrayBuffer | undefined;
  readonly counters: Float64Array;
  readonly measures: Measures;
  readonly byState: boolean;
  /** Whether `onFailure` is to be told of the next one. */
  readonly wantsFailures: () => boolean;
  /** Told of failures, beside the thread's own diagnostics channel. */
  readonly onFailure: (failure: RawFailure) => void;
}

/** The connection at hand: lib/stage/run/connection.ts. */
interface AtHand {
  readonly recordKey: number;
  readonly handleId: number;
  /** The state it is in. */
  readonly now: { readonly name: string; readonly index: number };
}

/** What a trace needs to know of it. */
type Traced = Pick<AtHand, 'recordKey'> & { readonly now: { readonly index: number } };

/** Handlers one packet may lead to: more is a circle of `entered` handlers. */
export const MOST_CALLS = 1000;

export class StageThread {
  readonly stage: StageInfo;
  readonly stages: readonly StageInfo[];
  readonly machine: Machine;
  readonly portThread: PortThread;
  readonly native: NativeThread;
  readonly records: Records;
  /** Where the last events of connections are kept; undefined: nowhere. */
  readonly trace: Trace | undefined;
  /** Where calls of handlers are counted from: so that each is looked at where they are traced. */
  readonly callsFrom: number;
  /** The class of `c.record`. */
  readonly View: RecordClass;
  readonly counters: Float64Array;
  readonly measures: Measures;
  /** Whether documents may come together. */
  readonly pipelined: boolean;
  /** Whether a batch is run state by state. */
  readonly byState: boolean;
  /** Keys that a promise holds, or held until this turn. */
  readonly kept = new Set<number>();
  /** Keys handed on since the last call to native code, which does not know yet. */
  readonly going = new Set<number>();
  /** Handlers that are generators, and wait. */
  readonly generators: Generators;
  /** The port is gone: nothing is called any more. */
  ended = false;
  /** What `native.unstash` took out: chunk, start, length. */
  readonly place: Uint32Array;
  /** Keys that no promise holds any more. */
  private readonly settled: number[] = [];
  /** A hand-off must have happened when others may have the key. */
  private readonly letGoAll = (): void => {
    const keys = this.settled.splice(0);
    if (this.portThread.closed) return;
    this.portThread.flush();
    for (const key of keys) {
      this.kept.delete(key);
      this.native.letGo(key);
    }
    this.portThread.schedule();
  };
  private readonly number: number;
  private readonly control: Int32Array;
  private readonly locals = new Map<number, unknown>();
  private readonly wantsFailures: () => boolean;
  private readonly onFailure: (failure: RawFailure) => void;

  constructor(options: StageThreadOptions) {
    const { plan, index } = options;
    this.stages = plan.stages;
    this.stage = plan.stages[index]!;
    this.machine = options.machine;
    this.generators = new Generators(this.stage.name, this.machine.definedAt);
    this.portThread = options.port.thread;
    this.native = this.portThread.native;
    this.records = new Records(options.memory, plan.layout.stride);
    const { traceMemory } = options;
    this.trace = traceMemory === undefined ? undefined : new Trace(traceMemory, plan.trace);
    this.callsFrom = this.trace === undefined ? 0 : MOST_CALLS;
    this.number = options.number;
    this.View = recordClass(this.records, plan.layout, Object.keys(this.machine.record));
    this.counters = options.counters;
    this.measures = options.measures;
    this.byState = options.byState;
    this.pipelined = plan.stages.some((stage) => stage.pipelined);
    this.place = new Uint32Array(this.native.place);
    this.control = new Int32Array(plan.control);
    this.wantsFailures = options.wantsFailures;
    this.onFailure = options.onFailure;
    this.native.useRecords(plan.records);
  }

  /** Whether the pipeline closes what is left. */
  get closing(): boolean {
    return this.control[Control.Closing] !== 0;
  }

  /**
   * A promise no longer holds the key. What many of them settle at one time, a log that has written
   * all that waited for it, goes out with one call.
   */
  letGo(key: number): void {
    if (this.settled.push(key) === 1) nextTick(this.letGoAll);
  }

  /** The stage of that name, which a connection is handed to. */
  target(name: string): StageInfo {
    const { stages, machine } = this;
    const found = stages.find((stage) => stage.name === name);
    if (found === undefined) {
      throw unknownStage(
        name,
        stages.map((stage) => stage.name),
      );
    }
    if (machine.stages !== undefined && !machine.stages.includes(name)) {
      throw unlistedStage(this.stage.name, name, machine.stages);
    }
    return found;
  }

  count(counter: Counter): void {
    this.counters[counter] = this.counters[counter]! + 1;
  }

  // ---- objects of this thread

  localOf(c: AtHand): unknown {
    const { local } = this.machine;
    if (local === undefined) return undefined;
    if (this.locals.has(c.recordKey)) return this.locals.get(c.recordKey);
    const made = local(c as never);
    this.locals.set(c.recordKey, made);
    this.native.pinKey(c.recordKey, c.handleId, true);
    return made;
  }

  /** The connection leaves this stage. */
  dropLocal(key: number): void {
    if (!this.locals.delete(key)) return;
    this.native.pinKey(key, 0, false);
  }

  // ---- traces

  /** For threads that have a trace. `event`: an Event or a Step; `time`: on the monotonic clock. */
  note(c: Traced, event: number, bytes: number, time: number): void {
    const { stage, number } = this;
    this.trace!.write(c.recordKey, stage.index, c.now.index, event, number, time, bytes);
  }

  /** Oldest first; undefined where there is none. */
  traceOf(c: Pick<AtHand, 'recordKey'>): TraceEntry[] | undefined {
    return this.trace?.read(c.recordKey, this.stages);
  }

  // ---- failures

  fail(c: AtHand, event: string, error: Error): void {
    this.count(Counter.Failures);
    if (this.trace !== undefined) this.note(c, Event.Failed, 0, monotonic());
    const [here, there] = [hasSubscribers(), this.wantsFailures()];
    if (!here && !there) return;
    const failure = {
      stage: this.stage.name,
      state: c.now.name,
      key: c.recordKey,
      event,
      error,
      trace: this.trace?.snapshot(c.recordKey),
    };
    if (here) publish(withTrace(failure, this.stages));
    if (there) this.onFailure(failure);
  }

  // ---- what goes to native code

  /** Goes to another stage: with the batch's other submissions, in their order. */
  submitHandOff(key: number, handle: number, port: number): void {
    this.going.add(key);
    this.portThread.submissions.handOff(handle, key, port);
  }

  /** A message whose connection has gone on. */
  forward(key: number, value: number, port: number): void {
    this.portThread.submissions.forward(key, value, port);
  }

  /** The same of one that is not a number. */
  forwardBytes(key: number, message: MessageAt, port: number): void {
    this.portThread.submissions.forwardBytes(key, message, port);
  }

  /** A received buffer goes back, after what was submitted before: a send of it, say. */
  release(chunk: number, start: number): void {
    this.portThread.memory.forget(chunk, start);
    this.portThread.submissions.giveBack(chunk, start);
  }

  stash(key: number, at: number, chunk: number, start: number, length: number): void {
    this.portThread.memory.forget(chunk, start);
    this.tellOfUses();
    if (!this.native.stash(key, chunk, start, length)) return;
    const { words } = this.records;
    const place = (at + Header.STASHED) >>> 2;
    words[place] = words[place]! + length;
  }

  /** Frees the record, with all that the connection brought along. */
  releaseRecord(key: number): void {
    this.tellOfUses();
    this.native.releaseRecord(key);
  }

  /** Before native code may release memory that operations submitted before use. */
  private tellOfUses(): void {
    if (this.portThread.memory.pending) this.portThread.flush();
  }
}

/** The failure as a program sees it. */
export function withTrace(failure: RawFailure, stages: readonly StageInfo[]): StageFailure {
  const { trace } = failure;
  return { ...failure, trace: trace === undefined ? undefined : decodeTrace(trace, stages) };
}
