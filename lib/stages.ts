/**
 * completion-port/stages: servers in small state machines.
 *
 * @module completion-port/stages
 */
import type * as api from './stage/api';
import { Pipeline as Stages } from './stage/pool/pipeline';

export { defineStage } from './stage/definition/definition';
export { frames } from './stage/definition/frames';
export const Pipeline = Stages as unknown as api.PipelineConstructor;
/** A server of stages, each run by a pool of threads on a port of its own. */
export interface Pipeline<
  N extends string = string,
  S extends string = string,
> extends api.Pipeline<N, S> {}

export type {
  CheckedFields,
  CloseOptions,
  Connection,
  ConnectionDetails,
  ConnectionInfo,
  ConnectionsOptions,
  FieldType,
  FieldValue,
  FrameLength,
  FramesOptions,
  FramesSettings,
  FramesStats,
  Handlers,
  HandlerResult,
  HandOffOptions,
  HistogramSummary,
  Inspector,
  InspectorOptions,
  JavaScriptStageOptions,
  LocalStageOptions,
  ModuleStageOptions,
  NativeStage,
  NativeStageOptions,
  PipelineConstructor,
  PipelineEvents,
  PipelineOptions,
  PipelineStats,
  RecordFields,
  RecordOf,
  Reply,
  ReplyOptions,
  Stage,
  StageBatch,
  StageChannelMessages,
  StageContext,
  StageDefinition,
  StageDocument,
  StageFailure,
  StageListener,
  StageListenOptions,
  StageOptions,
  StageStats,
  ThreadExit,
  TraceEntry,
  Transition,
} from './stage/api';
