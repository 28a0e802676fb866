/**
 * The only file that talks to the native addon: its functions, and the layout of the two arrays
 * that JavaScript and native code share.
 *
 * Operations are written into the submission array and packets read from the completion array; one
 * call a batch (`enter` or `get`) does everything. The layouts are asserted on the native side in
 * native/addon/submission.h and native/port/packet.h; `ABI` changes whenever one of them does.
 */
import { loadBinding } from '../loader';

/** Version of the layouts and functions below. */
export const ABI = 15;

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
}

/** One submission: 64 bytes, little-endian. Offsets in bytes. */
export const enum Submission {
  SIZE = 64,
  /** u8, Kind */
  KIND = 0,
  /** u8, SubmissionFlag */
  FLAGS = 1,
  /** u16, slices of memory: the first in this record, the others five a record in those that follow, 12 bytes each from offset 0: u32 chunk, u32 offset, u32 length */
  SLICES = 2,
  /** u32, comes back in the packet; for awaited operations the index in this thread's table, unique among those in flight; with Keyed the handle's key */
  TOKEN = 8,
  /** u32, milliseconds; 0: none (rule O6) */
  TIMEOUT = 12,
  /** f64: position in the file, also SendFile's (ignored for streams); new length of Truncate; bits of SetMode; user of SetOwner, u32; microseconds since 1970 when the file was accessed; milliseconds until a Timer fires first */
  OFFSET = 16,
  /** f64: bytes of Allocate, of SendFile at most; group of SetOwner; microseconds since 1970 when the file was modified; milliseconds between a repeating Timer's later firings, 0: once */
  LENGTH = 24,
  /** u32, first slice: chunk of the pool, NO_CHUNK: no memory (Receive: the port's own buffer) */
  CHUNK = 32,
  /** u32, first slice: offset in the chunk; SendFile: low word of the file's handle */
  START = 36,
  /** u32, first slice: bytes; SendFile: high word */
  BYTES = 40,
  /** u32, comes back in the packet */
  TAG = 44,
  /** u64 */
  HANDLE = 48,
  /** u64, with SubmissionFlag.Fed */
  FEEDER = 56,
}

export const enum SubmissionFlag {
  /** Accept, Receive: packets keep coming until cancelled or failed. */
  Multishot = 1,
  /** The next record in this array starts when this one has succeeded, and is cancelled when it fails (rule O9). */
  Linked = 2,
  /**
   * The pool memory of the slices is released with the final packet; a receive without memory of its
   * own releases at once what it names.
   */
  Release = 4,
  /** No packet when the operation succeeds, only when it fails. */
  Quiet = 8,
  /** TOKEN is the key of the handle: should that be gone, the answer comes under it. */
  Keyed = 16,
  /** Send, SendFile: the program was told that the socket has enough to send; a Drain packet follows. */
  Full = 32,
  /** Send: the bytes were received from the handle FEEDER, which receives nothing while this one is full (rule M4). */
  Fed = 64,
  /** Shutdown: its timeout counts time in which nothing moves. */
  Stall = 128,
}

/** One packet: 64 bytes. Offsets in bytes. */
export const enum Slot {
  SIZE = 64,
  /** u32, PacketState; another thread may take a Ready packet away: claim it with Atomics.compareExchange */
  STATE = 0,
  /** u8, Kind */
  KIND = 4,
  /** u8, PacketFlag */
  FLAGS = 5,
  /** u32 */
  KEY = 8,
  /** u32, Accept: key of the new connection (when it has one) */
  ACCEPTED_KEY = 12,
  /** i32, 0 or a negative errno or LibraryError */
  ERROR = 16,
  /** u32 */
  TOKEN = 20,
  /** f64: bytes; posted value; expirations of a Timer */
  RESULT = 24,
  /** u32, Receive into the port's own buffer: where the bytes are, else NO_CHUNK */
  CHUNK = 32,
  /** u32 */
  START = 36,
  /** u64, Accept: handle of the new connection */
  ACCEPTED = 40,
  /** u32, of the submission */
  TAG = 48,
  /** u32, microseconds between being queued and being taken */
  AGE = 52,
  /** u64; 0: no handle (posted) */
  HANDLE = 56,
}

/**
 * The handle whose name is in the two words at `at`. Names are whole numbers below 2 ** 53; a small
 * one is a small number to the engine, too.
 */
export function handleAt(words: Uint32Array, at: number): number {
  const high = words[at + 1]!;
  return high === 0 ? words[at]! : high * 2 ** 32 + words[at]!;
}

/** Writes the name of a handle into the two words at `at`. */
export function setHandle(words: Uint32Array, at: number, handle: number): void {
  words[at] = handle;
  words[at + 1] = handle / 2 ** 32;
}

export const enum PacketState {
  Free = 0,
  /** To be claimed; may be taken by a thread that is idle (rule D5). */
  Ready = 1,
  /** This thread's. */
  Claimed = 2,
  /** This thread has dealt with it: written when the next packet is claimed, so that a thread that dies abandons only the key it was at. */
  Done = 3,
  /** Taken by another thread; skip it. */
  Stolen = 4,
  /** Written instead of Done: the key stays this thread's beyond the batch, until `letGo`. Packets of the key that follow in the batch are left Ready, and wait with it. */
  Kept = 5,
}

export const enum PacketFlag {
  /** More packets of this operation follow. */
  More = 1,
  /** The answer to an awaited operation of this thread: `token` is an index in its table. */
  Awaited = 2,
}

/** The ring of messages that wait to be taken over, native/port/post_ring.h. Offsets in bytes. */
export const enum Posts {
  CAPACITY = 4096,
  /** The messages, 16 bytes each: u32 key, f64 value at 8. */
  SIZE = 16,
  VALUE = 8,
}

/** Whether a thread of the port waits for messages, and how it is told of one: native/port/dispatcher.h. */
export const enum Idle {
  Nobody = 0,
  /** Call `acceptPosts`. */
  Asleep = 1,
  /** It looks at this word: set it to Told, by compare-and-swap. */
  Spins = 2,
  Told = 3,
}

/** Bytes of a block for copies that share one. */
export const COPY_BLOCK = 4096;
/** Of the connections of a listener. */
export const NO_LIMIT = 0xffffffff;
/** No pool memory. */
export const NO_CHUNK = 0xffffffff;

/** Errors of the library itself, where an errno stands otherwise. */
export const enum LibraryError {
  HandleClosed = -20001,
  PortClosed = -20002,
  QueueFull = -20003,
  AlreadyAssociated = -20004,
  NotSupported = -20005,
  OutOfBuffers = -20006,
  OperationsPending = -20007,
  /** Windows: the handle can't be associated. */
  NotOverlapped = -20008,
  /** Pool memory that nobody owns was to be used. */
  BufferReleased = -20009,
  /** The `timeout` of the operation is over. A program sees ETIMEDOUT. */
  TimedOut = -20010,
}

/** Bits of `open`'s flags; each driver maps them to its system's. */
export const enum OpenFlag {
  Read = 1,
  Write = 2,
  Append = 4,
  Create = 8,
  Truncate = 16,
  Exclusive = 32,
  Direct = 64,
  Sync = 128,
}

export const enum SocketOption {
  NoDelay = 0,
  KeepAlive = 1,
  ReceiveBuffer = 2,
  SendBuffer = 3,
  /** Closing resets the connection from now on. */
  Reset = 4,
}

export interface NativePortOptions {
  /** Threads that may run at one time; 1 to 1024. */
  concurrency: number;
  /** '' (the process's choice), 'io_uring', 'epoll', 'iocp'. */
  driver: string;
  /** Posted packets the queue holds at most. */
  queueLimit: number;
  /** Bytes of one receive buffer. */
  bufferSize: number;
  /** Receive buffers of the port. */
  bufferCount: number;
  /** Bytes `allocate` may have given out at one time. */
  memoryLimit: number;
  /** Rule D8. */
  serializeKeys: boolean;
  /** Packets stay with the thread that submitted the operation. */
  affine: boolean;
  /** Microseconds that a thread in `get` looks before it sleeps. */
  spin: number;
  /** Pool memory is overwritten when it becomes free, and revoked when it was lent. */
  checkMemory: boolean;
}

export interface HandleInfo {
  kind: 'file' | 'listener' | 'socket' | 'timer';
  /** -1 while there is none. */
  descriptor: number;
  key: number;
  keyed: boolean;
  inFlight: number;
  closing: boolean;
  /** 'regular' | 'directory' | 'stream' | 'device' (files) */
  fileKind: string;
  append: boolean;
  direct: boolean;
  /** Of a file that was opened with a key: where, as the system was told. */
  path?: string;
}

export interface NativeStats {
  submitted: number;
  completed: number;
  batches: number;
  systemCalls: number;
  wakeUps: number;
  steals: number;
  queueDepth: number;
  freeBuffers: number;
  threads: number;
  running: number;
  waiting: number;
  handles: number;
  allocatedBytes: number;
  /** Connections closed as they came: beyond a listener's limit, or because there was no record for them. */
  refused: number;
}

/**
 * One thread attached to one port. Every function is called on that thread. Numbers that are
 * "handle or error" are a handle when positive, a negative errno or LibraryError otherwise.
 */
export interface NativeThread {
  readonly portId: number;
  readonly driver: string;
  readonly driverReason: string;
  /** 512 submissions (Submission.SIZE each). */
  readonly submissions: ArrayBuffer;
  /** How many of them are written; stored atomically. */
  readonly published: ArrayBuffer;
  /** 256 packets (Packet.SIZE each). */
  readonly completions: ArrayBuffer;
  /** The ring of this thread's messages: see Posts. */
  readonly posts: ArrayBuffer;
  /** i32: messages written into it so far, modulo 2^32; stored atomically, after the message. */
  readonly postsTail: ArrayBuffer;
  /** i32 of the whole port, an Idle: whether a thread waits that would take a message. */
  readonly idle: ArrayBuffer;

  /** Hands over `count` submissions, ends the previous batch, polls. Packets in the completion array, at most `max`; 0: none, and the event loop will be told of the next. PortClosed when the port is closed. */
  enter(count: number, max: number): number;
  /** The same, and waits: Infinity without end, else milliseconds. */
  get(count: number, max: number, timeout: number): number;
  /** Only hands over `count` submissions (queued; the kernel sees them at the next enter or get at the latest). Used when the array is full. 0 or PortClosed. */
  submit(count: number): number;

  /** Calls `ready` on the event loop whenever there may be packets. `threadsafe`: through a thread-safe function instead of libuv. */
  start(ready: () => void, threadsafe: boolean): void;
  ref(): void;
  unref(): void;

  /** Opens a file; the answer is an Open packet or token. `key` -1: awaited. `path`: bytes without NUL. Handle or error. */
  open(
    path: Uint8Array,
    flags: number,
    mode: number,
    key: number,
    token: number,
    timeout: number,
  ): number;
  /** Duplicates a descriptor of the process. Handle or error. */
  openDescriptor(descriptor: number, key: number): number;
  /** Another handle for a file that one of the process's ports has open. Handle or error. */
  reopen(handle: number, key: number): number;
  /** A duplicate of a connected or listening socket of the process. Handle or error. */
  adoptSocket(descriptor: number, key: number): number;
  /** The close that follows gives the socket back: its result is the descriptor and one more. 0 or error. */
  keepOpen(handle: number): number;
  /** Bytes of a regular file, or error. */
  fileSize(handle: number): number;
  /** `address`: numeric, or the path of a socket behind 'unix:'. `acceptKeyed`: accepted connections answer in packets, under unique keys of their own. Handle or error. */
  listen(
    address: string,
    port: number,
    backlog: number,
    reusePort: boolean,
    ipv6Only: boolean,
    key: number,
    acceptKeyed: boolean,
    noDelay: boolean,
  ): number;
  /** The answer is a Connect packet or token. `address`: as that of `listen`. Handle or error. */
  connect(address: string, port: number, key: number, token: number, timeout: number): number;
  /** A timer handle; Timer submissions arm it. */
  timer(key: number): number;
  setOption(handle: number, option: SocketOption, value: number): number;
  address(
    handle: number,
    peer: boolean,
  ): { address: string; port: number; family: 'IPv4' | 'IPv6' | 'unix' } | number;
  handleInfo(handle: number): HandleInfo | undefined;
  /** Bytes that a connection has received, or `sent`, so far; HandleClosed. */
  bytesMoved(handle: number, sent: boolean): number;
  /** Open connections that a listener has accepted; HandleClosed. */
  connections(listener: number): number;
  /** How many it may have, from now on `most`: NO_LIMIT or fewer; HandleClosed. More are closed as they come. */
  mostConnections(listener: number, most?: number): number;
  /** A key nobody has (rule A2). */
  uniqueKey(): number;

  /** `memoryLimit` of the port. */
  readonly memoryLimit: number;
  /** u64: bytes of the pool that are given out; changes at any time. */
  readonly allocated: ArrayBuffer;
  /** Pool memory of at least `size` bytes, aligned to 4,096: chunk * 2**32 + offset; -1: the memory limit is reached. `beyond`: the limit counts only for what is more by itself. */
  allocate(size: number, beyond?: boolean): number;
  /** COPY_BLOCK bytes for copies that share a block, as `allocate`: the one it gave last, when no operation uses that any more; else another, and the one before is to be released. `pending`: submissions that use it are not handed over yet. */
  copyBlock(pending: boolean, beyond: boolean): number;
  /** False when that memory is not allocated (a second release). Also for the buffers of Receive packets. */
  release(chunk: number, offset: number): boolean;
  /** Whether an operation uses the block at that place. */
  isUsed(chunk: number, offset: number): boolean;
  /** An ArrayBuffer of exactly these bytes of a block, for the program to see. It can't be transferred. */
  expose(chunk: number, offset: number, length: number): ArrayBuffer;
  /** Detaches what `expose` returned. */
  revoke(memory: ArrayBufferLike): void;
  /** `checkMemory` of the port. */
  readonly checked: boolean;
  /** All memory of the chunk, for the library alone; `blockSize`: it is given out in pieces of this size. */
  chunk(index: number): { memory: ArrayBuffer; blockSize: number };

  /** Room for messages in the ring, at most `wanted`, kept until the next enter or get; 0 when the queue is full; PortClosed. The ring is empty afterwards. */
  reserve(wanted: number): number;
  /** To be called when a message was written and `idle` was Asleep then. 0 or PortClosed. */
  acceptPosts(): number;
  /** An awaited Room packet comes under `token` when there is room. */
  room(token: number): void;
  /** While the thread blocks elsewhere the port lets another run in its place (rule D4). */
  blocking(begins: boolean): void;

  /** Ends what PacketState.Kept began. False when this thread does not keep the key. */
  letGo(key: number): boolean;
  /** From now on packets of `key`, which this thread holds, are for this thread alone; an Abandoned packet with `handle` tells the others when it is gone. */
  pinKey(key: number, handle: number, pinned: boolean): void;
  /** Connections accepted on this port get a record's name as their key. Comes before the following. */
  useRecords(records: number): void;
  /** Frees the record with its stash, document and reply. False when `key` names none. */
  releaseRecord(key: number): boolean;
  /** Has a Timer packet come when the record's deadline passes, which the clock does not look at in time. */
  watchDeadline(key: number): void;
  /** Puts received bytes, a packet's, behind those the connection brings along already; they are no longer this thread's. False (and released) when `key` names no record. */
  stash(key: number, chunk: number, start: number, length: number): boolean;
  /** Takes the first of them out, or the first two (`joined`) as one: where they are is in `place`. How many; 0 when there are none; a negative errno, and nothing is taken, when there is no memory to show them in. */
  unstash(key: number, joined: boolean): number;
  /** Copies `bytes`, and puts them in front of those that the connection brings along; `merges`: they are one with the first of them. 0 or a negative errno. */
  unread(key: number, bytes: Uint8Array, merges: boolean): number;
  /** Start, from the document's own, and length of each document that came with the one of `key`; undefined where it came alone. */
  documentParts(key: number): Uint32Array | undefined;
  /** 2 to the 32nd times their number, and how many bytes they all are with their delimiters; 0 bytes where they have none, or lie in a file. */
  documentBatch(key: number): number;
  /** The first of the messages that reached the connection while it was at a native stage. */
  takeMessage(key: number): number | undefined;
  /** Three u32: chunk, start, length. */
  readonly place: ArrayBuffer;
  /** What a native stage is to send when the connection comes back to it: memory (its ownership passes; NO_CHUNK: none), then a part of an open file (the handle's descriptor is duplicated; 0: none). The index of that stage, or error: NotSupported when the connection brings no document of one. */
  reply(
    key: number,
    chunk: number,
    start: number,
    length: number,
    file: number,
    fileStart: number,
    fileLength: number,
  ): number;
  /** Moves the handle to another port (rule A3). 0 or error. */
  handOff(handle: number, portId: number, key: number): number;
  /** The port stops: every waiter is told PortClosed. Handles must be closed before. Idempotent. */
  closePort(): void;
  /** Handles of the port that are still open. */
  handles(): number[];
  /** Ends this thread's part: cancels and reaps its operations, frees its lane. */
  detach(): void;
  stats(): NativeStats;
  /** Fills the buckets of lib/support/histogram.ts, and the sum behind them: microseconds that packets were queued. */
  waits(into: Float64Array): void;
}

/** Options of a native stage that receives documents; milliseconds, 0: none. lib/stage/definition/frames.ts checks them. */
export interface NativeFramesOptions {
  port: number;
  records: number;
  /** Index of the stage in its pipeline. */
  stage: number;
  nextPort: number;
  nextStage: number;
  threads: number;
  /** Thread i is bound to cpus[i % length]; empty: not bound. */
  cpus: number[];
  length: 'u8' | 'u16be' | 'u32be' | 'u32le' | 'varint' | 'delimiter';
  delimiter: Uint8Array | undefined;
  /** Bytes of the longest document. */
  max: number;
  spoolToFile: boolean;
  /** Documents up to this length stay in memory. */
  inMemory: number;
  directory: string;
  /** Documents in the next stage at one time. */
  queue: number;
  /** Documents of one connection that are handed over together. */
  pipelined: number;
  /** Bytes of documents in files at one time. */
  fileLimit: number;
  /** Bytes a second, while others wait; 0: none. */
  minRate: number;
  /** Between documents. */
  idleTimeout: number;
  /** Nothing moves in the middle of a document or an answer. */
  stallTimeout: number;
  /** From a document's first byte to its last. */
  documentTimeout: number;
  /** A client that is sent away may read why for so long. */
  farewellTimeout: number;
  /** What a client is told that is sent away. */
  tooLarge: Uint8Array | undefined;
  timedOut: Uint8Array | undefined;
  failed: Uint8Array | undefined;
}

/** What a native stage has done so far; `queued`, `waiting`: how things stand. */
export interface NativeFramesStats {
  connections: number;
  documents: number;
  bytes: number;
  /** Documents that went through a file. */
  spooled: number;
  replies: number;
  timedOut: number;
  tooLarge: number;
  failed: number;
  /** Packets that its threads have taken. */
  packets: number;
  /** Documents in the next stage now. */
  queued: number;
  /** Connections with a whole document that wait for room there. */
  waiting: number;
  /** Bytes of documents in files now, as far as their lengths are announced. */
  inFiles: number;
}

/** One thing the first-choice driver asks of the kernel. */
export interface Capability {
  /** As the system's manual has it. */
  name: string;
  /** First kernel version that has it. */
  since: string;
  /** Without it the driver is not used; else it only gets slower. */
  required: boolean;
  /** 0: granted; else negative. */
  errno: number;
}

/** What is to listen: a numeric `address` and a `port`, or a `descriptor` that listens already. */
export interface NativeListenerRequest {
  /** One of that name is shared where there is one; '': none. */
  name: string;
  /** Index in `policies` of lib/node/serve.ts. */
  policy: number;
  descriptor?: number;
  address?: string;
  port?: number;
  backlog?: number;
  reusePort?: boolean;
  ipv6Only?: boolean;
}

/** A hold on a listener that threads share. */
export interface NativeListener {
  readonly id: number;
  /** This thread serves it from now on. `seat`: the class. */
  join(seat: Binding['Seat']): NativeSeat;
  address(): { address: string; port: number; family: 'IPv4' | 'IPv6' | 'unix' } | undefined;
  /** Another descriptor of the socket, the caller's; or a negative errno. */
  duplicate(): number;
  stats(): {
    threads: number;
    connections: number;
    waiting: number;
    accepted: number;
    moved: number;
  };
  close(): void;
  release(): void;
}

/** A thread's place at a shared listener. */
export interface NativeSeat {
  /** i32: how many connections the thread has, for the policy; written by JavaScript. */
  readonly open: ArrayBuffer;
  /** Calls `ready` on the event loop as long as a connection waits, or the listener is closed. */
  start(ready: () => void): void;
  /** Whether there is something to take. */
  waits(): boolean;
  /** The descriptor of a connection, now the caller's; -1: another thread was faster. */
  take(): number;
  /** Whether the listener is closed. */
  closed(): boolean;
  ref(): void;
  unref(): void;
  /** What waits for this thread goes to the others. */
  leave(): void;
}

export interface Binding {
  /** Linux alone. Finds a listener by its number, or makes one; throws with `errno`. */
  readonly Listener?: new (which: number | NativeListenerRequest) => NativeListener;
  readonly Seat?: new (from: never) => NativeSeat;
  readonly abi: number;
  /** Names this copy of the binary in this process; each has a table of ports of its own. */
  readonly instance: string;
  /** Driver of this process and why it is not the first choice; throws when the ring's set-up failed for want of memory or descriptors (rule P3). */
  defaultDriver(): { name: string; reason: string };
  /** Asks the kernel anew: for diagnosis. Empty where the driver depends on nothing that could be missing. */
  capabilities(): Capability[];
  /** What each handle of the process has to send, by its place: see lib/thread/outgoing.ts. */
  outgoing(): ArrayBuffer;
  /** How completions of a busy thread are brought about in the calling thread's rings, and why not by a signal; '' where that is not needed. */
  nudging(): { mode: 'signal' | 'tick' | 'off' | ''; reason: string };
  /** How many ports, and pools of memory, the process has not freed: those that are there, and those that somebody still looks at. For tests. */
  remains(): { ports: number; pools: number };
  createPort(options: NativePortOptions): NativeThread;
  /** Attaches the calling thread to a port of this process. */
  attachPort(portId: number): NativeThread;
  /** CPUs available to the process (sched_getaffinity). */
  availableParallelism(): number;

  /** Binds the calling thread to a CPU. 0 or a negative errno. */
  pinThread(cpu: number): number;
  /** The CPUs this thread may run on. */
  allowedCpus(): number[];

  /** `limit` (at most 2**20) records of `stride` bytes (a multiple of 64): a number for them, or a negative errno. */
  createRecords(limit: number, stride: number): number;
  /** No record is made any more. The memory stays while it is seen. */
  closeRecords(records: number): void;
  /** All records, in native memory. */
  recordMemory(records: number): ArrayBuffer;
  /** A record of a task at port `portId`. Its key; 0: all are in use. */
  createRecord(records: number, portId: number): number;

  /** Starts the threads of a native stage. A number for it, or error. */
  createFrames(options: NativeFramesOptions): number;
  /** Accepts connections. Handle or error; `address`: numeric. */
  framesListen(
    frames: number,
    address: string,
    port: number,
    backlog: number,
    reusePort: boolean,
    ipv6Only: boolean,
    noDelay: boolean,
  ): number;
  framesStopListening(frames: number): void;
  /** From now on no new document is begun: connections end when they rest. */
  framesEndConnections(frames: number): void;
  /** From now on a message to one of its connections closes that. */
  framesCloseConnections(frames: number): void;
  framesStats(frames: number): NativeFramesStats | undefined;
  /** Closes its port and ends its threads. */
  closeFrames(frames: number): void;
}

const loaded = loadBinding<Binding>(ABI);

export const binding: Binding = loaded.binding;
/** Where the binary is, and how it came about. */
export const { file: bindingFile, origin: bindingOrigin } = loaded;
