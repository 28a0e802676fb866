/**
 * completion-port/cpu: computation, wherever there is a CPU for it.
 *
 * @module completion-port/cpu
 */
import { quiet } from './cpu/quiet';

if (!quiet.worker) {
  process.emitWarning('completion-port/cpu may change in any minor version', 'ExperimentalWarning');
}

export { exclusive } from './cpu/exclusive';
export { applyWith, cpu, inline, setApply } from './cpu/policy';
export { pool } from './cpu/pool';
export { defineTasks } from './cpu/tasks';
export { transfer } from './cpu/transfer';

export type {
  ApplyOptions,
  Cpu,
  CpuOptions,
  Policy,
  Pool,
  PoolCloseOptions,
  PoolOptions,
  PoolStats,
  Task,
  TaskFunction,
  Tasks,
  TaskTraits,
} from './cpu/api';
export type { AwaitOptions, Operation, Suspended, Waitable } from './api';
