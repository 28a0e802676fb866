/**
 * completion-port: one queue for every finished I/O operation, shared by all threads of a process.
 */
export { CompletionPort } from './port';
export type {
  BufferOptions,
  ConnectOptions,
  DriverName,
  FileOptions,
  ListenOptions,
  PortOptions,
  PortStats,
  PortToken,
  TimerHandleOptions,
} from './port';
export type { ChunkOptions } from './chunks';
export type { Consumer } from './consumers';
export type { File, OwnedReadOptions, Position, ReadOptions, WriteOptions } from './file';
export type { AnyHandle, Answer, Handle, KeyOption, Style } from './handle';
export type { AcceptOptions, ListenerAddress, TcpListener } from './listener';
export type { Data } from './memory';
export type { Operation, OperationOptions } from './operation';
export type { Packet, PacketObject, PacketType } from './packet';
export type {
  ReceivedOptions,
  ReceiveOptions,
  SendFileOptions,
  SendOptions,
  TcpSocket,
} from './socket';
export type { FileStatus } from './status';
export { defineStage } from './stage/definition';
export { frames } from './stage/frames';
export type { FrameLength, FramesOptions, NativeStage } from './stage/frames';
export { Pipeline } from './stage/pipeline';
export type { Timer, TimerOptions } from './timer';
export type { Connection, HandOffOptions } from './stage/connection';
export type { Summary } from './stage/counters';
export type { Handlers, Next, Stage, StageDefinition, Transition } from './stage/definition';
export type { Reply, StageBatch, StageDocument } from './stage/documents';
export type { StageFailure } from './stage/failures';
export type { FieldType, FieldValue, RecordFields, RecordOf } from './stage/fields';
export type { ConnectionInfo } from './stage/inspect';
export type { Inspector, InspectorOptions } from './stage/inspector';
export type {
  JavaScriptStageOptions,
  NativeStageOptions,
  PipelineOptions,
  StageOptions,
} from './stage/options';
export type {
  CloseOptions,
  PipelineStats,
  StageListenOptions,
  StageStats,
  ThreadExit,
} from './stage/pipeline';
