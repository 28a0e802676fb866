/**
 * The submission array: what this thread asks of native code, written down until the next call.
 */
import { Kind } from '../native/kinds';
import {
  NO_CHUNK,
  setHandle,
  Submission,
  SubmissionFlag,
  type MessageForm,
} from '../native/layout';
import { type NativeThread } from '../native/binding';
import { ECANCELED } from '../support/errno';
import { invalidState } from '../support/errors';
import { queueMicrotask } from '../support/timers';
import { outOfRange } from '../support/validate';
import type { Awaited } from './awaited';
import { SLICES_IN_RECORD, type Memory } from './memory';
import type { Outgoing } from './outgoing';

const RECORDS = 512;
const RECORD_WORDS = Submission.SIZE / 4;
const SLICE_WORDS = 3;

/** Whose operations can be linked. */
interface Linkable {
  readonly id: number;
}

/** Where the bytes of a message lie; NO_CHUNK: it has none. */
export interface MessageAt {
  readonly chunk: number;
  readonly start: number;
  readonly length: number;
  readonly form: MessageForm;
}

export class Submissions {
  /** Records that native code has not been told of. */
  count = 0;
  private readonly native: NativeThread;
  private readonly memory: Memory;
  private readonly outgoing: Outgoing;
  private readonly awaited: Awaited;
  /** Asks for a call to native code at the end of this turn. */
  private readonly schedule: () => void;
  private readonly records: Uint32Array;
  private readonly recordNumbers: Float64Array;
  private readonly published: Int32Array;
  /** The handle whose operations are being linked. */
  private chained: Linkable | undefined = undefined;
  private lastRecord = -1;
  /** A member of the chain was refused: those behind it are cancelled. */
  private broken = false;
  /** Blocks released while a chain was described: chunk, start. */
  private readonly heldBack: number[] = [];

  constructor(
    native: NativeThread,
    memory: Memory,
    outgoing: Outgoing,
    awaited: Awaited,
    schedule: () => void,
  ) {
    this.native = native;
    this.memory = memory;
    this.outgoing = outgoing;
    this.awaited = awaited;
    this.schedule = schedule;
    this.records = new Uint32Array(native.submissions);
    this.recordNumbers = new Float64Array(native.submissions);
    this.published = new Int32Array(native.published);
  }

  // ---- what is written down. `token` 0: nobody awaits it; with SubmissionFlag.Keyed it is the key.

  /** Into `start` of `chunk`, or, where that is NO_CHUNK, into a buffer that is taken for it. */
  receive(
    handle: number,
    token: number,
    flags = 0,
    timeout = 0,
    chunk = NO_CHUNK as number,
    start = 0,
  ): void {
    this.submit(Kind.Receive, flags, handle, token, timeout, 0, 0, chunk, start, 0);
  }

  accept(handle: number, token: number, flags: number): void {
    this.submit(Kind.Accept, flags, handle, token, 0, 0, 0, NO_CHUNK, 0, 0);
  }

  read(
    handle: number,
    token: number,
    timeout: number,
    position: number,
    chunk: number,
    start: number,
    bytes: number,
  ): void {
    this.submit(Kind.Read, 0, handle, token, timeout, position, 0, chunk, start, bytes);
  }

  startTimer(handle: number, token: number, interval: number): void {
    this.submit(Kind.Timer, 0, handle, token, 0, interval, interval, NO_CHUNK, 0, 0);
  }

  /** Of the sending side. */
  shutdown(handle: number, flags: number, timeout = 0): void {
    this.submit(Kind.Shutdown, flags, handle, 0, timeout, 0, 0, NO_CHUNK, 0, 0);
  }

  close(handle: number, token: number, flags = 0): void {
    this.submit(Kind.Close, flags, handle, token, 0, 0, 0, NO_CHUNK, 0, 0);
  }

  /** What is in flight of a handle. */
  cancelHandle(handle: number): void {
    this.submit(Kind.CancelHandle, 0, handle, 0, 0, 0, 0, NO_CHUNK, 0, 0);
  }

  /** An operation that this thread awaits; a chain that is being described goes first. */
  cancel(token: number): void {
    if (this.memory.thread.closed) return;
    if (this.chained !== undefined) {
      queueMicrotask(() => this.cancel(token));
      return;
    }
    this.submit(Kind.CancelToken, 0, 0, token, 0, 0, 0, NO_CHUNK, 0, 0);
  }

  /** A connection goes to another stage. */
  handOff(handle: number, key: number, port: number): void {
    this.submit(Kind.HandOff, 0, handle, key, 0, 0, 0, NO_CHUNK, 0, 0, port);
  }

  /** A message whose connection has gone on to `port`. */
  forward(key: number, value: number, port: number): void {
    this.submit(Kind.Posted, 0, 0, key, 0, value, 0, NO_CHUNK, 0, 0, port);
  }

  /** The same of bytes: of a message that this thread has, at hand or retained. */
  forwardBytes(key: number, message: MessageAt, port: number): void {
    const { chunk, start, length, form } = message;
    this.submit(Kind.Message, 0, 0, key, form, 0, 0, chunk, start, length, port);
  }

  /** Pool memory goes back after what was submitted before. */
  giveBack(chunk: number, start: number): void {
    this.submit(Kind.Release, 0, 0, 0, 0, 0, 0, chunk, start, 0);
  }

  /** Writes one submission with at most one slice of memory. */
  submit(
    kind: Kind,
    flags: number,
    handle: number,
    token: number,
    timeout: number,
    offset: number,
    length: number,
    chunk: number,
    start: number,
    bytes: number,
    tag = 0,
    feeder = 0,
  ): void {
    this.assertOfChain(handle);
    const slices = chunk === NO_CHUNK ? 0 : 1;
    const at = this.reserve(1) * RECORD_WORDS;
    if (slices > 0) this.memory.pending = true;
    const fed = feeder === 0 ? 0 : SubmissionFlag.Fed;
    this.write(at, kind, flags | fed, slices, handle, token, timeout, offset, length);
    if (feeder !== 0) setHandle(this.records, at + Submission.FEEDER / 4, feeder);
    this.records[at + Submission.CHUNK / 4] = chunk;
    this.records[at + Submission.START / 4] = start;
    this.records[at + Submission.BYTES / 4] = bytes;
    this.records[at + Submission.TAG / 4] = tag;
    this.publish(flags);
  }

  /** Writes one submission with the slices staged in `memory`. */
  submitStaged(
    kind: Kind,
    flags: number,
    handle: number,
    token: number,
    timeout: number,
    offset: number,
    tag = 0,
    feeder = 0,
  ): void {
    this.assertOfChain(handle);
    const { slices, sliceCount, stagedCopy } = this.memory;
    const more = this.memory.stagedRecords - 1;
    const first = this.reserve(1 + more);
    if (!stagedCopy) this.memory.pending = true;
    const release = stagedCopy ? SubmissionFlag.Release : 0;
    let at = first * RECORD_WORDS;
    this.records[at + Submission.TAG / 4] = tag;
    const fed = feeder === 0 ? 0 : SubmissionFlag.Fed;
    if (feeder !== 0) setHandle(this.records, at + Submission.FEEDER / 4, feeder);
    this.write(at, kind, flags | release | fed, sliceCount, handle, token, timeout, offset, 0);
    at += Submission.CHUNK / 4;
    this.records[at] = sliceCount > 0 ? slices[0]! : NO_CHUNK;
    this.records[at + 1] = sliceCount > 0 ? slices[1]! : 0;
    this.records[at + 2] = sliceCount > 0 ? slices[2]! : 0;
    for (let record = 0; record < more; record++) {
      const from = (1 + record * SLICES_IN_RECORD) * SLICE_WORDS;
      const to = from + SLICES_IN_RECORD * SLICE_WORDS;
      const end = Math.min(to, sliceCount * SLICE_WORDS);
      this.records.set(slices.subarray(from, end), (first + 1 + record) * RECORD_WORDS);
    }
    this.memory.resetStage();
    this.publish(flags);
  }

  /** Before a native function that must not overtake what was submitted earlier. */
  flush(): void {
    if (this.count === 0) return;
    if (this.chained) throw invalidState('Only operations of one open handle can be linked');
    this.native.submit(this.handOver());
    this.schedule();
  }

  /**
   * Releases pool memory after what was submitted before, which keeps what it uses (rule O2): native
   * code takes the uses in the order of the submissions, so the release is one of these while there
   * are others that name pool memory.
   */
  release(chunk: number, start: number): void {
    if (this.memory.thread.closed) return;
    if (!this.memory.pending) this.native.release(chunk, start);
    else if (this.chained !== undefined) this.heldBack.push(chunk, start);
    else this.giveBack(chunk, start);
  }

  /**
   * Submissions of `handle` made inside `fn` become a chain (rule O9). Nothing of it is submitted
   * when `fn` throws.
   */
  link<T>(handle: Linkable, fn: () => T): T {
    if (this.chained) throw invalidState('A chain is being described already');
    this.flush();
    this.chained = handle;
    try {
      const result = fn();
      if (this.count > 0) this.unlinkLast();
      return result;
    } catch (error) {
      this.takeBackChain();
      throw error;
    } finally {
      this.chained = undefined;
      this.broken = false;
      for (let i = 0; i < this.heldBack.length; i += 2) {
        this.release(this.heldBack[i]!, this.heldBack[i + 1]!);
      }
      this.heldBack.length = 0;
      this.publish(0);
    }
  }

  /** Whether what is submitted now follows a member of its chain that was refused. */
  get chainBroken(): boolean {
    return this.broken;
  }

  /** A member of the chain that is being described, if any, is not submitted. */
  breakChain(): void {
    this.broken = this.chained !== undefined;
  }

  /** Whether a chain is being described. */
  get chaining(): boolean {
    return this.chained !== undefined;
  }

  /** Whether `handle` may submit now: not while a chain of another one is described. */
  assertUnchained(handle?: object): void {
    if (this.chained === undefined || this.chained === handle) return;
    throw invalidState('Only operations of one open handle can be linked');
  }

  /**
   * The members of a chain run on the handle of the first, so no other's may be among them: the last
   * guard of those that `assertUnchained` was not asked for.
   */
  private assertOfChain(handle: number): void {
    if (this.chained === undefined || handle === 0 || handle === this.chained.id) return;
    throw invalidState('Only operations of one open handle can be linked');
  }

  /** Room for `count` records that stay together. */
  ensure(count: number): void {
    if (this.count + count <= RECORDS) return;
    if (this.chained || count > RECORDS) {
      throw outOfRange('operations', `a chain of at most ${RECORDS} submissions`, RECORDS + 1);
    }
    this.flush();
  }

  /** How many submissions native code is told of now: it takes their uses of pool memory. */
  handOver(): number {
    const { count } = this;
    this.count = 0;
    this.memory.pending = false;
    this.outgoing.handedOver();
    return count;
  }

  /** What was submitted inside the chain is as if it had never been. */
  private takeBackChain(): void {
    const { records, recordNumbers } = this;
    const end = this.handOver();
    for (let record = 0; record < end;) {
      const at = record * RECORD_WORDS;
      const slices = records[at]! >>> 16;
      const keyed = (records[at]! & (SubmissionFlag.Keyed << 8)) !== 0;
      const token = keyed ? 0 : records[at + Submission.TOKEN / 4]!;
      if ((records[at]! & (SubmissionFlag.Release << 8)) !== 0) this.giveSlices(at, slices);
      if (kindOf(records[at]!) === Kind.SendHandle) {
        this.native.dropParcel(recordNumbers[at / 2 + Submission.OFFSET / 8]!);
      }
      record += 1 + Math.max(0, Math.ceil((slices - 1) / SLICES_IN_RECORD));
      const entry = token === 0 ? undefined : this.awaited.at(token);
      if (entry === undefined) continue;
      this.awaited.remove(token);
      entry.dropped?.();
      this.awaited.answer(entry, ECANCELED, 0, 0, false);
    }
  }

  private giveSlices(at: number, slices: number): void {
    const { records } = this;
    const first = at + Submission.CHUNK / 4;
    for (let slice = 0; slice < slices; slice++) {
      const from = slice === 0 ? first : at + RECORD_WORDS + placeOfSlice(slice - 1);
      if (records[from] !== NO_CHUNK) this.memory.give(records[from]!, records[from + 1]!);
    }
  }

  /**
   * From here on another thread may begin what was written, should this one be busy for long (rule
   * D5). A chain is published as a whole.
   */
  private publish(flags: number): void {
    if (this.chained !== undefined || (flags & SubmissionFlag.Linked) !== 0) return;
    Atomics.store(this.published, 0, this.count);
  }

  private unlinkLast(): void {
    const at = this.lastRecord * RECORD_WORDS;
    this.records[at] = this.records[at]! & ~(SubmissionFlag.Linked << 8);
  }

  private reserve(records: number): number {
    this.ensure(records);
    const first = this.count;
    this.count += records;
    this.lastRecord = first;
    this.schedule();
    return first;
  }

  private write(
    at: number,
    kind: Kind,
    flags: number,
    slices: number,
    handle: number,
    token: number,
    timeout: number,
    offset: number,
    length: number,
  ): void {
    const { records, recordNumbers } = this;
    const linked = this.chained ? flags | SubmissionFlag.Linked : flags;
    records[at] = kind | (linked << 8) | (slices << 16);
    setHandle(records, at + Submission.HANDLE / 4, handle);
    records[at + Submission.TOKEN / 4] = token;
    records[at + Submission.TIMEOUT / 4] = timeout;
    recordNumbers[at / 2 + Submission.OFFSET / 8] = offset;
    recordNumbers[at / 2 + Submission.LENGTH / 8] = length;
  }
}

function kindOf(word: number): Kind {
  return word & 0xff;
}

/** Where slice `index` of those behind the first stands, from the first record of slices on. */
function placeOfSlice(index: number): number {
  const record = Math.floor(index / SLICES_IN_RECORD);
  return record * RECORD_WORDS + (index % SLICES_IN_RECORD) * SLICE_WORDS;
}
