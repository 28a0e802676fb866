/**
 * completion-port/micro: micro-threads and channels.
 *
 * @module completion-port/micro
 */
import type * as api from './micro/api';
import { Channel as BoundedChannel } from './micro/channel';
import { MicroThread as Thread } from './micro/thread';

process.emitWarning('completion-port/micro may change in any minor version', 'ExperimentalWarning');

export { each } from './micro/each';
export { exclusive } from './micro/exclusive';
export { spawn } from './micro/spawn';
export { all, parallelMap, race, scope, select, within } from './micro/together';
export { sleep, wait } from './micro/wait';

/** The bounded channel: lib/micro/api.ts says what it has. */
export const Channel = BoundedChannel as api.ChannelConstructor;
export type Channel<T> = api.Channel<T>;
/** Micro-threads that live: lib/micro/api.ts says what it has. */
export const MicroThread = Thread as unknown as api.MicroThreadConstructor;
export type MicroThread<T> = api.MicroThread<T>;

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
  SpawnOptions,
  WithinOptions,
} from './micro/api';
export type { Suspended, Waitable } from './api';
