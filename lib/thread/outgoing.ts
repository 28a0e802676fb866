/**
 * What sockets have to send: native code counts what it was handed, in memory that each thread of
 * the process sees (native/port/handle.h, Outgoing), and each thread counts what it has not handed
 * over yet.
 */
import { binding, type NativeThread } from '../native/binding';

/** A handle's id ends with its place in the table of the process. */
const PLACE = (1 << 20) - 1;
/** Offsets of one handle's numbers, in units of the view. */
const NUMBERS = 2;
const WORDS = 4;
const SENDS = 2;
const MARK = 3;
/** As many sends on one socket are enough, however short they are. */
const MOST_SENDS = 4096;

/** What `highWaterMark` is where nothing else was said. */
export const HIGH_WATER_MARK = 1024 * 1024;
/** What a file that is sent counts at most: its bytes take no memory. */
export const OF_FILE = 64 * 1024;
/** Where memory is short a socket has enough to send from here on, or from its mark. */
const LEAST_ENOUGH = 64 * 1024;
const HIGH = 2 ** 32;

const memory = binding.outgoing();
const numbers = new Float64Array(memory);
const words = new Uint32Array(memory);

export function highWaterMark(id: number): number {
  return words[(id & PLACE) * WORDS + MARK]!;
}

export function setHighWaterMark(id: number, bytes: number): void {
  words[(id & PLACE) * WORDS + MARK] = bytes;
}

/** One thread's. */
export class Outgoing {
  /** Changes with each call that hands submissions over. */
  private epoch = 1;
  private epochs = new Uint32Array(64);
  private unsent = new Float64Array(64);
  private readonly limit: number;
  private readonly allocated: Uint32Array;

  constructor(native: NativeThread) {
    this.limit = native.memoryLimit;
    this.allocated = new Uint32Array(native.allocated);
  }

  /** Counts bytes about to be submitted; whether the socket has less than enough with them. */
  add(id: number, bytes: number): boolean {
    const place = id & PLACE;
    if (place >= this.epochs.length) this.grow(place);
    const before = this.epochs[place] === this.epoch ? this.unsent[place]! : 0;
    this.epochs[place] = this.epoch;
    this.unsent[place] = before + bytes;
    return this.below(place, before + bytes);
  }

  /** Bytes that are not with the kernel yet. */
  bytes(id: number): number {
    const place = id & PLACE;
    return numbers[place * NUMBERS]! + this.unsentAt(place);
  }

  /**
   * Whether the memory limit is no reason to refuse what it sends: it has less to send than its mark,
   * and is not to blame (rule M7).
   */
  mayExceed(id: number): boolean {
    return this.bytes(id) < highWaterMark(id);
  }

  /** Whether the socket has less to send than enough. */
  isBelow(id: number): boolean {
    const place = id & PLACE;
    return this.below(place, this.unsentAt(place));
  }

  /** What was submitted is native code's to count. */
  handedOver(): void {
    this.epoch = (this.epoch + 1) >>> 0;
  }

  private below(place: number, unsent: number): boolean {
    const at = place * WORDS;
    const bytes = numbers[place * NUMBERS]! + unsent;
    return bytes < this.enough(words[at + MARK]!) && words[at + SENDS]! < MOST_SENDS;
  }

  /** As BufferPool::enough: the mark, or what is free of the port's memory. */
  private enough(mark: number): number {
    const free = this.limit - this.allocated[0]! - this.allocated[1]! * HIGH;
    return free >= mark ? mark : Math.min(mark, Math.max(LEAST_ENOUGH, free));
  }

  private unsentAt(place: number): number {
    return this.epochs[place] === this.epoch ? this.unsent[place]! : 0;
  }

  private grow(place: number): void {
    const length = Math.max(place + 1, this.epochs.length * 2);
    const { epochs, unsent } = this;
    this.epochs = new Uint32Array(length);
    this.unsent = new Float64Array(length);
    this.epochs.set(epochs);
    this.unsent.set(unsent);
  }
}
