/**
 * The operations that this thread awaits: each has a token, which its packets bring back.
 */
import { Kind } from '../native/kinds';
import { LibraryError, Slot, PacketFlag, PacketState } from '../native/layout';
import { nextTick } from '../support/timers';

/** Whoever waits for the packets of one token. */
export interface Entry {
  /** @internal `at`: index of the packet in `thread.words`; `more`: this is not the final one. */
  answered(error: number, result: number, at: number, more: boolean): void;
  /** @internal It was never submitted, and `answered` tells only that: nobody need hear of it. */
  dropped?(): void;
}

const SLOT_WORDS = Slot.SIZE / 4;

/** By kind, as it is looked at for each packet: 1 where a packet without an error brings something. */
const RESULTS = new Uint8Array(256);
for (const kind of [
  ...[Kind.Open, Kind.Read, Kind.Stat, Kind.Accept, Kind.Connect, Kind.Receive],
  ...[Kind.Timer, Kind.Room],
]) {
  RESULTS[kind] = 1;
}

const noArray: never[] = [];

export class Awaited {
  private readonly words: Uint32Array;
  private readonly states: Int32Array;
  private readonly bytes: Uint8Array;
  private readonly numbers: Float64Array;
  /** By token. Token 0 means that nobody awaits the operation. */
  private table: (Entry | undefined)[] = [undefined];
  private readonly freeTokens: number[] = [];
  private readonly closes: () => boolean;

  /** `completions`: the completion array. `closes`: whether the port is being closed, by any thread. */
  constructor(completions: ArrayBuffer, closes: () => boolean) {
    this.closes = closes;
    this.words = new Uint32Array(completions);
    this.states = new Int32Array(completions);
    this.bytes = new Uint8Array(completions);
    this.numbers = new Float64Array(completions);
  }

  /** Whether anything is awaited. */
  get any(): boolean {
    return this.table.length - 1 > this.freeTokens.length;
  }

  at(token: number): Entry | undefined {
    return this.table[token];
  }

  add(entry: Entry): number {
    const token = this.freeTokens.pop() ?? this.table.length;
    this.table[token] = entry;
    return token;
  }

  remove(token: number): void {
    this.table[token] = undefined;
    this.freeTokens.push(token);
  }

  /**
   * Of those that were settled last, the ones with a result: nobody begins such an operation without
   * waiting for it, unlike one that sends, writes or closes.
   */
  results = 0;
  /** A micro-thread that goes on meanwhile must not have the completion array filled anew. */
  settling = false;

  /** Settles the awaited packets among the first `count`; the number of them. */
  settle(count: number): number {
    const { bytes } = this;
    let settled = 0;
    this.results = 0;
    this.settling = true;
    try {
      for (let i = 0; i < count; i++) {
        const flags = bytes[i * Slot.SIZE + Slot.FLAGS]!;
        if ((flags & PacketFlag.Awaited) === 0) continue;
        const at = i * SLOT_WORDS;
        if (this.hasResult(bytes[i * Slot.SIZE + Slot.KIND]!, at)) this.results++;
        this.settleOne(at, (flags & PacketFlag.More) !== 0);
        settled++;
      }
    } finally {
      this.settling = false;
    }
    return settled;
  }

  /** What an entry throws is an uncaught exception, and not the end of the other entries' answers. */
  answer(entry: Entry, error: number, result: number, at: number, more: boolean): void {
    try {
      entry.answered(error, result, at, more);
    } catch (thrown) {
      nextTick(rethrow, thrown);
    }
  }

  /** The port is closed, or this thread has left it. */
  end(): void {
    const { table } = this;
    this.table = noArray;
    for (const entry of table) {
      if (entry !== undefined) this.answer(entry, LibraryError.PortClosed, 0, 0, false);
    }
  }

  /**
   * Whoever closes the port closes its handles first, and a peer may be one of them: what fails
   * meanwhile fails with the port (rule D10), in the thread that closes it as in others.
   */
  reasonOf(error: number): number {
    return error !== 0 && this.closes() ? LibraryError.PortClosed : error;
  }

  private hasResult(kind: Kind, at: number): boolean {
    return RESULTS[kind] === 1 && this.states[at + Slot.ERROR / 4] === 0;
  }

  /** Which is the packet's until the entry has taken it (`NativeThread.unclaimed`). */
  private bringsDescriptor(at: number): boolean {
    if (this.bytes[at * 4 + Slot.KIND] !== Kind.Close) return false;
    return this.states[at + Slot.ERROR / 4] === 0 && this.numbers[at / 2 + Slot.RESULT / 8]! > 0;
  }

  private settleOne(at: number, more: boolean): void {
    const token = this.words[at + Slot.TOKEN / 4]!;
    const entry = this.table[token];
    if (!this.bringsDescriptor(at)) this.states[at] = PacketState.Done;
    if (entry === undefined) return;
    if (!more) this.remove(token);
    const error = this.reasonOf(this.states[at + Slot.ERROR / 4]!);
    this.answer(entry, error, this.numbers[at / 2 + Slot.RESULT / 8]!, at, more);
  }
}

function rethrow(thrown: unknown): never {
  throw thrown;
}
