/**
 * The layout of the two arrays that JavaScript and native code share: operations are written into
 * the submission array and packets read from the completion array.
 *
 * The layouts are asserted on the native side in native/addon/submission.h and native/port/packet.h;
 * `ABI` of binding.ts changes whenever one of them does.
 */

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
  /** Close: the socket stays open, and the result is its descriptor and one more. */
  KeepOpen = Stall,
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
  /** u32; of a Message its MessageForm */
  TOKEN = 20,
  /** f64: bytes; posted value; expirations of a Timer */
  RESULT = 24,
  /** u32, Receive into the port's own buffer, Message: where the bytes are, else NO_CHUNK */
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
  /** The messages, 16 bytes each: u32 key, u32 PostBytes, f64 value at 8; of bytes u32 chunk and u32 start there. */
  SIZE = 16,
  BYTES = 4,
  /** The value, or where the bytes lie. */
  BODY = 8,
  START = 12,
}

/** What a message of the ring says of its bytes: PostRing of native/port/post_ring.h. 0: it is a number. */
export const enum PostBytes {
  HasBytes = 1 << 31,
  /** They have a block to themselves, which becomes the message's. */
  OwnBlock = 1 << 30,
  /** What a MessageForm begins at. */
  FORM_SHIFT = 28,
  /** Greatest length. */
  LENGTH = 2 ** 28 - 1,
}

/** What the bytes of a message are. Native code hands it through, in TOKEN of its packet. */
export const enum MessageForm {
  /** What was posted. */
  Bytes = 0,
  /** One value, as Form.Plain of lib/support/codec.ts. */
  Plain = 1,
  /** One, as Form.Serialized. */
  Serialized = 2,
}

/** A thread's block for messages. Constants that cost nothing to read. */
export const enum MessageBlock {
  SIZE = 16384,
  /** What each message of at most so many bytes has of it. */
  SLOT = 256,
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

/** See native/driver/operation.h. */
export const enum SocketOption {
  NoDelay = 0,
  /** Seconds before the first probe; 0: off. */
  KeepAlive = 1,
  ReceiveBuffer = 2,
  SendBuffer = 3,
  /** 1: closing resets the connection from now on. */
  Linger = 4,
  /** Seconds; after KeepAlive. */
  KeepAliveInterval = 5,
  KeepAliveCount = 6,
  /** Milliseconds. */
  UserTimeout = 7,
  TypeOfService = 8,
  /** Seconds. */
  DeferAccept = 9,
  FastOpen = 10,
  FastOpenConnect = 11,
  PipeAccess = 12,
}
