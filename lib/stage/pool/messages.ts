/** What the pipeline's thread and the threads of its pools tell each other. */
import type { RecordableHistogram } from 'node:perf_hooks';
import type { PortToken } from '../../api';
import type { PlainError } from '../failures';
import type { RecordFields } from '../api';
import type { Plan } from '../definition/plan';

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
      readonly queueing: RecordableHistogram;
      readonly handling: RecordableHistogram;
    }
  | { readonly type: 'failures'; readonly failures: readonly FailureMessage[] }
  /** It has left the port. `error`: what its `teardown` threw. */
  | { readonly type: 'left'; readonly error: PlainError | undefined };

/** To a worker. */
export type ToWorker = { readonly type: 'plan'; readonly plan: Plan } | { readonly type: 'leave' };
