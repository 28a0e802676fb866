/**
 * One thread's part of a stage: what the connection at hand, the steps and the runner share.
 */
import type { NativeThread } from '../../native/binding';
import type { PortThread } from '../../thread/port-thread';
import type { CompletionPort } from '../../port';
import { nextTick } from '../../support/timers';
import type { StageFailure } from '../api';
import { Counter, type Measures } from '../record/counters';
import type { Machine } from '../definition/definition';
import { publish, unknownStage, unlistedStage } from '../failures';
import { Control, type Plan, type StageInfo } from '../definition/plan';
import { Header, recordClass, Records, type RecordClass } from '../record/record';

export interface StageThreadOptions {
  readonly port: CompletionPort;
  readonly machine: Machine;
  readonly plan: Plan;
  readonly index: number;
  readonly memory: ArrayBuffer;
  readonly counters: Float64Array;
  readonly measures: Measures;
  readonly byState: boolean;
  /** Told of each failure, beside the thread's own diagnostics channel. */
  readonly onFailure: (failure: StageFailure) => void;
}

/** The connection at hand: lib/stage/run/connection.ts. */
interface AtHand {
  readonly recordKey: number;
  readonly handleId: number;
  /** The state it is in. */
  readonly now: { readonly name: string };
}

export class StageThread {
  readonly stage: StageInfo;
  readonly stages: readonly StageInfo[];
  readonly machine: Machine;
  readonly portThread: PortThread;
  readonly native: NativeThread;
  readonly records: Records;
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
  private readonly control: Int32Array;
  private readonly locals = new Map<number, unknown>();
  private readonly onFailure: (failure: StageFailure) => void;

  constructor(options: StageThreadOptions) {
    const { plan, index } = options;
    this.stages = plan.stages;
    this.stage = plan.stages[index]!;
    this.machine = options.machine;
    this.portThread = options.port.thread;
    this.native = this.portThread.native;
    this.records = new Records(options.memory, plan.layout.stride);
    this.View = recordClass(this.records, plan.layout, Object.keys(this.machine.record));
    this.counters = options.counters;
    this.measures = options.measures;
    this.byState = options.byState;
    this.pipelined = plan.stages.some((stage) => stage.pipelined);
    this.place = new Uint32Array(this.native.place);
    this.control = new Int32Array(plan.control);
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

  // ---- failures

  fail(c: AtHand, event: string, error: Error): void {
    this.count(Counter.Failures);
    const failure = {
      stage: this.stage.name,
      state: c.now.name,
      key: c.recordKey,
      event,
      error,
    };
    publish(failure);
    this.onFailure(failure);
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
