/**
 * The port's memory as this thread sees it: the chunks of the pool as ArrayBuffers, and the copies
 * a program's own memory needs.
 *
 * The kernel only ever touches pool memory (rule O2). `ArrayBuffer.prototype.transfer()` and the
 * transfer list of `postMessage` can detach a program's own memory while the kernel writes to it,
 * and no Node-API call can forbid that; pool memory can't be transferred.
 */
import type { NativeLane } from './binding';
import { bufferReleased, outOfBuffers } from './errors';
import * as validate from './validate';

/** Bytes to send or write: a string is encoded as UTF-8. */
export type Data = string | ArrayBufferView;

interface Chunk {
  readonly memory: ArrayBuffer;
  readonly bytes: Buffer;
  readonly blockSize: number;
}

const HIGH = 2 ** 32;
/** Greatest piece of own memory copied at once. */
export const LARGEST_COPY = 64 * 1024 * 1024;
/** As many slices as one operation of the kernel takes (IOV_MAX). */
const MOST_SLICES = 1024;
/** Slices in a record behind the first. */
export const SLICES_IN_RECORD = 5;

export class Memory {
  /** Where the memory that was last located, allocated or staged is. */
  chunk = 0;
  start = 0;

  /** Slices staged for the next submission: chunk, start, bytes of each. */
  readonly slices = new Uint32Array(3 * MOST_SLICES);
  sliceCount = 0;
  stagedBytes = 0;
  /** Whether the staged slices are copies, which the native side releases with the final packet. */
  stagedCopy = false;

  private readonly native: NativeLane;
  private readonly chunks: (Chunk | undefined)[] = [];
  private readonly indexes = new WeakMap<ArrayBufferLike, number>();
  private lastMemory: ArrayBufferLike | undefined;
  private lastIndex = 0;
  private closed = false;

  constructor(native: NativeLane) {
    this.native = native;
  }

  /** All bytes of a chunk. */
  bytes(index: number): Buffer {
    return (this.chunks[index] ?? this.load(index)).bytes;
  }

  view(chunk: number, start: number, length: number): Buffer {
    return this.bytes(chunk).subarray(start, start + length);
  }

  /** Takes `size` bytes; false when the memory limit is reached. */
  take(size: number): boolean {
    const place = this.native.allocate(size);
    if (place < 0) return false;
    this.chunk = Math.floor(place / HIGH);
    this.start = place % HIGH;
    return true;
  }

  give(chunk: number, start: number): boolean {
    return this.closed || this.native.release(chunk, start);
  }

  /** The port took all of it back. */
  close(): void {
    this.closed = true;
  }

  allocate(size: number): Buffer {
    if (!this.take(size)) throw outOfBuffers();
    return this.view(this.chunk, this.start, size);
  }

  release(view: ArrayBufferView): void {
    if (!this.locate(view)) {
      throw validate.invalidValue('buffer', 'is not memory of this completion port', view);
    }
    const { blockSize } = this.chunks[this.chunk]!;
    const block = this.start - (this.start % blockSize);
    if (!this.native.release(this.chunk, block)) throw bufferReleased();
  }

  /** Whether `view` lies in pool memory; sets `chunk` and `start`. */
  locate(view: ArrayBufferView): boolean {
    const memory = view.buffer;
    if (memory !== this.lastMemory) {
      const index = this.indexes.get(memory);
      if (index === undefined) return false;
      this.lastMemory = memory;
      this.lastIndex = index;
    }
    this.chunk = this.lastIndex;
    this.start = view.byteOffset;
    return true;
  }

  /** Records the staged slices take in the submission array. */
  get stagedRecords(): number {
    return 1 + Math.max(0, Math.ceil((this.sliceCount - 1) / SLICES_IN_RECORD));
  }

  /**
   * Prepares the slices of one submission: pool memory as it is; when any of `data` is the
   * program's own, a copy of all of it. False when there is no memory for the copy.
   */
  stage(data: Data | readonly Data[]): boolean {
    this.sliceCount = 0;
    this.stagedBytes = 0;
    this.stagedCopy = false;
    if (!Array.isArray(data)) return this.stageOne(data as Data);
    for (const part of data as readonly Data[]) {
      if (!ArrayBuffer.isView(part) || !this.locate(part)) return this.copyAll(data);
      if (this.sliceCount === MOST_SLICES) return this.copyAll(data);
      if (part.byteLength > 0) this.addSlice(part.byteLength);
    }
    return true;
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

  private stageOne(data: Data): boolean {
    if (typeof data === 'string') return this.copyString(data);
    const bytes = data.byteLength;
    if (bytes === 0) return true;
    if (!this.locate(data)) return bytes > LARGEST_COPY ? this.copyAll([data]) : this.copy(data);
    this.addSlice(bytes);
    return true;
  }

  private copy(data: ArrayBufferView): boolean {
    if (!this.takeCopy(data.byteLength)) return false;
    this.bytes(this.chunk).set(asBytes(data), this.start);
    return true;
  }

  private copyString(data: string): boolean {
    const bytes = Buffer.byteLength(data);
    if (bytes === 0) return true;
    if (bytes > LARGEST_COPY) return this.copyAll([Buffer.from(data)]);
    if (!this.takeCopy(bytes)) return false;
    this.bytes(this.chunk).write(data, this.start, bytes);
    return true;
  }

  private copyAll(data: readonly Data[]): boolean {
    this.resetStage();
    const parts = data.map((part) => (typeof part === 'string' ? Buffer.from(part) : part));
    let left = parts.reduce((sum, part) => sum + part.byteLength, 0);
    let room = 0;
    for (const part of parts) {
      const source = asBytes(part);
      for (let from = 0; from < source.length;) {
        if (room === 0) {
          room = Math.min(left, LARGEST_COPY);
          if (!this.takeCopy(room)) return this.unstage();
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

  private takeCopy(bytes: number): boolean {
    if (!this.take(bytes)) return false;
    this.addSlice(bytes);
    this.stagedCopy = true;
    return true;
  }

  /** Gives copies back that are not going to be submitted. */
  private unstage(): false {
    for (let at = 0; at < this.sliceCount * 3; at += 3) {
      this.give(this.slices[at]!, this.slices[at + 1]!);
    }
    this.resetStage();
    return false;
  }

  private load(index: number): Chunk {
    const { memory, blockSize } = this.native.chunk(index);
    const chunk = { memory, blockSize, bytes: Buffer.from(memory) };
    this.chunks[index] = chunk;
    this.indexes.set(memory, index);
    return chunk;
  }
}

export function asBytes(view: ArrayBufferView): Uint8Array {
  if (view instanceof Uint8Array) return view;
  return new Uint8Array(view.buffer, view.byteOffset, view.byteLength);
}
