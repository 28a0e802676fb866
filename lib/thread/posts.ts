/**
 * Messages that this thread posts: a ring in shared memory. Threads that take packets fetch them
 * from there; native code is called only when one of them is idle, and once in a while for room.
 *
 * A message is a number, or bytes that lie in the pool. Small ones lie in a block that the thread
 * cuts up, each in a part of its own, so that whoever is lent one sees nothing of another; larger
 * ones have a block each. Whose the bytes are while the message is in the ring, and afterwards, is
 * in native/port/posts.h and thread.h.
 */
import { types } from 'node:util';
import {
  Idle,
  LibraryError,
  MessageBlock,
  MessageForm,
  NO_CHUNK,
  PostBytes,
  Posts as Ring,
} from '../native/layout';
import { type NativeThread } from '../native/binding';
import { bufferOf, hasOneSize, lengthOf, realOf } from '../support/bytes';
import { cannotClone, Form, freeze, type Frozen } from '../support/codec';
import { outOfBuffers } from '../support/errors';
import { outOfRange } from '../support/validate';
import { isPortMemory, LARGEST_COPY, type Memory } from './memory';

const HIGH = 2 ** 32;
/** A larger ArrayBuffer is not kept alive in order to know it again. */
const MOST_KNOWN = 1024 * 1024;
/** Here, since it is read for each message. */
const NONE = NO_CHUNK;

export class Posts {
  private readonly native: NativeThread;
  private readonly memory: Memory;
  /** Room is asked for: native code is to be called at the end of this turn. */
  private readonly onAsked: () => void;
  private readonly keys: Int32Array;
  private readonly values: Float64Array;
  private readonly sharedTail: Int32Array;
  private readonly idle: Int32Array;
  private tail = 0;
  /** Messages that may be written before room has to be asked for again (rule Q2). */
  private room = 0;
  /** Room was refused because another thread has closed the port. */
  closed = false;
  private left = false;

  /** The block for small messages, and how much of it is taken. */
  private blockChunk = NO_CHUNK;
  private blockStart = 0;
  private taken: number = MessageBlock.SIZE;
  private block: Buffer | undefined = undefined;
  /** Memory of a program's own, of one size, that a message was in last: it need not be looked at again. */
  private known: ArrayBufferLike | undefined = undefined;
  /** Whether what is laid next can't grow meanwhile. */
  private fixed = false;
  /** Where the message that was laid last is. */
  private chunk = NO_CHUNK;
  private start = 0;

  constructor(native: NativeThread, memory: Memory, onAsked: () => void) {
    this.native = native;
    this.memory = memory;
    this.onAsked = onAsked;
    this.keys = new Int32Array(native.posts);
    this.values = new Float64Array(native.posts);
    this.sharedTail = new Int32Array(native.postsTail);
    this.idle = new Int32Array(native.idle);
  }

  /** False when the queue is full (rule Q2), or the port is closed. */
  post(key: number, value: number): boolean {
    if (this.room === 0 && !this.askForRoom()) return false;
    this.room--;
    const at = (this.tail & (Ring.CAPACITY - 1)) * Ring.SIZE;
    this.keys[at / 4] = key;
    this.keys[(at + Ring.BYTES) / 4] = 0;
    this.values[(at + Ring.BODY) / 8] = value;
    this.publishTail();
    return true;
  }

  /** The same of anything else. Throws what it can't be a message for: see `lay`. */
  postMessage(key: number, message: unknown): boolean {
    const content = this.contentOf(message, 'post()') as Body;
    if (this.room === 0 && !this.askForRoom()) return false;
    const bytes = this.lay(content);
    this.room--;
    const at = (this.tail & (Ring.CAPACITY - 1)) * Ring.SIZE;
    this.keys[at / 4] = key;
    this.keys[(at + Ring.BYTES) / 4] = bytes;
    this.keys[(at + Ring.BODY) / 4] = this.chunk;
    this.keys[(at + Ring.START) / 4] = this.start;
    this.publishTail();
    return true;
  }

  /**
   * Queues a message, as `contentOf` has it, for each of the keys, of port `portId`; its bytes are
   * there once. False, and none is queued, when there is no room for all, or the port is closed.
   * Throws when there never is.
   */
  publish(keys: Uint32Array, portId: number, content: Content): boolean {
    // What the program has a part in is over: it may have left the port meanwhile.
    if (this.left) {
      this.closed = true;
      return false;
    }
    const result =
      typeof content === 'number'
        ? this.publishNumber(keys, portId, content)
        : this.publishBytes(keys, portId, content);
    if (result > 0) throw outOfRange('keys.length', `<= ${result}, the queueLimit`, keys.length);
    this.closed = result === (LibraryError.PortClosed as number);
    return result === 0;
  }

  /** This thread has left the port: its memory is others'. */
  leave(): void {
    this.left = true;
    this.room = 0;
    this.taken = MessageBlock.SIZE;
    this.block = this.known = undefined;
  }

  /** Native code is called: what is left of the room goes back with that. */
  giveRoomBack(): void {
    this.room = 0;
  }

  private publishNumber(keys: Uint32Array, portId: number, value: number): number {
    const { length } = keys;
    this.giveRoomBack();
    return this.native.publish(keys, length, portId, NO_CHUNK, 0, 0, 0, false, value);
  }

  private publishBytes(keys: Uint32Array, portId: number, content: Body): number {
    // Another thread's part of the pipeline may have looked at it.
    this.fixed = false;
    const bytes = this.lay(content);
    const length = bytes & PostBytes.LENGTH;
    const form = ((bytes >>> PostBytes.FORM_SHIFT) & 3) as MessageForm;
    const own = (bytes & PostBytes.OwnBlock) !== 0;
    const { chunk, start } = this;
    this.giveRoomBack();
    return this.native.publish(keys, keys.length, portId, chunk, start, length, form, own);
  }

  /** From here on the message is posted, also if this thread is terminated now. */
  private publishTail(): void {
    // The order of these two makes sure that no thread falls asleep over it: see
    // native/port/dispatcher.h.
    Atomics.store(this.sharedTail, 0, (this.tail = (this.tail + 1) | 0));
    const idle = Atomics.load(this.idle, 0) as Idle;
    if (idle !== Idle.Nobody) this.tell(idle);
  }

  private tell(idle: Idle): void {
    if (idle === Idle.Asleep) this.native.acceptPosts();
    else if (idle === Idle.Spins) Atomics.compareExchange(this.idle, 0, Idle.Spins, Idle.Told);
  }

  /** What is left of it goes back with the next call, at the end of this turn at the latest. */
  private askForRoom(): boolean {
    this.onAsked();
    const granted = this.native.reserve(Ring.CAPACITY);
    this.closed = granted < 0;
    this.room = Math.max(0, granted);
    return this.room > 0;
  }

  // ---- the bytes of a message

  /** Copies the message into the pool, at `chunk` and `start`: what the ring says of its bytes. */
  private lay(content: Body): number {
    return types.isUint8Array(content) ? this.layBytes(content) : this.layValue(content);
  }

  private layBytes(message: Uint8Array): number {
    const length = lengthOf(message);
    const own = this.take(length);
    if (length === 0) return own;
    // What could grow while it is copied is copied as long as it was.
    const source = this.fixed ? message : realOf(message, length);
    const target =
      own === (PostBytes.HasBytes as number) ? this.block! : this.memory.bytes(this.chunk);
    target.set(source, this.start);
    return own | length;
  }

  private layValue(frozen: Frozen & { size: number }): number {
    const own = this.take(frozen.size);
    const length = this.memory.area(this.chunk).write(frozen, this.start);
    const form = frozen.form === Form.Plain ? MessageForm.Plain : MessageForm.Serialized;
    return own | (form << PostBytes.FORM_SHIFT) | length;
  }

  /**
   * A message as it is now, but for bytes: all that the program can have a part in, which may post
   * others meanwhile, or leave the port. Throws what the program does, for memory that is gone, and a
   * DataCloneError for what can't be copied.
   */
  contentOf(message: unknown, call: string): Content {
    if (typeof message === 'number') return message;
    if (types.isUint8Array(message)) {
      const buffer = bufferOf(message);
      if (buffer !== this.known || lengthOf(message) === 0) this.look(message, buffer);
      else this.fixed = true;
      return message;
    }
    try {
      return freeze([message], refuse) as Exclude<Frozen, { readonly form: Form.Message }>;
    } catch (error) {
      throw cannotClone(error, call);
    }
  }

  private look(message: Uint8Array, buffer: ArrayBufferLike): void {
    this.memory.check(message);
    this.fixed = hasOneSize(message);
    const known = this.fixed && !isPortMemory(buffer) && buffer.byteLength <= MOST_KNOWN;
    if (known) this.known = buffer;
  }

  /** Takes room for `length` bytes. What the ring says of them, but for how many they are. */
  private take(length: number): number {
    if (length === 0 || length > (MessageBlock.SLOT as number)) return this.takeOther(length);
    if (this.taken === (MessageBlock.SIZE as number)) this.nextBlock();
    this.chunk = this.blockChunk;
    this.start = this.blockStart + this.taken;
    this.taken += MessageBlock.SLOT;
    return PostBytes.HasBytes;
  }

  private takeOther(length: number): number {
    this.chunk = NONE;
    if (length === 0) return PostBytes.HasBytes;
    if (length > LARGEST_COPY) {
      throw outOfRange('message', `at most ${LARGEST_COPY} bytes`, length);
    }
    if (!this.memory.take(length)) throw outOfBuffers();
    ({ chunk: this.chunk, start: this.start } = this.memory);
    return PostBytes.HasBytes | PostBytes.OwnBlock;
  }

  private nextBlock(): void {
    const place = this.native.messageBlock();
    if (place < 0) throw outOfBuffers();
    this.blockChunk = Math.floor(place / HIGH);
    this.blockStart = place % HIGH;
    this.block = this.memory.bytes(this.blockChunk);
    this.taken = 0;
  }
}

/** What is copied into the pool. */
type Body = Uint8Array | (Frozen & { size: number });
/** A message: a number, or what is copied. */
export type Content = number | Body;

/** A value that is not copied by its bytes alone: what the program's own code throws, else why. */
function refuse(values: readonly unknown[]): never {
  structuredClone(values[0]);
  const text = 'a message is copied: nothing of it is shared or moved';
  throw new DOMException(text, 'DataCloneError');
}
