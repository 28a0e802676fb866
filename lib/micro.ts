/**
 * completion-port/micro: micro-threads and channels.
 *
 * @module completion-port/micro
 */
import type * as api from './micro/api';
import { Channel as BoundedChannel } from './micro/channel';
import { SharedChannel as BetweenThreads } from './micro/shared-channel';
import { MicroThread as Thread } from './micro/thread';

process.emitWarning('completion-port/micro may change in any minor version', 'ExperimentalWarning');

export { each } from './micro/each';
export { exclusive } from './micro/exclusive';
export { spawn } from './micro/spawn';
export { all, parallelMap, race, scope, select, within } from './micro/together';
export { sleep, wait } from './micro/wait';

export const Channel = BoundedChannel as api.ChannelConstructor;
/** A bounded channel between micro-threads of one thread. */
export interface Channel<T> extends api.Channel<T> {}
export const SharedChannel = BetweenThreads as api.SharedChannelConstructor;
/** A bounded channel between threads. */
export interface SharedChannel<T> extends api.SharedChannel<T> {}
export const MicroThread = Thread as unknown as api.MicroThreadConstructor;
/** A micro-thread: `spawn` gives one, `MicroThread.list()` those that live. */
export interface MicroThread<T> extends api.MicroThread<T> {}

export type {
  ChannelConstructor,
  Each,
  EachSource,
  Micro,
  MicroThreadConstructor,
  MicroThreadInfo,
  MicroThreadState,
  ParallelMapOptions,
  PipeOptions,
  ReadonlyChannel,
  Scope,
  Selected,
  SharedChannelConstructor,
  SharedChannelToken,
  SharedWait,
  SpawnOptions,
  WithinOptions,
} from './micro/api';
export type { Suspended, Waitable } from './api';
