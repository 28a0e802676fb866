/**
 * Reading a file in order with several reads in flight ahead of the loop.
 */
import type { FileChunkOptions } from '../api';
import { Kind } from '../native/kinds';
import { LibraryError, NO_CHUNK } from '../native/layout';
import { ECANCELED } from '../support/errno';
import type { Handle } from './handle';
import type { Entry } from '../thread/port-thread';
import type { Block, Memory } from '../thread/memory';
import { AWAIT_OPTIONS } from '../await/operation';
import type { WaitingRead } from '../thread/read-memory';
import { Stream } from '../await/stream';
import { queueMicrotask } from '../support/timers';
import * as validate from '../support/validate';

const CHUNK_OPTIONS = ['size', 'depth', 'position', 'length', 'lend', ...AWAIT_OPTIONS];
const DEFAULT_SIZE = 64 * 1024;
const DEFAULT_DEPTH = 4;
const GREATEST_SIZE = 2 ** 30;
/** Greatest alignment that devices ask of direct I/O. */
const BLOCK = 4096;
/** A direct read that ended at no multiple of this was cut off by the end of the file. */
const SECTOR = 512;

/** The file: lib/handles/file.ts. */
export type ReadFrom = Handle<'await'> & {
  readonly isStream: boolean;
  /** Where its next read without a position begins. */
  readonly position: number;
  readonly traits: { readonly direct: boolean };
};

/** What is asked for, or is the default: `length` is Infinity for all that there is. */
export interface ChunkSettings {
  readonly size: number;
  readonly depth: number;
  readonly position: number;
  readonly length: number;
  readonly lend: boolean;
}

export function checkedChunkOptions(options: FileChunkOptions): ChunkSettings {
  validate.options(options);
  validate.known(options, 'options', CHUNK_OPTIONS);
  validate.timeout(options.timeout);
  validate.signal(options.signal);
  const { size = DEFAULT_SIZE, depth = DEFAULT_DEPTH, length = Infinity } = options;
  validate.integer(size, 'options.size', 1, GREATEST_SIZE);
  validate.integer(depth, 'options.depth', 1, 256);
  const position = validate.position(options.position, 'options.position') ?? 0;
  const most = Number.MAX_SAFE_INTEGER - position;
  if (length !== Infinity) validate.integer(length, 'options.length', 0, most);
  const lend = validate.boolean(options.lend ?? false, 'options.lend');
  return { size, depth, position, length, lend };
}

export class FileChunks extends Stream<Buffer> {
  readonly file: ReadFrom;
  readonly direct: boolean;
  private readonly size: number;
  private readonly end: number;
  private readonly lends: boolean;
  private readonly depth: number;
  private readonly slots: Slot[] = [];
  private offset: number;
  private head = 0;
  private lent: Slot | undefined = undefined;

  constructor(file: ReadFrom, options: FileChunkOptions = {}) {
    const { size, depth, position, length, lend } = checkedChunkOptions(options);
    super(file, Kind.Read, options);
    this.file = file;
    this.direct = file.traits.direct;
    this.size = this.direct ? Math.ceil(size / BLOCK) * BLOCK : size;
    this.depth = file.isStream ? 1 : depth;
    this.offset = position;
    this.end = position + length;
    this.lends = lend;
  }

  override answered(): never {
    throw new Error('a slot takes the answers');
  }

  /** A read waits for its memory: it is in flight as one that the kernel has. */
  queued(): void {
    this.inFlight++;
  }

  /** One of the reads is back. */
  arrived(): void {
    this.inFlight--;
  }

  /** One has all of its bytes, or failed. */
  landed(slot: Slot): void {
    if (slot === this.slots[this.head] || this.ending) this.wake();
  }

  /** Whether the rest of a read that came back short is wanted. */
  get goesOn(): boolean {
    return !this.ending && !this.file.closed && !this.thread.closed;
  }

  submit(slot: Slot, timeout = validate.timeout(this.options.timeout)): void {
    this.inFlight++;
    slot.token = this.thread.add(slot);
    // Direct I/O wants whole blocks; what lies behind `end` is cut off when the chunk is given out.
    const left = slot.wanted - slot.got;
    const bytes = this.direct ? Math.min(this.size - slot.got, roundUp(left)) : left;
    this.thread.submissions.read(
      this.file.id,
      slot.token,
      timeout,
      slot.offset + slot.got,
      slot.chunk,
      slot.start + slot.got,
      bytes,
    );
  }

  protected override proceed(): void {
    if (this.slots.length === 0 && !this.ending) this.begin();
    const { lent } = this;
    this.lent = undefined;
    if (lent === undefined) return;
    lent.renew();
    this.refill(lent);
  }

  protected override take(): Buffer | undefined {
    const slot = this.slots[this.head];
    if (this.ending || slot === undefined || slot.flying) return undefined;
    if (!slot.filled) return this.endOfData();
    slot.filled = false;
    if (slot.error !== 0 && slot.got === 0) {
      this.ended(slot.error);
      return this.endOfData();
    }
    // What was read before a failure is given out first.
    const bytes = Math.min(slot.got, slot.wanted);
    if (slot.error !== 0) this.ended(slot.error);
    else if (slot.last) this.ending = true;
    if (bytes === 0) return this.endOfData();
    this.head = (this.head + 1) % this.slots.length;
    if (this.ending) this.cancel();
    return this.giveOut(slot, bytes);
  }

  protected override cancel(): void {
    for (const slot of this.slots) {
      if (slot.waits) slot.leave();
      else if (slot.flying) this.thread.cancel(slot.token);
    }
  }

  protected override finish(): void {
    for (const slot of this.slots) slot.drop();
    this.slots.length = 0;
    this.lent = undefined;
  }

  private begin(): void {
    this.file.assertOpen();
    const needed =
      this.end === Infinity ? this.depth : Math.ceil((this.end - this.offset) / this.size);
    for (let i = 0; i < Math.min(this.depth, needed); i++) {
      const slot = new Slot(this, this.thread.memory, this.size, this.lends);
      if (slot.take() || i === 0) this.slots.push(slot);
    }
    if (needed === 0) this.ending = true;
    for (const slot of this.slots) this.refill(slot);
  }

  /**
   * Reads the next part of the file into the slot; leaves it empty at the end. Runs while answers
   * are settled, too: what is wrong then is the loop's to hear.
   */
  private refill(slot: Slot): void {
    if (this.ending || this.offset >= this.end) return;
    if (this.file.closed) {
      this.ending = true;
      return;
    }
    try {
      this.file.assertOpen();
    } catch (error) {
      this.fail(error as Error);
      return;
    }
    slot.offset = this.offset;
    slot.wanted = Math.min(this.size, this.end - this.offset);
    this.offset += slot.wanted;
    slot.got = slot.error = 0;
    slot.last = false;
    slot.flying = true;
    if (slot.ready) this.submit(slot);
    else slot.wait(this.file.isStream, validate.timeout(this.options.timeout));
  }

  private giveOut(slot: Slot, bytes: number): Buffer {
    const { copy } = slot;
    if (copy !== undefined) {
      this.refill(slot);
      return copy.subarray(0, bytes);
    }
    if (this.lends) {
      this.lent = slot;
      return slot.lend(bytes);
    }
    const own = this.thread.memory.copyOut(slot.chunk, slot.start, bytes);
    this.refill(slot);
    return own;
  }

  /** Reads further ahead may still be under way. */
  private endOfData(): undefined {
    this.ending = true;
    this.cancel();
    return undefined;
  }
}

/**
 * One of the reads, and its memory. What it reads beyond the memory limit it copies and gives back
 * at once, however long the program takes with it.
 */
class Slot implements Entry, WaitingRead {
  token = -1;
  /** Where in the file, and how much of it. */
  offset = 0;
  wanted = 0;
  got = 0;
  error = 0;
  /** Its read is under way, or waits for memory. */
  flying = false;
  /** It waits for memory. */
  waits = false;
  /** Holds a chunk that was not given out yet. */
  filled = false;
  /** The file ends with it. */
  last = false;

  chunk = NO_CHUNK;
  start = 0;
  /** What was read beyond the limit. */
  copy: Buffer | undefined = undefined;
  /** Its memory lies beyond the limit. */
  private beyond = false;
  /** As the program sees it, when it is lent. */
  private block: Block | undefined = undefined;
  /** How much of it may hold bytes. */
  private dirty = 0;

  constructor(
    private readonly chunks: FileChunks,
    private readonly memory: Memory,
    readonly bytes: number,
    private readonly lends: boolean,
  ) {}

  get file(): ReadFrom {
    return this.chunks.file;
  }

  get ready(): boolean {
    return this.chunk !== NO_CHUNK;
  }

  /** Takes its memory; false when there is none. */
  take(): boolean {
    const taken = this.memory.reads.take(this.bytes);
    if (taken) this.takeOver();
    return taken;
  }

  /** `endless`: the kernel may have to wait for ever, and others would wait as long. */
  wait(endless: boolean, timeout: number): void {
    if (this.take()) {
      this.chunks.submit(this);
      return;
    }
    this.waits = true;
    this.chunks.queued();
    if (endless) this.ended(LibraryError.OutOfBuffers);
    else this.memory.reads.wait(this, timeout);
  }

  begin(beyond: boolean, timeout: number): void {
    this.waits = false;
    this.beyond = beyond;
    this.chunks.arrived();
    this.takeOver();
    this.chunks.submit(this, timeout);
  }

  /** Answered later, as from the kernel: the loop may be about to give a chunk out. */
  ended(error: number): void {
    this.waits = false;
    this.error = error;
    queueMicrotask(() => {
      this.chunks.arrived();
      this.land();
    });
  }

  leave(): void {
    this.memory.reads.leave(this);
    this.ended(ECANCELED);
  }

  /** Its bytes; what lies behind them is nothing that a clone of the view could show. */
  lend(bytes: number): Buffer {
    const view = this.block!.bytes;
    const dirty = Math.max(this.dirty, this.got);
    if (bytes < dirty) view.fill(0, bytes, dirty);
    this.dirty = bytes;
    this.block!.used = false;
    return view.subarray(0, bytes);
  }

  /**
   * The program is done with what was lent. An operation may not be: its bytes stay as they are, and
   * the slot goes on with other memory.
   */
  renew(): void {
    if (!this.memory.mayReuse(this.block!)) this.drop();
  }

  drop(): void {
    if (this.block !== undefined) this.memory.endLoan(this.block);
    this.block = undefined;
    if (this.chunk !== NO_CHUNK) this.memory.thread.release(this.chunk, this.start);
    this.chunk = NO_CHUNK;
  }

  answered(error: number, result: number): void {
    this.got += result;
    this.error = error;
    this.chunks.arrived();
    if (this.continues(error, result) && this.chunks.goesOn) this.chunks.submit(this);
    else this.land();
  }

  private land(): void {
    this.flying = false;
    this.filled = true;
    if (this.beyond) this.copyAndGiveBack();
    this.chunks.landed(this);
  }

  private copyAndGiveBack(): void {
    const { memory, chunk, start } = this;
    this.beyond = false;
    if (memory.thread.closed) this.got = 0;
    this.copy = this.got > 0 ? memory.copyOut(chunk, start, this.got) : undefined;
    this.chunk = NO_CHUNK;
    memory.give(chunk, start);
    memory.reads.over();
  }

  private takeOver(): void {
    const { memory } = this;
    this.chunk = memory.chunk;
    this.start = memory.start;
    this.copy = undefined;
    if (!this.lends || this.beyond) return;
    this.block = memory.exposeExactly(this.chunk, this.start, this.bytes);
    this.dirty = this.bytes;
  }

  /** A short read is no end: only a read of 0 is (rule O8). */
  private continues(error: number, result: number): boolean {
    if (error !== 0) return false;
    if (result === 0) this.last = true;
    if (this.last || this.got >= this.wanted || this.chunks.file.isStream) return false;
    // Going on from the middle of a sector is not possible; only the file's end can cut one off.
    if (this.chunks.direct && this.got % SECTOR !== 0) this.last = true;
    return !this.last;
  }
}

function roundUp(bytes: number): number {
  return Math.ceil(bytes / BLOCK) * BLOCK;
}
