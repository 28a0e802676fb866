/**
 * The last events of each connection, in memory that every thread of every stage shares: a ring for
 * each record. Only the thread that holds a record's key writes to its ring (rule D8); anyone reads.
 * native/stage/trace.h has the layout, the other writer, and why a reader is not deceived.
 */
import type { TraceEntry } from '../api';
import { names } from '../definition/events';
import type { StageInfo } from '../definition/plan';
import { EPOCH } from '../../support/clock';
import * as validate from '../../support/validate';
import { IN_TRANSIT, INDEX } from './record';

/** A ring's header, and each of its entries. Offsets in units of 8 bytes, but for those in words. */
const HEADER = 1;
const ENTRY = 3;
/** Words of the header. */
const COUNT = 0;
const KEY = 1;
/** Words of an entry: two of its time, two of its bytes, then these. */
const WHAT = 4;
const CHECK = 5;
const WORDS = 2 * ENTRY;

/** Entries as they lie in a ring: copied when something happens, and decoded when somebody looks. */
export type RawTrace = Uint32Array;

const MOST_KEPT = 2 ** 16 - 1;
/** As much as one view can show in every version of Node.js. */
const MOST_BYTES = 2 ** 32;
/** Where 32 bits have no more numbers, this one follows, which counts as much as 0 in a check. */
const HALF = 2 ** 31;
/** How often a ring is read whose latest entry is being written anew: then the others have to do. */
const ATTEMPTS = 16;

/** Places of a ring that keeps `kept`: one more at least, for the entry that is being written. */
export function slotsOf(kept: number): number {
  return kept === 0 ? 0 : 2 ** Math.ceil(Math.log2(kept + 1));
}

function bytesOfRing(kept: number): number {
  return 8 * (HEADER + ENTRY * slotsOf(kept));
}

/** Checks the option of a pipeline that has `limit` connections. */
export function checkKept(trace: unknown, limit: number): number {
  const kept = validate.integer(trace, 'options.trace', 0, MOST_KEPT);
  if (kept === 0 || bytesOfRing(kept) * limit < MOST_BYTES) return kept;
  const about = `less: for ${limit} connections (options.maxConnections) it takes over 4 GiB`;
  throw validate.outOfRange('options.trace', about, kept);
}

/** The rings of a pipeline's connections. */
export class Trace {
  private readonly kept: number;
  private readonly slots: number;
  /** Of a ring, in units of 8 bytes. */
  private readonly stride: number;
  private readonly words: Uint32Array;
  private readonly numbers: Float64Array;

  constructor(memory: ArrayBuffer | SharedArrayBuffer, kept: number) {
    this.kept = kept;
    this.slots = slotsOf(kept);
    this.stride = bytesOfRing(kept) / 8;
    this.words = new Uint32Array(memory);
    this.numbers = new Float64Array(memory);
  }

  /** For the thread that holds the key. What is last of an entry says whose it is, and its number. */
  write(
    key: number,
    stage: number,
    state: number,
    event: number,
    thread: number,
    time: number,
    bytes: number,
  ): void {
    const { words, numbers, slots } = this;
    const ring = (key & INDEX) * this.stride;
    const count = words[2 * ring + COUNT]!;
    const entry = ring + HEADER + ENTRY * (count & (slots - 1));
    numbers[entry] = time;
    numbers[entry + 1] = bytes;
    words[2 * entry + WHAT] = stage | (state << 8) | (event << 16) | (thread << 24);
    words[2 * entry + CHECK] = checkOf(words, 2 * entry, key, count);
    words[2 * ring + COUNT] = count === 0xffffffff ? HALF : count + 1;
  }

  /** What is kept of the connection, as `snapshot`, for whoever looks at it now. */
  read(key: number, stages: readonly StageInfo[]): TraceEntry[] | undefined {
    const raw = this.snapshot(key);
    return raw === undefined ? undefined : decodeTrace(raw, stages);
  }

  /**
   * What is kept of the connection, oldest first; undefined where the ring is another one's by now.
   * The oldest are missing that were overwritten meanwhile.
   */
  snapshot(key: number): RawTrace | undefined {
    const { words } = this;
    const ring = 2 * (key & INDEX) * this.stride;
    for (let attempt = 1; ; attempt++) {
      if (Atomics.load(words, ring + KEY) !== key) return undefined;
      const count = Atomics.load(words, ring + COUNT);
      const least = count - Math.min(count, this.kept);
      const raw = new Uint32Array(WORDS * (count - least));
      let taken = 0;
      let latest = count === 0;
      for (let number = least; number < count; number++) {
        latest = this.copy(ring + 2 * HEADER, key, number);
        if (!latest) continue;
        raw.set(scratch, taken);
        taken += WORDS;
      }
      if (latest || attempt === ATTEMPTS) return raw.subarray(0, taken);
    }
  }

  /** Copies an entry into `scratch`. False: it is not the one of that number, or not all of it. */
  private copy(entries: number, key: number, number: number): boolean {
    const from = entries + WORDS * (number & (this.slots - 1));
    for (let i = 0; i < WORDS; i++) scratch[i] = Atomics.load(this.words, from + i);
    return scratch[CHECK] === checkOf(scratch, 0, key, number) >>> 0;
  }
}

const scratch = new Uint32Array(WORDS);
const scratchNumbers = new Float64Array(scratch.buffer);

/** Another one for each change of one word of what it is made of, and nearly always for more. */
function checkOf(words: Uint32Array, at: number, key: number, number: number): number {
  // 32 bits with a sign: a number that needs no object where this is a call.
  return (
    (Math.imul(key, 0x9e3779b1) +
      Math.imul(number & (HALF - 1), 0x85ebca6b) +
      Math.imul(words[at]!, 0xc2b2ae35) +
      Math.imul(words[at + 1]!, 0x27d4eb2f) +
      Math.imul(words[at + 2]!, 0x165667b1) +
      Math.imul(words[at + 3]!, 0xd3a2646d) +
      Math.imul(words[at + WHAT]!, 0xfd7046c5)) |
    0
  );
}

/** Of a snapshot. */
export function decodeTrace(raw: RawTrace, stages: readonly StageInfo[]): TraceEntry[] {
  const entries: TraceEntry[] = [];
  for (let at = 0; at < raw.length; at += WORDS) {
    scratch.set(raw.subarray(at, at + WORDS));
    entries.push(decode(scratch, stages));
  }
  return entries;
}

function decode(words: Uint32Array, stages: readonly StageInfo[]): TraceEntry {
  const what = words[WHAT]!;
  const [stage, state] = [stages[what & 0xff], (what >>> 8) & 0xff];
  return {
    stage: stage?.name ?? '',
    state: (state & IN_TRANSIT) !== 0 ? '' : (stage?.states[state] ?? ''),
    event: names[(what >>> 16) & 0xff] ?? '',
    thread: what >>> 24,
    time: EPOCH + scratchNumbers[0]!,
    bytes: scratchNumbers[1]!,
  };
}
