/**
 * Descriptors that go along with bytes from one process to another, over UNIX sockets (SCM_RIGHTS).
 */
import type * as api from '../api';
import { Slot } from '../native/layout';
import type { Decode } from '../await/operation';
import { handleClosed, notSupported, systemError } from '../support/errors';
import { claimLater } from '../thread/claims';
import type { PortThread } from '../thread/port-thread';
import { Handle, type Style } from './handle';
import * as validate from '../support/validate';

/** SCM_MAX_FD. */
const MOST = 253;
const DEFAULT_LENGTH = 4096;
const MOST_BYTES = 2 ** 20;

/** Throws where a socket can't take descriptors along. */
export function checkPasses(socket: Handle<Style>): void {
  if (process.platform === 'win32') {
    throw notSupported('sendmsg', 'Windows has no descriptors that go along with bytes');
  }
  const address = socket.thread.native.address(socket.id, false);
  const isUnix = typeof address !== 'number' && address.family === 'unix';
  if (!isUnix) throw notSupported('sendmsg', 'descriptors go over UNIX sockets alone');
}

/** Duplicates of what is to be sent; they are native code's, under this number. */
export function parcelOf(thread: PortThread, given: unknown): number {
  const list: readonly unknown[] = Array.isArray(given) ? given : [given];
  if (list.length === 0 || list.length > MOST) {
    throw validate.outOfRange('handles', `one of 1 to ${MOST} handles`, list.length);
  }
  const parcel = thread.native.parcel(list.map(numberOf));
  if (parcel < 0) throw systemError(parcel, 'dup', {});
  return parcel;
}

/** As native code takes it. */
function numberOf(given: unknown): number {
  if (typeof given === 'number') return -1 - validate.integer(given, 'handles', 0, 0x7fffffff);
  if (!(given instanceof Handle) || given.kind === 'timer') {
    const type = 'a file, socket or listener of a port, or a descriptor';
    throw validate.invalidType('handles', type, given);
  }
  if (given.closed) throw handleClosed();
  return given.id;
}

export function lengthOf(options: api.ReceiveHandleOptions | undefined): number {
  return validate.integer(options?.length ?? DEFAULT_LENGTH, 'options.length', 1, MOST_BYTES);
}

export const takeReceived: Decode<api.ReceivedHandles> = (length, at, operation) => {
  const { words, native } = operation.thread;
  const token = words[at + Slot.TOKEN / 4]!;
  const { data, descriptors, truncated, parcel } = native.takeReceived(token, length)!;
  if (operation.unseen) {
    native.dropParcel(parcel);
    return { data, descriptors: [], truncated: truncated || descriptors.length > 0 };
  }
  claimLater(operation.thread, parcel);
  return { data, descriptors, truncated };
};
