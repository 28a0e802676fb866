/**
 * This thread's part of a port: the arrays it shares with native code, the operations it awaits,
 * and when it calls native code.
 *
 * Submissions gather in an array and go out with one call, at the end of the current turn of
 * microtasks; the same call brings back what has completed.
 */
import { AsyncResource } from 'node:async_hooks';
import { inspect } from 'node:util';
import {
  Idle,
  Kind,
  LibraryError,
  NO_CHUNK,
  Packet as Slot,
  PacketFlag,
  PacketState,
  Posts,
  Submission,
  SubmissionFlag,
  setHandle,
  type NativeLane,
} from './binding';
import { Batch } from './batch';
import { ECANCELED, invalidState, portClosed } from './errors';
import { checksHandles } from './forgotten';
import { FollowedHandles, Handles } from './handles';
import type { Handle, Style } from './handle';
import { Memory, SLICES_IN_RECORD } from './memory';
import { Outgoing } from './outgoing';
import type { CompletionPort } from './port';
import { clearInterval, nextTick, now, queueMicrotask, setImmediate, setInterval } from './timers';
import { outOfRange } from './validate';
import { Unattended } from './warnings';

/**
 * Whoever waits for the packets of one token. Micro-threads are to become another kind of entry.
 */
export interface Entry {
  /** @internal `at`: index of the packet in `lane.words`; `more`: this is not the final one. */
  answered(error: number, result: number, at: number, more: boolean): void;
  /** @internal It was never submitted, and `answered` tells only that: nobody need hear of it. */
  dropped?(): void;
}

/** Whoever takes this thread's keyed packets on the event loop. */
export interface Consumer {
  /** How many packets it wants now. */
  wanted(): number;
  /** Packets `0` to `count` of the completion array are there, awaited ones among them. */
  take(count: number): void;
  /** The port is gone; `here`: because this thread has closed or left it. */
  ended(error: Error, here: boolean): void;
}

/** A loop over what a socket receives. */
export interface Lender {
  /** The socket's name. */
  readonly id: number;
  /** Whether the bytes are those that the loop has. */
  gave(bytes: ArrayBufferView): boolean;
  /** Nothing more is received until `letReceive` was called as often: what came waits to be sent. */
  holdBack(): void;
  letReceive(): void;
}

const RECORDS = 512;
const RECORD_WORDS = Submission.SIZE / 4;
const SLOT_WORDS = Slot.SIZE / 4;
const SLICE_WORDS = 3;

/** After so many rounds, or so much time, the event loop gets a turn. */
const ROUNDS_IN_TURN = 64;
const MILLISECONDS_IN_TURN = 2;

/** How often handles that another thread may have closed are looked after, in milliseconds. */
const SWEEP_INTERVAL = 1000;

const noArray: never[] = [];

export class Lane {
  readonly port: CompletionPort;
  readonly native: NativeLane;
  readonly memory: Memory;
  /** What this thread's sockets have to send. */
  readonly outgoing: Outgoing;
  /** The completion array. */
  readonly words: Uint32Array;
  readonly states: Int32Array;
  readonly bytes: Uint8Array;
  readonly numbers: Float64Array;
  readonly batch: Batch;
  /** Handles this thread has an object for. */
  readonly handles: Handles = checksHandles ? new FollowedHandles() : new Handles();
  /** Whoever gave received bytes last, if the loop has not asked for more. */
  lender: Lender | undefined = undefined;
  closed = false;
  /** It is closed because this thread has closed, or left, the port. */
  left = false;
  /** `port.close()` is under way. */
  closing = false;
  consumer: Consumer | undefined = undefined;
  /** Whether any of its handles keeps the asynchronous context it was opened in. */
  keepsContexts = false;
  /** Whether this thread has ever taken packets. */
  private takes = false;

  private readonly records: Uint32Array;
  private readonly recordNumbers: Float64Array;
  private readonly published: Int32Array;
  private count = 0;
  private readonly posts: Int32Array;
  private readonly postNumbers: Float64Array;
  private readonly postsTail: Int32Array;
  private readonly idle: Int32Array;
  private tail = 0;
  /** Messages that may be written before room has to be asked for again (rule Q2). */
  private room = 0;
  /** The handle whose operations are being linked. */
  private chained: Handle<Style> | undefined = undefined;
  private lastRecord = -1;
  /** A member of the chain was refused: those behind it are cancelled. */
  private broken = false;
  /** Blocks released while a chain was described: chunk, start. */
  private readonly heldBack: number[] = [];

  /** Token 0 means that nobody awaits the operation. */
  private table: (Entry | undefined)[] = [undefined];
  private readonly freeTokens: number[] = [];

  private started = false;
  private driving = false;
  private scheduled = false;
  private rounds = 0;
  private turnBegan = 0;
  /**
   * After an uncaught exception in a worker Node.js still runs what was scheduled for the end of
   * the turn, but no immediates. Calling native code there would say that the packet at hand was
   * dealt with, and nobody would be told that its key was abandoned (rule T1).
   */
  private readonly tick = (): void => {
    if (this.batch.heldInTurn) this.later();
    else this.drive();
  };
  private readonly turn = (): void => {
    this.rounds = 0;
    this.drive();
  };

  private glancing = false;
  private readonly glance = (): void => {
    this.glancing = false;
    if (this.batch.active) this.turn();
  };

  private holds = 0;
  private referenced = false;
  private consumerHolds = true;
  private readonly foreign = new Set<Handle<Style>>();
  private sweeper: NodeJS.Timeout | undefined = undefined;
  /** Looks whether its packets are taken; undefined where whoever has the port sees to that. */
  private unattended: Unattended | undefined = new Unattended();
  /** What its handles bring is for this thread alone. */
  private readonly affine: boolean;
  private readonly onDown: () => void;
  private readonly context = new AsyncResource('CompletionPort', {
    requireManualDestroy: true,
  });

  constructor(port: CompletionPort, native: NativeLane, affine: boolean, onDown: () => void) {
    this.port = port;
    this.affine = affine;
    this.native = native;
    this.onDown = onDown;
    this.memory = new Memory(this);
    this.outgoing = new Outgoing(native);
    this.records = new Uint32Array(native.submissions);
    this.recordNumbers = new Float64Array(native.submissions);
    this.published = new Int32Array(native.published);
    this.words = new Uint32Array(native.completions);
    this.states = new Int32Array(native.completions);
    this.bytes = new Uint8Array(native.completions);
    this.numbers = new Float64Array(native.completions);
    this.posts = new Int32Array(native.posts);
    this.postNumbers = new Float64Array(native.posts);
    this.postsTail = new Int32Array(native.postsTail);
    this.idle = new Int32Array(native.idle);
    this.batch = new Batch(this);
  }

  // ---- submitting

  /** A token for an operation this thread awaits. */
  add(entry: Entry): number {
    const token = this.freeTokens.pop() ?? this.table.length;
    this.table[token] = entry;
    return token;
  }

  /** Takes back the token of an operation that could not be submitted. */
  remove(token: number): void {
    this.table[token] = undefined;
    this.freeTokens.push(token);
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

  /**
   * Posts a message; false when the queue is full (rule Q2). Threads that take packets fetch it from
   * the ring; native code is called only when one of them is idle, and once in a while for room.
   */
  post(key: number, value: number): boolean {
    if (this.room === 0 && !this.askForRoom()) return false;
    this.room--;
    const { tail } = this;
    const at = (tail & (Posts.CAPACITY - 1)) * Posts.SIZE;
    this.posts[at / 4] = key;
    this.postNumbers[(at + Posts.VALUE) / 8] = value;
    // From here on the message is posted, also if this thread is terminated now. The order of these
    // two makes sure that no thread falls asleep over it: see native/port/dispatcher.h.
    Atomics.store(this.postsTail, 0, (this.tail = (tail + 1) | 0));
    const idle = Atomics.load(this.idle, 0) as Idle;
    if (idle !== Idle.Nobody) this.tell(idle);
    return true;
  }

  private tell(idle: Idle): void {
    if (idle === Idle.Asleep) this.native.acceptPosts();
    else if (idle === Idle.Spins) Atomics.compareExchange(this.idle, 0, Idle.Spins, Idle.Told);
  }

  /** Asks for an early end of an operation this thread awaits. */
  cancel(token: number): void {
    if (this.closed) return;
    if (this.chained) {
      queueMicrotask(() => this.cancel(token));
      return;
    }
    this.submit(Kind.CancelToken, 0, 0, token, 0, 0, 0, NO_CHUNK, 0, 0);
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
    if (this.closed) return;
    if (!this.memory.pending) this.native.release(chunk, start);
    else if (this.chained !== undefined) this.heldBack.push(chunk, start);
    else this.submit(Kind.Release, 0, 0, 0, 0, 0, 0, chunk, start, 0);
  }

  /**
   * Submissions of `handle` made inside `fn` become a chain (rule O9). Nothing of it is submitted
   * when `fn` throws.
   */
  link<T>(handle: Handle<Style>, fn: () => T): T {
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

  /** Room for `count` records that stay together. */
  ensure(count: number): void {
    if (this.count + count <= RECORDS) return;
    if (this.chained || count > RECORDS) {
      throw outOfRange('operations', `a chain of at most ${RECORDS} submissions`, RECORDS + 1);
    }
    this.flush();
  }

  // ---- taking

  /**
   * Waits for packets without the event loop. False when `timeout` milliseconds passed first.
   */
  get(max: number, timeout: number): boolean {
    if (this.driving || this.chained) throw invalidState('get() is not possible here');
    // What comes would go to the consumer, who has no turn as long as this waits.
    if (this.consumer !== undefined) throw takenAlready(this.consumer);
    this.takes = true;
    // If the program goes back to its event loop, that has to hear of completions again.
    this.schedule();
    const deadline = timeout === Infinity ? Infinity : now() + timeout;
    for (let left = timeout; ; left = Math.max(0, deadline - now())) {
      this.batch.finish();
      const count = this.handOver();
      this.room = 0;
      const got = this.native.get(count, max, left);
      if (got < 0) throw this.down();
      if (got > 0) {
        this.settleAwaited(got);
        if (this.batch.begin(got, true)) return true;
      }
      if (left === 0) return false;
    }
  }

  /** Whether there is nothing that could bring a packet, or an answer, to this thread by itself. */
  nothingCanCome(): boolean {
    if (this.handles.size > 0 || this.count > 0 || this.batch.active) return false;
    if (this.table.length - 1 > this.freeTokens.length) return false;
    const { handles, queueDepth, threads } = this.native.stats();
    return handles === 0 && queueDepth === 0 && threads === 1;
  }

  /** Calls native code soon: at the end of the current turn of microtasks. */
  schedule(): void {
    if (this.scheduled || this.driving || this.closed) return;
    this.scheduled = true;
    nextTick(this.tick);
  }

  /** Settles the awaited packets among the first `count`; the number of them. */
  settleAwaited(count: number): number {
    const { bytes } = this;
    let settled = 0;
    for (let i = 0; i < count; i++) {
      const flags = bytes[i * Slot.SIZE + Slot.FLAGS]!;
      if ((flags & PacketFlag.Awaited) === 0) continue;
      this.settle(i * SLOT_WORDS, (flags & PacketFlag.More) !== 0);
      settled++;
    }
    return settled;
  }

  // ---- staying alive (rule T3)

  /** Something that keeps the process alive came (1) or went (-1). */
  hold(by: 1 | -1): void {
    this.holds += by;
    this.reconcile();
  }

  setConsumer(consumer: Consumer | undefined): void {
    this.consumer = consumer;
    this.takes ||= consumer !== undefined;
    this.reconcile();
    if (consumer) this.schedule();
  }

  /** The port's packets are for threads of the library, which replaces those that die. */
  leaveToOthers(): void {
    this.unattended = undefined;
  }

  /** Whether a consumer keeps the process alive. */
  holdByConsumer(holds: boolean): void {
    this.consumerHolds = holds;
    this.reconcile();
  }

  /** A keyed handle that keeps the process alive: its end may be seen by another thread only. */
  watch(handle: Handle<Style>): void {
    this.foreign.add(handle);
    this.sweeper ??= setInterval(() => this.lookAfter(), SWEEP_INTERVAL).unref();
  }

  unwatch(handle: Handle<Style>): void {
    this.foreign.delete(handle);
    if (this.foreign.size > 0) return;
    clearInterval(this.sweeper);
    this.sweeper = undefined;
  }

  private lookAfter(): void {
    if (this.closed) return;
    this.sweep();
    this.unattended?.look(this.native);
    if (this.affine && !this.takes) this.unattended?.lookAtAffine();
  }

  /** Forgets the objects of handles that are gone. */
  sweep(): void {
    if (this.closed) return;
    const open = new Set(this.native.handles());
    for (const handle of this.handles) {
      if (handle.style === 'packet' && !open.has(handle.id)) handle.gone();
    }
  }

  // ---- ending

  /**
   * The port is closed, or this thread leaves it: everything that waits fails. `here`: this thread's
   * own doing, whose loops end.
   */
  down(here = false): Error {
    if (this.closed) return portClosed();
    this.closed = true;
    this.left = here;
    this.count = this.room = 0;
    this.batch.drop();
    const { table } = this;
    this.table = noArray;
    for (const entry of table) {
      if (entry !== undefined) this.answer(entry, LibraryError.PortClosed, 0, 0, false);
    }
    this.stopConsumer(here);
    for (const handle of this.handles) handle.gone();
    this.holds = 0;
    this.reconcile();
    this.native.detach();
    this.onDown();
    return portClosed();
  }

  /** The port ends, or this thread leaves it (`here`: its own doing): no more packets are to come. */
  stopConsumer(here: boolean): void {
    const { consumer } = this;
    this.setConsumer(undefined);
    consumer?.ended(portClosed(), here);
  }

  assertOpen(): void {
    if (this.closed || this.closing) throw portClosed();
  }

  /** Whether `handle` may submit now: not while a chain of another one is described. */
  assertUnchained(handle?: Handle<Style>): void {
    if (this.chained === undefined || this.chained === handle) return;
    throw invalidState('Only operations of one open handle can be linked');
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

  /** What is left of it goes back with the next call, at the end of this turn at the latest. */
  private askForRoom(): boolean {
    this.schedule();
    this.room = Math.max(0, this.native.reserve(Posts.CAPACITY));
    return this.room > 0;
  }

  /** How many submissions native code is told of now: it takes their uses of pool memory. */
  private handOver(): number {
    const { count } = this;
    this.count = 0;
    this.memory.pending = false;
    this.outgoing.handedOver();
    return count;
  }

  /** What was submitted inside the chain is as if it had never been. */
  private takeBackChain(): void {
    const { records } = this;
    const end = this.handOver();
    for (let record = 0; record < end;) {
      const at = record * RECORD_WORDS;
      const slices = records[at]! >>> 16;
      const keyed = (records[at]! & (SubmissionFlag.Keyed << 8)) !== 0;
      const token = keyed ? 0 : records[at + Submission.TOKEN / 4]!;
      if ((records[at]! & (SubmissionFlag.Release << 8)) !== 0) this.giveSlices(at, slices);
      record += 1 + Math.max(0, Math.ceil((slices - 1) / SLICES_IN_RECORD));
      const entry = token === 0 ? undefined : this.table[token];
      if (entry === undefined) continue;
      this.remove(token);
      entry.dropped?.();
      this.answer(entry, ECANCELED, 0, 0, false);
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

  private settle(at: number, more: boolean): void {
    const token = this.words[at + Slot.TOKEN / 4]!;
    const entry = this.table[token];
    this.states[at] = PacketState.Done;
    if (entry === undefined) return;
    if (!more) this.remove(token);
    const error = this.states[at + Slot.ERROR / 4]!;
    this.answer(entry, error, this.numbers[at / 2 + Slot.RESULT / 8]!, at, more);
  }

  /** What an entry throws is an uncaught exception, and not the end of the other entries' answers. */
  private answer(entry: Entry, error: number, result: number, at: number, more: boolean): void {
    try {
      entry.answered(error, result, at, more);
    } catch (thrown) {
      nextTick(rethrow, thrown);
    }
  }

  /** One call to native code, and what it brings back; again while there may be more. */
  private drive(): void {
    this.scheduled = false;
    if (this.driving || this.closed) return;
    this.start();
    this.driving = true;
    let finished = false;
    try {
      finished = this.run();
    } finally {
      this.driving = false;
      // A handler threw: what is left of its batch goes back at the next call.
      if (!finished) this.later();
    }
  }

  private run(): boolean {
    for (;;) {
      if (this.overBudget()) {
        this.later();
        return true;
      }
      const max = this.consumer === undefined ? 0 : this.consumer.wanted();
      const got = this.enter(max);
      if (got < 0) this.down();
      if (got <= 0) return true;
      const settled = this.settleAwaited(got);
      if (got > settled && this.consumer !== undefined) this.consume(got);
      if (this.closed) return true;
      if (this.batch.active) this.glanceLater();
      // What awaits comes first: it submits more, and one call does for all of that.
      if (settled > 0) {
        this.scheduled = true;
        nextTick(this.tick);
      }
      if (settled > 0 || this.batch.active) return true;
    }
  }

  private enter(max: number): number {
    if (this.batch.active) this.batch.interrupt();
    const count = this.handOver();
    this.room = 0;
    return this.native.enter(count, max);
  }

  /** Not in the asynchronous context of whichever operation made this thread call native code. */
  private consume(got: number): void {
    this.context.runInAsyncScope(takeFor, undefined, this.consumer, got);
  }

  private overBudget(): boolean {
    const time = now();
    if (this.rounds++ === 0) this.turnBegan = time;
    return this.rounds > ROUNDS_IN_TURN || time - this.turnBegan > MILLISECONDS_IN_TURN;
  }

  private later(): void {
    this.scheduled = true;
    setImmediate(this.turn);
  }

  /**
   * A loop has a batch to go through and asks for the next one itself. Should it await something
   * in between, the completions of others are not to wait for it.
   */
  private glanceLater(): void {
    if (this.glancing) return;
    this.glancing = true;
    setImmediate(this.glance);
  }

  private start(): void {
    if (this.started) return;
    this.started = true;
    const threadsafe =
      Boolean(process.versions['bun']) || process.env['COMPLETION_PORT_NOTIFIER'] === 'threadsafe';
    this.native.start(this.turn, threadsafe);
    if (!this.referenced) this.native.unref();
  }

  private reconcile(): void {
    const wanted = this.holds > 0 || (this.consumer !== undefined && this.consumerHolds);
    if (wanted === this.referenced) return;
    this.referenced = wanted;
    if (this.closed) {
      if (!wanted && this.started) this.native.unref();
      return;
    }
    if (wanted) {
      this.start();
      this.native.ref();
    } else {
      this.native.unref();
    }
  }
}

/** Where slice `index` of those behind the first stands, from the first record of slices on. */
function placeOfSlice(index: number): number {
  const record = Math.floor(index / SLICES_IN_RECORD);
  return record * RECORD_WORDS + (index % SLICES_IN_RECORD) * SLICE_WORDS;
}

function rethrow(thrown: unknown): never {
  throw thrown;
}

function takeFor(consumer: Consumer, count: number): void {
  consumer.take(count);
}

export function takenAlready(consumer: Consumer): Error {
  return invalidState(`This thread takes packets already: ${inspect(consumer, { depth: -1 })}`);
}
