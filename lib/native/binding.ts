/**
 * The only file that talks to the native addon: its functions. What both sides share is in
 * layout.ts, the kinds of operations and packets in kinds.ts: import it from there. A name that this
 * file gave on would be an accessor of its exports, and those a dictionary to V8, in which compiled
 * code looks it up each time.
 *
 * One call a batch (`enter` or `get`) does everything.
 */
import { loadBinding } from '../loader';
import type { MessageForm, SocketOption } from './layout';

/** Version of the layouts and functions below. */
export const ABI = 19;

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
  /** The number of the port that it belongs to; 0: one that has ended. */
  port: number;
  key: number;
  keyed: boolean;
  inFlight: number;
  closing: boolean;
  /** 'regular' | 'directory' | 'stream' | 'device' (files) */
  fileKind: string;
  append: boolean;
  direct: boolean;
  /** Of a socket that keeps the borders of messages, or listens for such. */
  messages: boolean;
  /** The peer of a connection hears that this side has ended; of a named pipe it does not. */
  halfCloses: boolean;
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
  takenBack: number;
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

/** Of NativeStats. */
export type Queue = Pick<NativeStats, 'queueDepth' | 'running' | 'batches'>;

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
  /** A handle without a key for the next connection of the seat, which is closed where it fails. */
  ownConnection(seat: NativeSeat): number;
  /** Duplicates what is to be sent with a SendHandle submission, which names what this returns: handles, or -1 less a descriptor of the process. A number, or error. */
  parcel(descriptors: readonly number[]): number;
  /** Closes what no submission names after all. */
  dropParcel(parcel: number): void;
  /** What a ReceiveHandle of that token brought: the first `length` of its bytes, and descriptors, which are closed with the thread unless `parcel` is claimed. */
  takeReceived(
    token: number,
    length: number,
  ): { data: Buffer; descriptors: number[]; truncated: boolean; parcel: number } | undefined;
  /** A number for `claim`: until that the descriptor that the packet at `at` brings is closed with the thread. Ends the packet. */
  unclaimed(at: number): number;
  /** The descriptors are the program's from now on. */
  claim(parcel: number): void;
  /** Whether a close may give the socket back (SubmissionFlag.KeepOpen). 0 or error. */
  letsGo(handle: number): number;
  /** Bytes of a regular file, or error. */
  fileSize(handle: number): number;
  /** `address`: numeric, or the path of a socket behind 'unix:'. `settings`: pairs of a SocketOption and its value, set before it listens. `acceptKeyed`: accepted connections answer in packets, under unique keys of their own. Handle or error. */
  listen(
    address: string,
    port: number,
    backlog: number,
    reusePort: boolean,
    ipv6Only: boolean,
    key: number,
    acceptKeyed: boolean,
    noDelay: boolean,
    settings?: Int32Array,
    messages?: boolean,
  ): number;
  /** The answer is a Connect packet or token. `address`: as that of `listen`; `settings`: pairs of a SocketOption and its value, set before it connects; `localAddress`: numeric, where it is not the system's choice. Handle or error. */
  connect(
    address: string,
    port: number,
    key: number,
    token: number,
    timeout: number,
    settings?: Int32Array,
    localAddress?: string,
    localPort?: number,
    messages?: boolean,
  ): number;
  /** A timer handle; Timer submissions arm it. */
  timer(key: number): number;
  setOption(handle: number, option: SocketOption, value: number): number;
  /** Its value, or error. */
  option(handle: number, option: SocketOption): number;
  address(
    handle: number,
    peer: boolean,
  ): { address: string; port: number; family: 'IPv4' | 'IPv6' | 'unix' } | number;
  handleInfo(handle: number): HandleInfo | undefined;
  /** Fills in the bytes that a connection has received, and sent, so far. False when it is gone. */
  bytesMoved(handle: number, into: Float64Array): boolean;
  /** Milliseconds without a byte after which it ends, from now on `milliseconds`, 0: none; of a listener those of its connections. HandleClosed. */
  idleTimeout(handle: number, milliseconds?: number): number;
  /** Open connections that a listener has accepted; HandleClosed. */
  connections(listener: number): number;
  /** How many it may have, from now on `most`: NO_LIMIT or fewer; HandleClosed. More are closed as they come. */
  mostConnections(listener: number, most?: number): number;
  /** A key nobody has (rule A2). */
  uniqueKey(): number;

  /** Of the port. */
  readonly queueLimit: number;
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

  /** MessageBlock.SIZE bytes, cleared, for messages that have no block each: as `allocate`, OutOfBuffers at the limit. Those in the one before are messages' from here on. */
  messageBlock(): number;
  /** Queues a message for the first `count` of `keys`, of that port: `length` bytes at `chunk` and `start`, or `value`. `own`: they have a block to themselves, which goes with it whatever happens; else they lie in the last `messageBlock`. 0, QueueFull, when there is no room for all, and then for none, PortClosed, or the limit of the queue, which they are more than. */
  publish(
    keys: Uint32Array,
    count: number,
    portId: number,
    chunk: number,
    start: number,
    length: number,
    form: MessageForm,
    own: boolean,
    value?: number,
  ): number;
  /** The bytes of a message at hand stay this thread's beyond its batch, until they are released. False when they are no message's. */
  retain(chunk: number, start: number): boolean;

  /** Room for messages in the ring, at most `wanted`, kept until the next enter or get; 0 when the queue is full; PortClosed. The ring is empty afterwards. */
  reserve(wanted: number): number;
  /** To be called when a message was written and `idle` was Asleep then. 0 or PortClosed. */
  acceptPosts(): number;
  /** An awaited Room packet comes under `token` when there is room. */
  room(token: number): void;
  /** The same when more than `known` connections were refused. */
  refusal(token: number, known: number): void;
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
  /** The document of `key` is begun: the next long one may be handed over. */
  documentBegun(key: number): void;
  /** The first of the messages that reached the connection while it was at a native stage: its number; or true, and its bytes, retained as by `retain`, are in `place`. */
  takeMessage(key: number): number | true | undefined;
  /** Four u32: chunk, start, length; with `takeMessage` a MessageForm. */
  readonly place: ArrayBuffer;
  /** What a native stage is to send when the connection comes back to it: memory (its ownership passes; NO_CHUNK: none), then a part of an open file (the handle's descriptor is duplicated; 0: none); `closes`: then the connection is closed. The index of that stage, or error: NotSupported when the connection brings no document of one. */
  reply(
    key: number,
    chunk: number,
    start: number,
    length: number,
    file: number,
    fileStart: number,
    fileLength: number,
    closes: boolean,
  ): number;
  /** Moves the handle to another port (rule A3). 0 or error. */
  handOff(handle: number, portId: number, key: number): number;
  /** This thread is about to close the port's handles, and then the port. Once; it ends with the thread. */
  announceClose(): void;
  /** Whether a thread is. */
  closeAnnounced(): boolean;
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
  /** Of the next stage. */
  nextThreads: number;
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
  /** A new socket like those that it accepts, the caller's; or a negative errno. Not on Windows. */
  sample(): number;
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
  /**
   * Calls `ready` on the event loop when a connection comes, or the listener is closed; the next
   * time after `waits` was false.
   */
  start(ready: () => void): void;
  /** Whether there is something to take. */
  waits(): boolean;
  /** A connection's descriptor or SOCKET, now the caller's; -1: another thread was faster. */
  take(): number;
  /** Whether the listener is closed. */
  closed(): boolean;
  ref(): void;
  unref(): void;
  /** What waits for this thread goes to the others. */
  leave(): void;
}

/** The calling thread's part in the line of native/port/turns.h. Tickets are u32, each unlike those in use. */
export interface NativeTurns {
  /** Asks for a turn. True: it is there at once; else `granted` is called with the ticket, unless that is given back first, perhaps at that moment. */
  ask(ticket: number): boolean;
  /** Gives a turn, or a place in the line, back. */
  leave(ticket: number): void;
  /** Keeps the event loop alive; it does not at the beginning. */
  ref(): void;
  unref(): void;
}

/** What becomes of a put or a take: QueueOutcome of native/port/shared_queue.h. */
export const enum QueueOutcome {
  Done = 0,
  /** `told` is called. */
  Waits = 1,
  /** The channel is full, or empty. */
  NotNow = 2,
  Closed = 3,
  Failed = 4,
  /** No such ticket, or the thread has quit the channel. */
  Gone = 5,
}

/** Where an item's parts lie: `Part` of native/addon/channel_binding.cc. */
export const enum ItemPart {
  FORM = 0,
  NUMBER = 1,
  CHUNK = 2,
  START = 3,
  /** Bytes in memory; 0: none. */
  LENGTH = 4,
  PARTS = 5,
}

/** Of a put: as in native/addon/channel_binding.cc. */
export const enum PutFlag {
  Waits = 1,
  /** The bytes have a block to themselves, which is the channel's where the outcome is Done or Waits. */
  OwnBlock = 2,
}

/** The calling thread's ends of native/port/shared_queue.h, by their numbers. Tickets are u32, each unlike those that wait. */
export interface NativeChannels {
  /** Puts the item. Its memory, where it has any, is used by the channel until the item is taken. */
  put(channel: number, ticket: number, flags: number): QueueOutcome;
  /** Done: the item is there. Its bytes are in `small`, where CHUNK is NO_CHUNK, else in its memory until `finish`. */
  take(channel: number, ticket: number, waits: number): QueueOutcome;
  /** What became of a ticket that was told; Waits: nothing yet. */
  hear(channel: number, ticket: number): QueueOutcome;
  /** Nobody waits any more. Done: it was a put, and what was put is in the channel. */
  leave(channel: number, ticket: number): QueueOutcome;
  /** The memory of the last item was read. */
  finish(): void;
  /** A new one, which the thread has joined. */
  make(capacity: number): number;
  /** False where nobody has it any more. */
  join(channel: number): boolean;
  /** As often as `make` or `join`. The last thread that quits frees it with what is in it. */
  quit(channel: number): void;
  /** u32: how many items it holds, and whether it is closed; written by any thread. */
  shown(channel: number): ArrayBuffer;
  close(channel: number): void;
  fail(channel: number, why: Uint8Array): void;
  /** What `fail` was given. */
  failure(channel: number): Buffer;
}

export interface Binding {
  /** Finds a listener by its number, or makes one; throws with `errno`. */
  readonly Listener: new (which: number | NativeListenerRequest) => NativeListener;
  readonly Seat: new (from: never) => NativeSeat;
  readonly abi: number;
  /** Names this copy of the binary in this process; each has a table of ports of its own. */
  readonly instance: string;
  /** Driver of this process and why it is not the first choice; throws when the ring's set-up failed for lack of memory or descriptors (rule P3). */
  defaultDriver(): { name: string; reason: string };
  /** Asks the kernel anew: for diagnosis. Empty where the driver depends on nothing that could be missing. */
  capabilities(): Capability[];
  /** What each handle of the process has to send, by its place: see lib/thread/outgoing.ts. */
  outgoing(): ArrayBuffer;
  /** How completions of a busy thread are brought about in the calling thread's rings, and why not by a signal; '' where that is not needed. */
  nudging(): { mode: 'signal' | 'tick' | 'off' | ''; reason: string };
  /** How many ports, pools of memory and shared channels the process has not freed: those that are there, and those that somebody still looks at. For tests. */
  remains(): { ports: number; pools: number; channels: number };
  /** How the packets of a port are taken; undefined when it has ended. */
  queueOf(portId: number): Queue | undefined;
  createPort(options: NativePortOptions): NativeThread;
  /** Attaches the calling thread to a port of this process. */
  attachPort(portId: number): NativeThread;
  /** CPUs available to the process (sched_getaffinity). */
  availableParallelism(): number;

  /** Turns that one thread of the process has at a time. At most one object a thread, which ends with it: what it has goes to the others. `granted` is called on the event loop, and throws nothing. */
  turns(granted: (ticket: number) => void): NativeTurns;

  /** Channels between threads. At most one object a thread, which ends with it: what it waits for, and what it was told of, goes to the others. `told` is called on the event loop; `item` (of length `ItemPart.PARTS`) is what an item is put from and taken to; bytes of what is taken that are no longer than `small` come there. */
  channels(told: (ticket: number) => void, item: Float64Array, small: Uint8Array): NativeChannels;

  /** Binds the calling thread to a CPU. 0 or a negative errno. */
  pinThread(cpu: number): number;
  /** The CPUs this thread may run on. */
  allowedCpus(): number[];

  /** `limit` (at most 2**20) records of `stride` bytes (a multiple of 64), each with a ring of `traced` events (a power of two, or 0): a number for them, or a negative errno. */
  createRecords(limit: number, stride: number, traced: number): number;
  /** No record is made any more. The memory stays while it is seen. */
  closeRecords(records: number): void;
  /** All records, in native memory. */
  recordMemory(records: number): ArrayBuffer;
  /** The rings of events of all records, in native memory; undefined where there are none. */
  traceMemory(records: number): ArrayBuffer | undefined;
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
    settings?: Int32Array,
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
