/**
 * The table of a pool, in the port's memory: a place for each task that threads may begin. Whoever
 * changes `STATE` by compare-and-swap has the place; everything else is written by who has it.
 */
import type { Memory } from '../thread/memory';
import { Area, type Frozen } from '../support/codec';

/** A place: 1,024 bytes. Offsets in bytes. */
export const enum Slot {
  SIZE = 1024,
  /** i32, State, with the number of the thread's seat. */
  STATE = 0,
  /** u32, changes when the place becomes free: tells a late answer from the one that is meant. */
  GENERATION = 4,
  /** u32, number of the task in the pool. */
  TASK = 8,
  /** u32, codec's Form, with FAILED. */
  FORM = 12,
  /** u32, a block for what does not fit in here; CAPACITY 0: there is none. */
  CHUNK = 16,
  START = 20,
  CAPACITY = 24,
  /** i32, bytes of the values; negative: they are in the block. */
  LENGTH = 28,
  /** f64, milliseconds on the clock that all threads have. */
  BEGAN = 32,
  ENDED = 40,
  /** i32, seat + 1 of the thread that waits for values, which come as a message; 0: none does. */
  ASKS = 48,
  DATA = 56,
}

/** In front of the places: bytes, of which the first eight are two i32. */
export const HEADER = 64;

/** Bytes of values that need no block. */
export const INLINE: number = Slot.SIZE - Slot.DATA;
/** Bytes of values from which it is cheaper to send a copy than to have it in the port's memory. */
export const LARGE: number = 64 * 1024;
/** In FORM: the values are one, what the task threw. */
export const FAILED = 0x100;
/** In FORM of a message: it is the bytes of V8's serializer. */
export const SERIALIZED = 0x200;

export const enum State {
  Free = 0,
  /** A message in the port says so. */
  Queued = 1,
  /** Given up before it began: whoever takes the message gives the place back. */
  Cancelled = 2,
  /** And the number of the seat: its thread runs the task. */
  Running = 0x1000,
  /** That thread is to be ended, and does nothing more. */
  Doomed = 0x2000,
  /** Its answer lies in the place. */
  Done = 0x3000,
  /** Its values are in a message to that thread, which waits for nothing else. */
  Sent = 0x4000,
  /** Given up after that: the thread forgets the values, and gives the place back. */
  Recalled = 0x5000,
}
export const SEAT = 0xfff;

export function kindOf(state: number): State {
  return state & ~SEAT;
}

/** What a thread posts to the owner: under the key of the place, its generation and one of these. */
export const enum Answer {
  Done = 0,
  /** It waits for the values, which come as a message. */
  Fetch = 1,
  /** What was cancelled is out of the port. */
  Freed = 2,
}
export const ANSWERS = 4;

/** The second of them: whether a thread is to leave. The first that comes makes it its seat. */
export const enum Leave {
  Nobody = 0,
  Anybody = 1,
  /** And the number of the seat. */
  Seat = 2,
}

/** Words that a thread shares with the owner alone. */
export const enum Shared {
  /** Counts what has been posted to the thread's channel for those who wait for it. */
  POSTED = 0,
  /** A Waiting. */
  WAITING = 1,
  /** Bytes. */
  SIZE = 8,
}

/** Changed by compare-and-swap: the thread leaves Any, or the owner has it for one task. */
export const enum Waiting {
  /** It does not wait, or not yet. */
  Not = 0,
  /** For any task. */
  Any = 1,
  /** For the task that the owner is sending to it: it begins no other. */
  Sent = 2,
}

/** And the number of the seat: a key whose packets that thread alone takes, each with a place. */
export const SEATS = 0x10000;
/** Keys that are no place. To threads: one of them is to leave, if that is still so. */
export const LEAVE = 0xffffffff;
/** To the owner, with the number of the seat: it takes tasks from now on. */
export const READY = 0xfffffffe;

export class Table {
  readonly words: Int32Array;
  readonly numbers: Float64Array;
  /** Index of a word: whether the owner looks at the places by itself, and need not be told. */
  readonly watched: number;
  /** Index of a word, a Leave. */
  readonly leave: number;
  private readonly start: number;
  private readonly memory: Memory;
  private readonly chunk: number;
  private readonly areas: (Area | undefined)[] = [];

  constructor(memory: Memory, chunk: number, start: number) {
    const { buffer } = memory.bytes(chunk);
    this.words = new Int32Array(buffer);
    this.numbers = new Float64Array(buffer);
    this.memory = memory;
    this.chunk = chunk;
    this.watched = start >> 2;
    this.leave = this.watched + 1;
    this.start = start + HEADER;
  }

  /** Where a place begins, in bytes. */
  at(slot: number): number {
    return this.start + slot * Slot.SIZE;
  }

  area(chunk: number): Area {
    return (this.areas[chunk] ??= new Area(this.memory.bytes(chunk)));
  }

  /** Writes values into the place at `at`, or its block. */
  write(at: number, frozen: Frozen, flags: number): void {
    const { words } = this;
    words[(at + Slot.FORM) >> 2] = frozen.form | flags;
    if (!('size' in frozen)) return;
    const length =
      frozen.size <= INLINE
        ? this.area(this.chunk).write(frozen, at + Slot.DATA)
        : this.area(words[(at + Slot.CHUNK) >> 2]!).write(
            frozen,
            words[(at + Slot.START) >> 2]! >>> 0,
          );
    words[(at + Slot.LENGTH) >> 2] = frozen.size <= INLINE ? length : -length;
  }

  /** The values at `at`: not those that are in a message. */
  read(at: number): unknown[] {
    const { words } = this;
    const form = words[(at + Slot.FORM) >> 2]! & (FAILED - 1);
    const length = words[(at + Slot.LENGTH) >> 2]!;
    if (length >= 0) return this.area(this.chunk).read(form, at + Slot.DATA, length);
    const from = words[(at + Slot.START) >> 2]! >>> 0;
    return this.area(words[(at + Slot.CHUNK) >> 2]!).read(form, from, -length);
  }
}
