/**
 * What a pipeline tells each of its threads.
 */
import type { Layout } from './fields';

/** What each thread knows of each stage; a plain value that can be posted. */
export interface StageInfo {
  readonly name: string;
  readonly index: number;
  /** Id of its port. */
  readonly port: number;
  /** Names of its states. */
  readonly states: readonly string[];
  readonly native: boolean;
  /** Whether it hands documents over together. */
  readonly pipelined: boolean;
}

/** What a pipeline tells all of its threads. */
export interface Plan {
  readonly stages: readonly StageInfo[];
  readonly layout: Layout;
  /** Events that are kept of each connection: lib/stage/record/trace.ts. */
  readonly trace: number;
  /** Number of the record table. */
  readonly records: number;
  /** Int32, shared: see Control. */
  readonly control: SharedArrayBuffer;
}

/** Where the numbers that the whole pipeline shares stand. */
export const enum Control {
  /** Set: connections are closed as soon as a message reaches them. */
  Closing,
  COUNT,
}
