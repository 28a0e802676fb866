/**
 * Every kind of operation and of packet, in one table: what the library has to know of it.
 * native/port/kinds.h has the same for native code (test/sources.test.ts holds both equal).
 */
import type { PacketType } from '../api';

/** What a submission asks for and what a packet answers (one numbering for both). */
export const enum Kind {
  Open = 1,
  Close = 2,
  Read = 3,
  Write = 4,
  Sync = 5,
  DataSync = 6,
  Truncate = 7,
  Allocate = 8,
  Stat = 9,
  Accept = 10,
  Connect = 11,
  Receive = 12,
  Send = 13,
  Shutdown = 14,
  Timer = 15,
  /** A message of `post`. Submission: a message of key `token`, value `offset`, goes on to port `tag`. */
  Posted = 16,
  /** Submission only: cancels the awaited operation `token` of this thread; answers nothing. */
  CancelToken = 17,
  /** Submission only: cancels all operations in flight on `handle`; answers nothing. */
  CancelHandle = 18,
  /** The first packet of a handle on the port it was handed to (rule A3). Submission: the connection `token` of `useRecords`, with `handle` (0: a task), goes to port `tag`, which its record then names. */
  HandOff = 19,
  /** The thread that held this key died (rule T1). */
  Abandoned = 20,
  /** The queue has room again; answers `room()` (rule Q2). */
  Room = 21,
  /** Submission only: releases the received buffer at `chunk`, `start`, after what was submitted before; answers nothing. */
  Release = 22,
  /** Of a socket; the file is in the submission. Bytes sent, fewer than asked for at the end of the file. */
  SendFile = 23,
  /** Most of what was queued on a socket is with the kernel: follows a submission with `Full`. */
  Drain = 24,
  SetMode = 25,
  SetOwner = 26,
  SetTimes = 27,
  /** Descriptors go along with the bytes: OFFSET is what `parcel` gave. */
  SendHandle = 28,
  /** LENGTH: bytes at most. `takeReceived` has what came. */
  ReceiveHandle = 29,
  /** What the threads of a native stage tell each other: never seen here. */
  Notice = 30,
  /** A message of bytes. Submission: a message of key `token`, its bytes and in `timeout` their MessageForm, goes on to port `tag`. */
  Message = 31,
}

/** What a program sees of a packet's kind; 'none' of what no program gets to see. */
export type PacketName = PacketType | 'none';

interface KindTraits {
  /** Of which kind its handle is; undefined: of any, or there is none. */
  readonly handle: 'file' | 'listener' | 'socket' | 'timer' | undefined;
  /** The packet that answers it. */
  readonly packet: PacketName;
  /** As Node.js reports it: reads and writes of sockets are 'read' and 'write'. */
  readonly syscall: string;
}

/** Of what is no system call. */
const NO_SYSCALL = 'completionPort';

const traits: Readonly<Record<Kind, KindTraits>> = {
  [Kind.Open]: { handle: 'file', packet: 'none', syscall: 'open' },
  [Kind.Close]: { handle: undefined, packet: 'closed', syscall: 'close' },
  [Kind.Read]: { handle: 'file', packet: 'read', syscall: 'read' },
  [Kind.Write]: { handle: 'file', packet: 'written', syscall: 'write' },
  [Kind.Sync]: { handle: 'file', packet: 'synced', syscall: 'fsync' },
  [Kind.DataSync]: { handle: 'file', packet: 'synced', syscall: 'fdatasync' },
  [Kind.Truncate]: { handle: 'file', packet: 'truncated', syscall: 'ftruncate' },
  [Kind.Allocate]: { handle: 'file', packet: 'allocated', syscall: 'fallocate' },
  [Kind.Stat]: { handle: 'file', packet: 'none', syscall: 'fstat' },
  [Kind.Accept]: { handle: 'listener', packet: 'accepted', syscall: 'accept' },
  [Kind.Connect]: { handle: 'socket', packet: 'none', syscall: 'connect' },
  [Kind.Receive]: { handle: 'socket', packet: 'received', syscall: 'read' },
  [Kind.Send]: { handle: 'socket', packet: 'sent', syscall: 'write' },
  [Kind.Shutdown]: { handle: 'socket', packet: 'ended', syscall: 'shutdown' },
  [Kind.Timer]: { handle: 'timer', packet: 'fired', syscall: 'timer' },
  [Kind.Posted]: { handle: undefined, packet: 'posted', syscall: NO_SYSCALL },
  [Kind.CancelToken]: { handle: undefined, packet: 'none', syscall: NO_SYSCALL },
  [Kind.CancelHandle]: { handle: undefined, packet: 'none', syscall: NO_SYSCALL },
  [Kind.HandOff]: { handle: undefined, packet: 'handedOff', syscall: NO_SYSCALL },
  [Kind.Abandoned]: { handle: undefined, packet: 'abandoned', syscall: NO_SYSCALL },
  [Kind.Room]: { handle: undefined, packet: 'none', syscall: NO_SYSCALL },
  [Kind.Release]: { handle: undefined, packet: 'none', syscall: NO_SYSCALL },
  [Kind.SendFile]: { handle: 'socket', packet: 'sent', syscall: 'sendfile' },
  [Kind.Drain]: { handle: 'socket', packet: 'drain', syscall: NO_SYSCALL },
  [Kind.SetMode]: { handle: 'file', packet: 'changed', syscall: 'fchmod' },
  [Kind.SetOwner]: { handle: 'file', packet: 'changed', syscall: 'fchown' },
  [Kind.SetTimes]: { handle: 'file', packet: 'changed', syscall: 'futime' },
  [Kind.SendHandle]: { handle: 'socket', packet: 'none', syscall: 'sendmsg' },
  [Kind.ReceiveHandle]: { handle: 'socket', packet: 'none', syscall: 'recvmsg' },
  [Kind.Notice]: { handle: undefined, packet: 'none', syscall: NO_SYSCALL },
  [Kind.Message]: { handle: undefined, packet: 'message', syscall: NO_SYSCALL },
};

/** Arrays without a gap, which the engine reads fastest; 0 is no kind. */
const inOrder: readonly KindTraits[] = Object.values(traits);
const packetNames: readonly PacketName[] = ['none', ...inOrder.map(({ packet }) => packet)];

export function packetNameOf(kind: Kind): PacketName {
  return packetNames[kind] ?? 'none';
}

export function syscallOf(kind: Kind): string {
  return traits[kind].syscall;
}

/** Which handles give packets of this kind. */
export function handleKindOf(kind: Kind): KindTraits['handle'] {
  return traits[kind].handle;
}
