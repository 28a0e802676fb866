/**
 * Objects for handles that this thread did not open itself but meets in packets.
 */
import { AsyncResource } from 'node:async_hooks';
import { Kind, handleKindOf } from '../native/kinds';
import { type HandleInfo } from '../native/binding';
import { File } from './file';
import type { Style } from './handle';
import type { PortThread } from '../thread/port-thread';
import { TcpListener } from './listener';
import { plainPath } from './opening';
import { TcpSocket } from './socket';
import { Timer } from './timer';
import { points } from '../await/tracing';

/** A handle of any kind; `kind` tells which. */
export type AnyHandle<S extends Style = 'packet'> =
  File<S> | TcpListener<S> | TcpSocket<S> | Timer<S>;

/** How many objects a thread keeps before it looks which of them are still needed. */
const SWEEP_AT = 4096;
const sweepAt = new WeakMap<PortThread, number>();

/**
 * The object for the handle of a packet, the same each time. A handle can be gone before its last
 * packets are taken: its object is then closed, and undefined where not even its kind is known.
 */
export function handleFor(
  thread: PortThread,
  id: number,
  key: number,
  packet: Kind,
): AnyHandle | undefined {
  // A thread may die after it has handed off what it was in the middle of.
  if (packet === Kind.Abandoned && isElsewhere(thread, id)) return undefined;
  const known = thread.handles.get(id);
  if (known !== undefined) return known as AnyHandle;
  const info = thread.closed ? undefined : thread.native.handleInfo(id);
  if (info === undefined) return closedHandle(thread, id, key, packet);
  makeRoom(thread);
  return make(thread, id, info.key, info.kind, info);
}

/** Whether it was handed to another port, whose it is now. */
function isElsewhere(thread: PortThread, id: number): boolean {
  if (thread.closed) return false;
  const info = thread.native.handleInfo(id);
  return info !== undefined && info.port !== thread.native.portId;
}

/** The connection of an `accepted` packet, whose handle is its listener. */
export function acceptedSocket(
  thread: PortThread,
  id: number,
  key: number,
  packet: { readonly handle: AnyHandle | undefined },
): TcpSocket<'packet'> {
  const known = thread.handles.get(id);
  if (known !== undefined) return known as TcpSocket<'packet'>;
  makeRoom(thread);
  const socket = new TcpSocket<'packet'>(thread, id, key, false);
  if (thread.keepsContexts) socket.asyncResource = contextOfAccepted(packet.handle);
  if (points.accepted.wanted) points.accepted.publish({ socket, listener: packet.handle });
  return socket;
}

/** That of whoever asks for the connection first, if its listener is one that keeps contexts. */
function contextOfAccepted(listener: AnyHandle | undefined): AsyncResource | undefined {
  if (listener?.asyncResource === undefined) return undefined;
  return new AsyncResource('CompletionPortHandle');
}

function closedHandle(
  thread: PortThread,
  id: number,
  key: number,
  packet: Kind,
): AnyHandle | undefined {
  const kind = handleKindOf(packet);
  if (kind === undefined) return undefined;
  const handle = make(thread, id, key, kind, undefined);
  handle.gone();
  return handle;
}

function make(
  thread: PortThread,
  id: number,
  key: number,
  kind: HandleInfo['kind'],
  info: HandleInfo | undefined,
): AnyHandle {
  switch (kind) {
    case 'file':
      return new File<'packet'>(thread, id, key, false, {
        path: info?.path === undefined ? undefined : plainPath(info.path),
        append: info?.append ?? false,
        direct: info?.direct ?? false,
        fileKind: info?.fileKind ?? '',
      });
    case 'listener':
      return new TcpListener<'packet'>(thread, id, key, false);
    case 'socket':
      return new TcpSocket<'packet'>(thread, id, key, false);
    case 'timer':
      return new Timer<'packet'>(thread, id, key, false);
  }
}

/** Handles whose `closed` packet went to another thread are never heard of again here. */
function makeRoom(thread: PortThread): void {
  if (thread.handles.size < (sweepAt.get(thread) ?? SWEEP_AT)) return;
  thread.sweep();
  sweepAt.set(thread, Math.max(SWEEP_AT, thread.handles.size * 2));
}
