/**
 * Objects for handles that this thread did not open itself but meets in packets.
 */
import type { HandleInfo } from './binding';
import { File } from './file';
import type { AnyHandle } from './handle';
import type { Lane } from './lane';
import { TcpListener } from './listener';
import { TcpSocket } from './socket';
import { Timer } from './timer';

/** How many objects a lane keeps before it looks which of them are still needed. */
const SWEEP_AT = 4096;
const sweepAt = new WeakMap<Lane, number>();

/** The object for a keyed handle, the same each time; undefined when the handle is gone. */
export function handleFor(lane: Lane, id: number): AnyHandle | undefined {
  const known = lane.handles.get(id);
  if (known !== undefined) return known as AnyHandle;
  const info = lane.closed ? undefined : lane.native.handleInfo(id);
  if (info === undefined || !info.keyed) return undefined;
  makeRoom(lane);
  return make(lane, id, info);
}

export function acceptedSocket(lane: Lane, id: number, key: number): TcpSocket<'packet'> {
  const known = lane.handles.get(id);
  if (known !== undefined) return known as TcpSocket<'packet'>;
  makeRoom(lane);
  return new TcpSocket<'packet'>(lane, id, key, false);
}

function make(lane: Lane, id: number, info: HandleInfo): AnyHandle {
  switch (info.kind) {
    case 'file':
      return new File<'packet'>(lane, id, info.key, false, {
        path: undefined,
        append: false,
        direct: false,
        fileKind: info.fileKind,
      });
    case 'listener':
      return new TcpListener<'packet'>(lane, id, info.key, false);
    case 'socket':
      return new TcpSocket<'packet'>(lane, id, info.key, false);
    case 'timer':
      return new Timer<'packet'>(lane, id, info.key, false);
  }
}

/** Handles whose `closed` packet went to another thread are never heard of again here. */
function makeRoom(lane: Lane): void {
  if (lane.handles.size < (sweepAt.get(lane) ?? SWEEP_AT)) return;
  lane.sweep();
  sweepAt.set(lane, Math.max(SWEEP_AT, lane.handles.size * 2));
}
