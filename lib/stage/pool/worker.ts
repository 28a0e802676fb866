/**
 * A thread of a pool: loads the stage's module, tells what the stage is like, and runs it when it
 * knows what the others are like. Started by lib/stage/pool/pool.ts.
 */
import { parentPort, workerData, type MessagePort } from 'node:worker_threads';
import { binding } from '../../native/binding';
import { systemError } from '../../support/errors';
import { CompletionPort } from '../../port';
import { sharesHistograms } from '../../support/runtime';
import { setImmediate } from '../../support/timers';
import { newMeasures } from '../record/counters';
import { machineOf, type Machine } from '../definition/definition';
import type { StageContext } from '../api';
import { asError, toPlain, type PlainError, type RawFailure } from '../failures';
import type { FailureMessage, FromWorker, ToWorker, WorkerOptions } from './messages';
import { microThreadsHere } from '../inspector/micro-threads';
import { loadStage } from '../definition/module';
import { Runner } from '../run/runner';
import { Setup } from './setup';
import type { Plan } from '../definition/plan';
import { StageThread } from '../run/thread';

/** Failures told at one time at most: a flood of resets is counted, not reported one by one. */
const MOST_FAILURES = 64;

const options = workerData as WorkerOptions;
const pipeline = parentPort as MessagePort;

function tell(message: FromWorker): void {
  pipeline.postMessage(message);
}

/** Failures of one turn of the event loop are told together. */
const pending: FailureMessage[] = [];
function onFailure({ state, key, event, error, trace }: RawFailure): void {
  if (pending.length === 0) setImmediate(tellFailures);
  pending.push({ state, key, event, error: toPlain(error), trace });
}

function wantsFailures(): boolean {
  return pending.length < MOST_FAILURES;
}

function tellFailures(): void {
  tell({ type: 'failures', failures: pending.splice(0) });
}

function bindToCpu(cpu: number): void {
  const error = binding.pinThread(cpu);
  if (error < 0) throw systemError(error, 'sched_setaffinity', {});
}

/** The stage's port, and what runs it here. */
class Seat {
  private readonly context: StageContext = {
    port: CompletionPort.attach(options.token),
    stage: options.stage,
    thread: options.thread,
  };
  private readonly machine: Machine;
  private setup: Setup | undefined = undefined;
  private leaving = false;
  private thread: StageThread | undefined = undefined;

  constructor(machine: Machine) {
    this.machine = machine;
  }

  async run(plan: Plan): Promise<void> {
    try {
      await this.begin(plan);
    } catch (error) {
      if (!this.leaving) refuse(error);
    }
  }

  async leave(): Promise<void> {
    this.leaving = true;
    let thrown: PlainError | undefined;
    await this.thread?.generators.end();
    try {
      await this.setup?.end();
    } catch (error) {
      thrown = toPlain(asError(error));
    }
    this.context.port.detach();
    tell({ type: 'left', error: thrown });
  }

  private async begin(plan: Plan): Promise<void> {
    this.setup = new Setup(this.machine, this.context);
    await this.setup.done;
    if (this.leaving) return;
    const measures = newMeasures();
    const thread = (this.thread = new StageThread({
      port: this.context.port as CompletionPort,
      machine: this.machine,
      plan,
      index: options.index,
      number: options.thread,
      memory: binding.recordMemory(plan.records),
      traceMemory: binding.traceMemory(plan.records),
      counters: new Float64Array(options.counters),
      measures,
      byState: options.byState,
      wantsFailures,
      onFailure,
    }));
    new Runner(thread, () => undefined);
    tell({ type: 'ready', measures: sharesHistograms ? measures : undefined });
  }
}

function refuse(error: unknown): void {
  tell({ type: 'refused', error: toPlain(asError(error)) });
}

async function main(): Promise<void> {
  if (options.cpu !== undefined) bindToCpu(options.cpu);
  const stage = await loadStage(options.stage, options.module, options.data);
  const machine = machineOf(stage)!;
  let seat: Seat | undefined;
  pipeline.on('message', (message: ToWorker) => {
    if (message.type === 'microThreads') {
      tell({ type: 'microThreads', id: message.id, threads: microThreadsHere() });
    } else if (message.type === 'plan') {
      seat = new Seat(machine);
      void seat.run(message.plan);
    } else if (seat === undefined) {
      tell({ type: 'left', error: undefined });
    } else {
      void seat.leave();
    }
  });
  const tearsDown = machine.teardown !== undefined;
  const { record, states } = stage;
  tell({ type: 'loaded', fields: record, states, targets: machine.stages, tearsDown });
}

main().catch(refuse);
