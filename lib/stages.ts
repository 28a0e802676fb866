/**
 * completion-port/stages: servers in small state machines.
 *
 * @module completion-port/stages
 */
import type * as api from './stage/api';
import { Pipeline as Stages } from './stage/pool/pipeline';

export { defineStage } from './stage/definition/definition';
export { frames } from './stage/definition/frames';
/** The pipeline: lib/stage/api.ts says what it has. */
export const Pipeline = Stages as unknown as api.PipelineConstructor;
export type Pipeline<N extends string = string> = api.Pipeline<N>;

export type {
  CheckedFields,
  CloseOptions,
  Connection,
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
  Transition,
} from './stage/api';
