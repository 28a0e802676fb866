/** What the pipeline's thread and the threads of its pools tell each other. */
import type { PortToken } from '../../api';
import type { PlainError } from '../failures';
import type { RecordFields } from '../api';
import type { Plan } from '../definition/plan';
import type { Measures } from '../record/counters';
import type { MicroThreads } from '../inspector/micro-threads';

/** What a worker is started with. */
export interface WorkerOptions {
  readonly token: PortToken;
  readonly stage: string;
  /** Index of the stage. */
  readonly index: number;
  /** Which of its threads this is. */
  readonly thread: number;
  /** URL of the stage's module. */
  readonly module: string;
  /** Given to a module that exports a function. */
  readonly data: unknown;
  /** The CPU it is bound to. */
  readonly cpu: number | undefined;
  readonly byState: boolean;
  readonly counters: SharedArrayBuffer;
}

export interface FailureMessage {
  readonly state: string;
  readonly key: number;
  readonly event: string;
  readonly error: PlainError;
  readonly trace: Uint32Array | undefined;
}

/** From a worker. */
export type FromWorker =
  | {
      readonly type: 'loaded';
      readonly fields: RecordFields;
      readonly states: readonly string[];
      /** Names of the stages it hands to; undefined: any. */
      readonly targets: readonly string[] | undefined;
      /** Whether the stage has a `teardown`. */
      readonly tearsDown: boolean;
    }
  | { readonly type: 'refused'; readonly error: PlainError }
  | {
      readonly type: 'ready';
      /** Undefined: they cannot be shared here. */
      readonly measures: Measures | undefined;
    }
  | { readonly type: 'failures'; readonly failures: readonly FailureMessage[] }
  /** What it was asked for by that number. */
  | { readonly type: 'microThreads'; readonly id: number; readonly threads: MicroThreads }
  /** It has left the port. `error`: what its `teardown` threw. */
  | { readonly type: 'left'; readonly error: PlainError | undefined };

/** To a worker. */
export type ToWorker =
  | { readonly type: 'plan'; readonly plan: Plan }
  | { readonly type: 'microThreads'; readonly id: number }
  | { readonly type: 'leave' };
