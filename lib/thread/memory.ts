/**
 * The port's memory as this thread sees it: blocks of the pool as ArrayBuffers, and the copies a
 * program's own memory needs.
 *
 * The kernel only ever touches pool memory (rule O2). `ArrayBuffer.prototype.transfer()` and the
 * transfer list of `postMessage` can detach a program's own memory while the kernel writes to it,
 * and no Node-API call can forbid that; pool memory can't be transferred.
 *
 * What the program sees is one ArrayBuffer for each block, never for a chunk: whoever clones
 * `view.buffer` gets no bytes of another connection. Blocks that are lent over and over keep theirs,
 * because a new external ArrayBuffer costs 1 µs and its collection as much again; one that the
 * program owns has its own, which is detached when it is released, so that no late write reaches
 * the next owner.
 */
import type { Data } from '../api';
import { COPY_BLOCK, MessageBlock, MessageForm, NO_CHUNK } from '../native/layout';
import { type NativeThread } from '../native/binding';
import { bufferReleased, outOfBuffers } from '../support/errors';
import { ReadMemory } from './read-memory';
import { hasOneSize, honest, lengthOf, realOf } from '../support/bytes';
import { Area, Form } from '../support/codec';
import * as validate from '../support/validate';
import { KeptBuffers } from '../support/warnings';

export type { Data };

interface Chunk {
  /** All of it, for copies in and out: no program ever sees it. */
  readonly bytes: Buffer;
  readonly blockSize: number;
  /** Blocks that are, or were, lent to the program, by their place in the chunk. */
  readonly lent: (Block | undefined)[];
  area: Area | undefined;
  /** The same as `bytes`, for short copies. */
  words: Uint32Array | undefined;
}

/** The thread whose memory it is: lib/thread/port-thread.ts. */
interface Owner {
  readonly native: NativeThread;
  readonly closed: boolean;
  /** Releases pool memory after what was submitted before. */
  release(chunk: number, start: number): void;
}

/** A loop over what a socket receives. */
export interface Lender {
  /** The socket's id. */
  readonly id: number;
  /** Nothing more is received until `letReceive` was called as often: what came waits to be sent. */
  holdBack(): void;
  letReceive(): void;
}

/** A block, or the first part of one, as the program sees it. */
export class Block {
  /** Whether the program may use it: it is lent, or the program's own. */
  live = true;
  /** Given out by `allocate` or `keep`: the program is to release it. */
  owned = false;
  /** A receive buffer that the program keeps. */
  kept = false;
  /** Whether an operation was given some of it. */
  used = false;
  /** The loop that lends it. */
  lender: Lender | undefined = undefined;
  /** Of a message: how many packets lend it. One that was posted to many keys is there once. */
  loans = 0;
  /**
   * What is lent of it: asked for again it is the same Buffer, and for the next loan another one, so
   * that nothing a program put down under it is taken for what was said of other bytes.
   */
  private view: Buffer | undefined = undefined;
  private viewStart = 0;

  constructor(
    /** Undefined: it is a copy of a message. */
    readonly memory: Memory | undefined,
    readonly chunk: number,
    readonly start: number,
    readonly bytes: Buffer,
  ) {
    new Marked(bytes.buffer, this);
  }

  /** `length` bytes of it, from `start` on. */
  part(start: number, length: number): Buffer {
    if (this.view?.length !== length || this.viewStart !== start) {
      this.view = this.bytes.subarray(start, start + length);
      this.viewStart = start;
    }
    return this.view;
  }

  forgetView(): void {
    this.view = undefined;
  }

  /** The message in it. */
  first(length: number): Buffer {
    // A program has transferred it: that of a copy it can, and has all there was.
    if (this.bytes.length === 0) throw bufferReleased();
    return this.part(0, length);
  }
}

/** Of messages that are lent as copies; longer ones are lent where they are. */
const LONGEST_COPY = 4096;
/** Of those up to this length the words are copied one by one, which takes less than to call anybody. */
const SHORT_COPY: number = MessageBlock.SLOT;
/** Copies of one kind that are kept for the next. */
const MOST_COPIES = 64;

/** Copies of messages at hand, used again and again: one as a rule, more where handlers await. */
class Copies {
  private readonly short: Copy[] = [];
  private readonly long: Copy[] = [];

  lend(source: Chunk, start: number, length: number): Copy {
    const short = length <= SHORT_COPY;
    let copy = (short ? this.short : this.long).pop();
    // A program may have transferred its memory to another thread.
    if (copy === undefined || copy.bytes.length === 0) {
      copy = new Copy(short ? SHORT_COPY : LONGEST_COPY);
    }
    copy.fill(source, start, length);
    copy.live = true;
    copy.loans = 1;
    return copy;
  }

  take(copy: Block): void {
    const kept = copy.bytes.length > SHORT_COPY ? this.long : this.short;
    if (kept.length < MOST_COPIES) kept.push(copy as Copy);
  }
}

class Copy extends Block {
  private readonly words: Uint32Array;
  /** Words that may not be zero. */
  private filled = 0;

  constructor(size: number) {
    super(undefined, NO_CHUNK, 0, Buffer.from(new ArrayBuffer(size)));
    this.words = new Uint32Array(this.bytes.buffer);
  }

  /** Each message begins at a whole word, and what follows it up to the next is zero, or its own. */
  fill(source: Chunk, start: number, length: number): void {
    const { words } = this;
    const end = Math.ceil(length / 4);
    if (length <= SHORT_COPY) {
      const { bytes } = source;
      const from = (source.words ??= new Uint32Array(bytes.buffer, bytes.byteOffset));
      const base = start >>> 2;
      for (let i = 0; i < end; i++) words[i] = from[base + i]!;
    } else {
      source.bytes.copy(this.bytes, 0, start, start + length);
      this.bytes.fill(0, length, 4 * end);
    }
    if (this.filled > end) words.fill(0, end, this.filled);
    this.filled = end;
  }
}

/** A program may have given a view a `buffer` of its own, which is anything. */
const isObject = (memory: unknown): boolean => typeof memory === 'object' && memory !== null;

/** Says of bytes that are the program's own which loop gave them, until that is asked for more. */
export interface Gift {
  lender: Lender | undefined;
}

/** A constructor that returns what it is given: a class below it puts its fields on that. */
const Given = function (memory: ArrayBufferLike) {
  return memory;
} as unknown as new (memory: ArrayBufferLike) => object;

/**
 * The ArrayBuffer of a block knows it, of whichever port: memory of one is copied before another one
 * sends it. By a private field, which no program sees and which compiled code finds at once, where
 * a WeakMap is a call.
 */
class Marked extends Given {
  readonly #block: Block;

  constructor(memory: ArrayBufferLike, block: Block) {
    super(memory);
    this.#block = block;
  }

  static blockOf(memory: ArrayBufferLike): Block | undefined {
    return isObject(memory) && #block in memory ? memory.#block : undefined;
  }
}

/** The same of a copy that a loop gave. */
class Copied extends Given {
  readonly #gift: Gift;

  constructor(memory: ArrayBufferLike, gift: Gift) {
    super(memory);
    this.#gift = gift;
  }

  static giftOf(memory: ArrayBufferLike): Gift | undefined {
    return isObject(memory) && #gift in memory ? memory.#gift : undefined;
  }
}

const HIGH = 2 ** 32;
/** Greatest piece of own memory copied at once. */
export const LARGEST_COPY = 64 * 1024 * 1024;
/** Greatest copy that shares a block with others: a larger one takes a block of its own. */
const LARGEST_SHARED = COPY_BLOCK / 4;
/** Blocks up to this size keep their ArrayBuffers when documents in them are lent, */
const LARGEST_KEPT = 256 * 1024;
/** as long as they are no more than this together. */
const MOST_KEPT = 32 * 1024 * 1024;
/** Blocks of the pool are of this size, or it doubled so many times. */
const SMALLEST_BLOCK = 4096;
/** What copies in a shared block begin at a multiple of. */
const ALIGNMENT = 8;
/** As many slices as one operation of the kernel takes (IOV_MAX). */
const MOST_SLICES = 1024;
/** Slices in a record behind the first. */
export const SLICES_IN_RECORD = 5;

export class Memory {
  /** Where the memory that was last located, allocated or staged is. */
  chunk = 0;
  start = 0;

  /** Slices staged for the next submission: chunk, start, bytes of each. */
  readonly slices: Uint32Array = new Uint32Array(3 * MOST_SLICES);
  sliceCount = 0;
  stagedBytes = 0;
  /**
   * Whether the staged slices are copies in blocks of their own, which the native side releases with
   * the final packet.
   */
  stagedCopy = false;

  /** The block that small copies share, and how much of it is taken. */
  private copyChunk = NO_CHUNK;
  private copyStart = 0;
  private copied = COPY_BLOCK;
  /** Whether what is staged may be copied beyond the memory limit. */
  private beyond = false;

  /**
   * Whether submissions name pool memory that native code has not been told of yet. It takes their
   * use of it when it is; until then nothing may be released that they could mean (rule O2).
   */
  pending = false;

  readonly thread: Owner;
  /** For reads of files, which wait for it. */
  readonly reads = new ReadMemory(this);
  private readonly native: NativeThread;
  private readonly chunks: (Chunk | undefined)[] = [];
  private readonly owned = new Set<Block>();
  private readonly kept = new KeptBuffers();
  private readonly copies = new Copies();
  /** `COMPLETION_PORT_CHECK=memory`: what was lent is revoked. */
  private readonly checked: boolean;
  /** Of ArrayBuffers that blocks of documents keep. */
  private keptBytes = 0;
  /**
   * What was lent or located last, which often is what is located next: to ask a view for its
   * ArrayBuffer is a call.
   */
  private lastView: ArrayBufferView | undefined;
  private lastStart = 0;
  private lastBlock: Block | undefined;

  constructor(thread: Owner) {
    this.thread = thread;
    this.native = thread.native;
    this.checked = thread.native.checked;
  }

  // ---- what no program sees

  /** All bytes of a chunk: to copy from and to, never to be given out. */
  bytes(index: number): Buffer {
    return (this.chunks[index] ?? this.load(index)).bytes;
  }

  /** The same, to write values into and read them. */
  area(index: number): Area {
    const chunk = this.chunks[index] ?? this.load(index);
    return (chunk.area ??= new Area(chunk.bytes));
  }

  /** The same, from a loop. */
  copyOutFrom(lender: Lender, chunk: number, start: number, length: number): [Buffer, Gift] {
    const own = this.copyOut(chunk, start, length);
    const gift: Gift = { lender };
    new Copied(own.buffer, gift);
    return [own, gift];
  }

  /** The value that a message holds, or its bytes, copied. */
  valueAt(form: MessageForm, chunk: number, start: number, length: number): unknown {
    if (form === MessageForm.Bytes) return this.copyOut(chunk, start, length);
    const read = form === MessageForm.Plain ? Form.Plain : Form.Serialized;
    return this.area(chunk).read(read, start, length)[0];
  }

  /** A Buffer of its own: not from Node's pool either, whose memory small Buffers share. */
  copyOut(chunk: number, start: number, length: number): Buffer {
    const own = Buffer.allocUnsafeSlow(length);
    own.set(this.bytes(chunk).subarray(start, start + length));
    return own;
  }

  /**
   * Takes `size` bytes; false when the memory limit is reached. `beyond`: it is no reason, unless
   * that is more by itself (rule M7).
   */
  take(size: number, beyond = false): boolean {
    const place = this.native.allocate(size, beyond);
    if (place < 0) return false;
    this.chunk = Math.floor(place / HIGH);
    this.start = place % HIGH;
    return true;
  }

  /** Whether `size` bytes are within the memory limit by themselves. */
  mayEverTake(size: number): boolean {
    const block = 2 ** Math.ceil(Math.log2(Math.max(size, SMALLEST_BLOCK)));
    return block <= this.native.memoryLimit;
  }

  /** Gives back what no program has seen and no operation uses. */
  give(chunk: number, start: number): void {
    if (!this.thread.closed) this.native.release(chunk, start);
  }

  // ---- lending

  /** Lends a part of a block that the port has filled, until `takeBack`. */
  lend(index: number, start: number, length: number, lender?: Lender): Buffer {
    const chunk = this.chunks[index] ?? this.load(index);
    const at = Math.floor(start / chunk.blockSize);
    const block = (chunk.lent[at] ??= this.exposeExactly(
      index,
      at * chunk.blockSize,
      chunk.blockSize,
    ));
    block.live = true;
    const view = block.part(start - block.start, length);
    block.lender = lender;
    this.found(view, start, block);
    return view;
  }

  /** The program's time with it is over: operations that were given it go on. */
  takeBack(chunk: number, start: number): void {
    this.forget(chunk, start);
    this.thread.release(chunk, start);
  }

  /** The same, where the block itself has gone on to an operation or another thread. */
  forget(index: number, start: number): void {
    const chunk = this.chunks[index];
    if (chunk === undefined) return;
    const at = Math.floor(start / chunk.blockSize);
    const block = chunk.lent[at];
    if (block === undefined) return;
    if (this.checked) chunk.lent[at] = undefined;
    this.endLoan(block);
  }

  /** What is lent becomes the program's own. */
  keep(index: number, start: number, length: number): Buffer {
    const view = this.lend(index, start, length);
    const block = Marked.blockOf(view.buffer)!;
    const { blockSize, lent } = this.chunks[index]!;
    // Its ArrayBuffer ends with the release, and is not lent again.
    lent[Math.floor(start / blockSize)] = undefined;
    this.own(block);
    block.kept = true;
    this.kept.add(this.thread);
    return view;
  }

  /** Lends no more than `length` bytes, until `endLoan`. */
  exposeExactly(chunk: number, start: number, length: number): Block {
    const memory = Buffer.from(this.native.expose(chunk, start, length));
    return new Block(this, chunk, start, memory);
  }

  /**
   * The same, from the beginning of a block. Small blocks keep their ArrayBuffer, which holds nothing
   * behind the bytes: with a new one for each, V8 marks its whole heap again and again to have
   * the old ones freed, since it counts their bytes as memory that they keep.
   */
  lendFirst(index: number, start: number, length: number): Block {
    const chunk = this.chunks[index] ?? this.load(index);
    const { blockSize, lent } = chunk;
    if (this.checked || start % blockSize !== 0 || blockSize > LARGEST_KEPT) {
      return this.exposeExactly(index, start, length);
    }
    const at = start / blockSize;
    let block = lent[at];
    if (block === undefined) {
      if (this.keptBytes + blockSize > MOST_KEPT) return this.exposeExactly(index, start, length);
      this.keptBytes += blockSize;
      block = lent[at] = this.exposeExactly(index, start, blockSize);
    }
    block.bytes.fill(0, length);
    block.live = true;
    return block;
  }

  /**
   * Lends the bytes of a message, until `endMessage`. Behind them its ArrayBuffer holds none. What is
   * short is lent as a copy: messages lie in as many places as the queue is long, and an ArrayBuffer
   * for each would cost more than all else of the message.
   */
  lendMessage(index: number, start: number, length: number): Block {
    if (length <= LONGEST_COPY && !this.checked) {
      return this.copies.lend(this.chunks[index] ?? this.load(index), start, length);
    }
    const block = this.checked
      ? this.exposeExactly(index, start, length)
      : this.lendFirst(index, start, length);
    block.live = true;
    block.loans++;
    return block;
  }

  endMessage(block: Block): void {
    if (--block.loans > 0) return;
    this.endLoan(block);
    if (block.memory === undefined) this.copies.take(block);
  }

  /** What was lent may not be used any more. */
  endLoan(block: Block): void {
    block.live = false;
    block.lender = undefined;
    block.forgetView();
    if (this.checked) this.revoke(block);
  }

  /**
   * The program may not use it any more; and can't. V8 compiles loops over typed arrays on the
   * assumption that no ArrayBuffer of the thread was ever detached, and they take half as long again
   * from the first time on: hence only for what the program owned.
   */
  private revoke(block: Block): void {
    block.live = false;
    if (!this.thread.closed) this.native.revoke(block.bytes.buffer);
  }

  /** Whether what was lent may be written to again: no operation was given it, or none has it now. */
  mayReuse(block: Block): boolean {
    if (this.checked) return false;
    return !block.used || (!this.pending && !this.native.isUsed(block.chunk, block.start));
  }

  // ---- what the program owns

  allocate(size: number): Buffer {
    if (!this.take(size)) throw outOfBuffers();
    const block = this.exposeExactly(this.chunk, this.start, size);
    this.own(block);
    return block.bytes;
  }

  release(view: ArrayBufferView): void {
    const block = this.ownBlock(view);
    this.disown(block);
    this.thread.release(block.chunk, block.start);
  }

  /** The block of memory that is the program's own; throws for any other. */
  ownBlock(view: ArrayBufferView): Block {
    const block = Marked.blockOf(view.buffer);
    if (block === undefined || block.memory !== this) {
      throw validate.invalidValue('buffer', 'is not memory of this completion port', view);
    }
    if (!block.live) throw bufferReleased();
    if (!block.owned) {
      throw validate.invalidValue('buffer', 'is lent, and goes back by itself', view);
    }
    return block;
  }

  /** Gives back what of `data` is the program's own, after the operations submitted before. */
  releaseAll(data: Data | readonly Data[]): void {
    for (const part of Array.isArray(data) ? (data as readonly Data[]) : [data as Data]) {
      const block = ArrayBuffer.isView(part) ? Marked.blockOf(part.buffer) : undefined;
      if (block?.memory === this && block.live && block.owned)
        this.release(part as ArrayBufferView);
    }
  }

  /** The thread leaves, and others get what was its; or the port is closed, and its memory goes. */
  revokeAll(): void {
    for (const block of this.owned) this.disown(block);
  }

  private own(block: Block): void {
    block.owned = true;
    this.owned.add(block);
  }

  private disown(block: Block): void {
    block.owned = false;
    if (block.kept) this.kept.count--;
    this.owned.delete(block);
    this.revoke(block);
  }

  // ---- submitting

  /** Throws for memory that was released, and for a program's own that is gone. */
  check(view: ArrayBufferView): void {
    const block = Marked.blockOf(view.buffer);
    if (block !== undefined && !block.live) throw bufferReleased();
    bytesIn(view);
  }

  /** The same, and for a message's bytes, which others may have at hand: they are to be read. */
  checkTarget(view: ArrayBufferView, name: string): void {
    this.check(view);
    if ((Marked.blockOf(view.buffer)?.loans ?? 0) > 0) {
      throw validate.invalidValue(name, 'must not be the bytes of a message', view);
    }
  }

  /**
   * Whether `view` lies in this port's memory; sets `chunk` and `start`. Throws for memory that was
   * released. What is found is for an operation that is submitted now.
   */
  locate(view: ArrayBufferView): boolean {
    if (view !== this.lastView) {
      const block = Marked.blockOf(view.buffer);
      if (block === undefined) return false;
      this.found(view, block.start + view.byteOffset, block);
    }
    const block = this.lastBlock!;
    if (!block.live) throw bufferReleased();
    if (block.memory !== this) return false;
    block.used = true;
    this.chunk = block.chunk;
    this.start = this.lastStart;
    return true;
  }

  private found(view: ArrayBufferView, start: number, block: Block): void {
    this.lastView = view;
    this.lastStart = start;
    this.lastBlock = block;
  }

  /** The loop that gave these bytes, and has not been asked for more. */
  lenderOf(view: ArrayBufferView): Lender | undefined {
    if (view === this.lastView) return this.lastBlock!.lender;
    const { buffer } = view;
    return (Marked.blockOf(buffer) ?? Copied.giftOf(buffer))?.lender;
  }

  /** Records the staged slices take in the submission array. */
  get stagedRecords(): number {
    return 1 + Math.max(0, Math.ceil((this.sliceCount - 1) / SLICES_IN_RECORD));
  }

  /**
   * Prepares the slices of one submission: pool memory as it is; when any of `data` is the
   * program's own, a copy of all of it. False when there is no memory for the copy. `aligned`: a copy
   * is to begin at a multiple of 4,096. `beyond`: as of `take`.
   */
  stage(data: Data | readonly Data[], aligned = false, beyond = false): boolean {
    this.beyond = beyond;
    this.sliceCount = 0;
    this.stagedBytes = 0;
    this.stagedCopy = false;
    const shared = aligned ? 0 : LARGEST_SHARED;
    if (!Array.isArray(data)) return this.stageOne(data as Data, shared);
    for (const part of data as readonly Data[]) {
      if (!ArrayBuffer.isView(part) || !this.locate(part)) return this.copyAll(data, shared);
      if (this.sliceCount === MOST_SLICES) return this.copyAll(data, shared);
      if (part.byteLength > 0) this.addSlice(part.byteLength);
    }
    return true;
  }

  /** The same for one piece that is copied whatever it is, without looking whose memory it is. */
  stageCopy(data: Data, beyond: boolean): boolean {
    this.beyond = beyond;
    this.resetStage();
    if (typeof data === 'string') return this.copyString(data, LARGEST_SHARED);
    const bytes = bytesIn(data);
    if (bytes === 0) return true;
    return bytes > LARGEST_COPY
      ? this.copyAll([data], LARGEST_SHARED)
      : this.copy(data, LARGEST_SHARED);
  }

  /**
   * Takes room for `bytes` that the caller writes: at `chunk` and `start`, in a block of its own where
   * `stagedCopy` says so. False when there is no memory for it.
   */
  reserve(bytes: number): boolean {
    this.beyond = false;
    this.resetStage();
    return this.takeCopy(bytes, LARGEST_SHARED);
  }

  /** Of what was reserved last, only `bytes` were needed: of a shared block the rest is for the next. */
  shorten(bytes: number): void {
    if (this.stagedCopy) return;
    this.copied = this.start - this.copyStart + Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
  }

  /** A copy outside of the port's memory: the program may change its own, or release the port's. */
  copyOf(data: Data | readonly Data[]): Buffer {
    const parts = (Array.isArray(data) ? data : [data]) as readonly Data[];
    const copied = parts.map((part) => {
      if (typeof part === 'string') return Buffer.from(part);
      this.check(part);
      return asBytes(part);
    });
    return Buffer.concat(copied);
  }

  /** Prepares memory to read into; false when any of it is not the pool's, or it is too much. */
  stageInPlace(views: readonly ArrayBufferView[]): boolean {
    this.resetStage();
    for (const view of views) {
      if (this.sliceCount === MOST_SLICES || !this.locate(view)) return false;
      if (view.byteLength > 0) this.addSlice(view.byteLength);
    }
    return true;
  }

  /** Prepares one slice at `chunk` and `start`. */
  addSlice(bytes: number): void {
    const at = this.sliceCount++ * 3;
    this.slices[at] = this.chunk;
    this.slices[at + 1] = this.start;
    this.slices[at + 2] = bytes;
    this.stagedBytes += bytes;
  }

  resetStage(): void {
    this.sliceCount = 0;
    this.stagedBytes = 0;
    this.stagedCopy = false;
  }

  /** Nothing of what is staged is submitted: copies go back. */
  unstage(): false {
    for (let at = 0; this.stagedCopy && at < this.sliceCount * 3; at += 3) {
      this.give(this.slices[at]!, this.slices[at + 1]!);
    }
    this.resetStage();
    return false;
  }

  /** `shared`: greatest copy that shares a block. */
  private stageOne(data: Data, shared: number): boolean {
    if (typeof data === 'string') return this.copyString(data, shared);
    const here = this.locate(data);
    const bytes = bytesIn(data);
    if (bytes === 0) return true;
    if (!here) return bytes > LARGEST_COPY ? this.copyAll([data], shared) : this.copy(data, shared);
    this.addSlice(bytes);
    return true;
  }

  private copy(data: ArrayBufferView, shared: number): boolean {
    const source = honest(asBytes(data));
    const length = lengthOf(source);
    if (!this.takeCopy(length, shared)) return false;
    // Another thread may make shared memory longer at any time.
    this.bytes(this.chunk).set(hasOneSize(source) ? source : realOf(source, length), this.start);
    return true;
  }

  private copyString(data: string, shared: number): boolean {
    const bytes = Buffer.byteLength(data);
    if (bytes === 0) return true;
    if (bytes > LARGEST_COPY) return this.copyAll([Buffer.from(data)], shared);
    if (!this.takeCopy(bytes, shared)) return false;
    this.bytes(this.chunk).write(data, this.start, bytes);
    return true;
  }

  private copyAll(data: readonly Data[], shared: number): boolean {
    this.resetStage();
    for (const part of data) if (typeof part !== 'string') this.check(part);
    const parts = data.map((part) => (typeof part === 'string' ? part : honest(asBytes(part))));
    const bytes = parts.reduce((sum, part) => sum + sizeOf(part), 0);
    this.beyond &&= bytes <= this.native.memoryLimit;
    return bytes > LARGEST_COPY
      ? this.copyInPieces(parts, bytes)
      : bytes === 0 || this.copyTogether(parts, bytes, shared);
  }

  private copyTogether(
    parts: readonly (string | Uint8Array)[],
    bytes: number,
    shared: number,
  ): boolean {
    if (!this.takeCopy(bytes, shared)) return this.unstage();
    const target = this.bytes(this.chunk);
    let at = this.start;
    const end = at + bytes;
    for (const part of parts) {
      if (typeof part === 'string') {
        at += target.write(part, at, end - at);
      } else {
        // Another thread may make shared memory longer at any time.
        const piece = hasOneSize(part) ? part : realOf(part, Math.min(lengthOf(part), end - at));
        target.set(piece, at);
        at += lengthOf(piece);
      }
    }
    return true;
  }

  /** Each with a block of its own. */
  private copyInPieces(parts: readonly (string | Uint8Array)[], bytes: number): boolean {
    const sources = parts.map((part) => (typeof part === 'string' ? Buffer.from(part) : part));
    let left = bytes;
    let room = 0;
    for (const source of sources) {
      for (let from = 0, end = lengthOf(source); from < end;) {
        if (room === 0) {
          room = Math.min(left, LARGEST_COPY);
          if (!this.takeCopy(room, 0)) return this.unstage();
        }
        const piece = source.subarray(from, from + room);
        this.bytes(this.chunk).set(piece, this.start);
        this.start += piece.length;
        from += piece.length;
        room -= piece.length;
        left -= piece.length;
      }
    }
    return true;
  }

  private takeCopy(bytes: number, shared: number): boolean {
    const own = bytes > shared;
    if (!(own ? this.take(bytes, this.beyond) : this.share(bytes))) return false;
    this.addSlice(bytes);
    this.stagedCopy = own;
    return true;
  }

  /**
   * Takes `bytes` of the block that small copies share. Whoever has a part of it uses the block, so
   * it goes back when the last of them is done, and the copies follow their size.
   */
  private share(bytes: number): boolean {
    if (this.copied + bytes > COPY_BLOCK && !this.nextCopyBlock()) return false;
    this.chunk = this.copyChunk;
    this.start = this.copyStart + this.copied;
    this.copied += Math.ceil(bytes / ALIGNMENT) * ALIGNMENT;
    return true;
  }

  private nextCopyBlock(): boolean {
    const { copyChunk, copyStart } = this;
    const place = this.native.copyBlock(this.pending, this.beyond);
    if (place < 0) return false;
    this.copyChunk = Math.floor(place / HIGH);
    this.copyStart = place % HIGH;
    this.copied = 0;
    const another = this.copyChunk !== copyChunk || this.copyStart !== copyStart;
    if (another && copyChunk !== NO_CHUNK) this.thread.release(copyChunk, copyStart);
    return true;
  }

  private load(index: number): Chunk {
    const { memory, blockSize } = this.native.chunk(index);
    // As long as it gets: V8 would take one that is written to far behind its end for a dictionary.
    const lent = new Array<Block | undefined>(Math.ceil(memory.byteLength / blockSize));
    const chunk: Chunk = {
      blockSize,
      bytes: Buffer.from(memory),
      lent: lent.fill(undefined),
      area: undefined,
      words: undefined,
    };
    this.chunks[index] = chunk;
    return chunk;
  }
}

/** Whether it is memory of a port of this process. */
export function isOfPort(view: ArrayBufferView): boolean {
  return isPortMemory(view.buffer);
}

export function isPortMemory(memory: ArrayBufferLike): boolean {
  return Marked.blockOf(memory) !== undefined;
}

/**
 * Its length in bytes; throws where its ArrayBuffer was transferred, or made smaller than it: it has
 * no length then, and is not what the program meant.
 */
export function bytesIn(view: ArrayBufferView): number {
  try {
    const bytes = view.byteLength;
    if (bytes > 0 || !validate.isGone(view)) return bytes;
  } catch {
    // A DataView without memory has not even a length.
  }
  throw validate.withoutMemory('data');
}

function sizeOf(part: string | Uint8Array): number {
  return typeof part === 'string' ? Buffer.byteLength(part) : lengthOf(part);
}

export function asBytes(view: ArrayBufferView): Uint8Array {
  if (view instanceof Uint8Array) return view;
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
