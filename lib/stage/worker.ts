/**
 * A thread of a pool: loads the stage's module, tells what the stage is like, and runs it when it
 * has heard what the others are like. Started by lib/stage/pool.ts.
 */
import { parentPort, workerData, type MessagePort } from 'node:worker_threads';
import { binding } from '../binding';
import { systemError } from '../errors';
import { CompletionPort } from '../port';
import { setImmediate } from '../timers';
import { newMeasures } from './counters';
import { machineOf, type Machine } from './definition';
import type { StageFailure } from './api';
import { asError, toPlain } from './failures';
import type { FailureMessage, FromWorker, ToWorker, WorkerOptions } from './messages';
import { loadStage } from './module';
import { Runner } from './runner';
import { StageThread, type Plan } from './thread';

/** Failures told at one time at most: a flood of resets is counted, not reported one by one. */
const MOST_FAILURES = 64;

const options = workerData as WorkerOptions;
const pipeline = parentPort as MessagePort;

function tell(message: FromWorker): void {
  pipeline.postMessage(message);
}

/** Failures of one turn of the event loop are told together. */
const pending: FailureMessage[] = [];
function onFailure({ state, key, event, error }: StageFailure): void {
  if (pending.length >= MOST_FAILURES) return;
  if (pending.length === 0) setImmediate(tellFailures);
  pending.push({ state, key, event, error: toPlain(error) });
}

function tellFailures(): void {
  tell({ type: 'failures', failures: pending.splice(0) });
}

function bindToCpu(cpu: number): void {
  const error = binding.pinThread(cpu);
  if (error < 0) throw systemError(error, 'sched_setaffinity', {});
}

function run(machine: Machine, plan: Plan): CompletionPort {
  const port = CompletionPort.attach(options.token);
  const measures = newMeasures();
  const thread = new StageThread({
    port,
    machine,
    plan,
    index: options.index,
    memory: binding.recordMemory(plan.records),
    counters: new Float64Array(options.counters),
    measures,
    byState: options.byState,
    onFailure,
  });
  new Runner(thread, () => undefined);
  tell({ type: 'ready', ...measures });
  return port;
}

async function main(): Promise<void> {
  if (options.cpu !== undefined) bindToCpu(options.cpu);
  const stage = await loadStage(options.stage, options.module, options.data);
  const machine = machineOf(stage)!;
  let port: CompletionPort | undefined;
  pipeline.on('message', (message: ToWorker) => {
    if (message.type === 'plan') {
      port = run(machine, message.plan);
    } else {
      port?.detach();
      tell({ type: 'left' });
    }
  });
  tell({ type: 'loaded', fields: stage.record, states: stage.states });
}

main().catch((error: unknown) => tell({ type: 'refused', error: toPlain(asError(error)) }));
