/**
 * Takes the packets of a stage in one thread, and turns each into the event it is for its
 * connection.
 *
 * A packet is claimed when its turn comes, and stays claimed until the next call to native code has
 * taken over what its handler submitted: a thread that dies in between abandons the key, so nobody
 * believes that those operations were begun (rule T1).
 */
import {
  handleAt,
  LibraryError,
  NO_CHUNK,
  Slot,
  PacketFlag,
  PacketState,
  setHandle,
  SubmissionFlag,
} from '../../native/layout';
import { Kind } from '../../native/kinds';
import { ECANCELED } from '../../support/errno';
import { failure } from '../../support/errors';
import type { PacketTaker } from '../../thread/port-thread';
import { now } from '../../support/timers';
import { Action, Connection, Todo } from './connection';
import { Event } from '../definition/events';
import { StageMessage } from './message';
import { Counter } from '../record/counters';
import {
  EXPIRED,
  Header,
  IN_TRANSIT,
  LISTENER,
  NONE,
  RecordFlag,
  type Records,
} from '../record/record';
import {
  advance,
  begin,
  closeForGood,
  discardMore,
  fail,
  giveTurnBack,
  giveUp,
  isVisiting,
  linger,
  makeLocal,
  submitClose,
} from './steps';
import type { StageThread } from './thread';

const MOST = 256;
/**
 * Milliseconds that a batch is to take. What its handlers submit, answers and hand-offs, leaves when
 * it is over; and what is not in it is in the queue, where any thread may take it.
 */
const BATCH_TIME = 1;
/** How much the last batch counts for what a packet is expected to take. */
const LATEST = 0.25;
const SLOT_WORDS = Slot.SIZE / 4;
const about = { net: true };
/** Packets that belong to no connection run first. */
const NO_STATE = 0;

export class Runner implements PacketTaker {
  private readonly thread: StageThread;
  private readonly records: Records;
  private readonly words: Uint32Array;
  private readonly states: Int32Array;
  private readonly results: Float64Array;
  private readonly onEnded: () => void;
  /** Milliseconds that a packet takes, nearly. */
  private pace = 0;
  /** A batch by state: which packet comes when, and where the packets of a state begin. */
  private readonly order = new Uint16Array(MOST);
  private readonly groups = new Uint16Array(NONE + 2);

  constructor(thread: StageThread, onEnded: () => void) {
    this.thread = thread;
    this.records = thread.records;
    this.words = thread.portThread.words;
    this.states = thread.portThread.states;
    this.results = thread.portThread.numbers;
    this.onEnded = onEnded;
    thread.portThread.setConsumer(this);
  }

  wanted(): number {
    return Math.max(1, Math.min(MOST, Math.ceil(BATCH_TIME / this.pace)));
  }

  take(count: number): void {
    const start = now();
    let began = start;
    this.thread.going.clear();
    if (this.thread.byState) this.sort(count);
    for (let i = 0; i < count; i++) {
      const at = (this.thread.byState ? this.order[i]! : i) * SLOT_WORDS;
      if (this.states[at] !== PacketState.Ready || !this.claim(at)) continue;
      const { queueing, handling } = this.thread.measures;
      queueing.record(this.words[at + Slot.AGE / 4]! || 1);
      this.thread.count(Counter.Packets);
      const over = this.run(at, began);
      const ended = now();
      if (over) handling.record(Math.round((ended - began) * 1000) || 1);
      else this.states[at] = PacketState.Kept;
      began = ended;
      if (this.thread.portThread.closed) return;
    }
    this.pace += LATEST * ((began - start) / count - this.pace);
  }

  ended(): void {
    this.thread.ended = true;
    void this.thread.generators.end();
    this.onEnded();
  }

  /**
   * The packets grouped by the states their connections are in now, so that the code and data of
   * one state stay in the caches. Those of one key are all in the same state: they keep their order.
   */
  private sort(count: number): void {
    const { groups, order } = this;
    groups.fill(0);
    for (let i = 0; i < count; i++) groups[this.groupOf(i) + 1]!++;
    for (let group = 1; group < groups.length; group++) groups[group]! += groups[group - 1]!;
    for (let i = 0; i < count; i++) order[groups[this.groupOf(i)]!++] = i;
  }

  private groupOf(slot: number): number {
    const at = this.records.offset(this.words[slot * SLOT_WORDS + Slot.KEY / 4]!);
    return at < 0 ? NO_STATE : this.records.bytes[at + Header.STATE]!;
  }

  /**
   * Whether the packet is for this thread, now. Not while a promise holds its key; nor when this
   * thread has handed the connection on and native code does not know yet: what was not begun then
   * moves with it.
   */
  private claim(at: number): boolean {
    const key = this.words[at + Slot.KEY / 4]!;
    const { thread, states } = this;
    if ((this.words[at + Slot.KIND / 4]! & (PacketFlag.Awaited << 8)) !== 0) return false;
    if (thread.kept.size > 0 && thread.kept.has(key)) return false;
    if (thread.going.has(key)) return false;
    const before = Atomics.compareExchange(states, at, PacketState.Ready, PacketState.Claimed);
    return (before as PacketState) === PacketState.Ready;
  }

  /** Whether the record of `key` says that it goes to another stage. */
  private isElsewhere(key: number, record: number): boolean {
    const { words, bytes } = this.records;
    const stage = bytes[record + Header.STAGE]!;
    return words[record >>> 2] === key && stage !== this.thread.stage.index && stage !== NONE;
  }

  /** Handles the packet at `at`, which is this thread's. False: a promise holds its key. */
  private run(at: number, began: number): boolean {
    const key = this.words[at + Slot.KEY / 4]!;
    const kind = (this.words[at + Slot.KIND / 4]! & 0xff) as Kind;
    if (key === LISTENER) {
      this.serveListener(at, kind);
      return true;
    }
    const record = this.records.offset(key);
    if (record < 0 || this.records.words[record >>> 2] !== key) {
      this.drop(at);
      return true;
    }
    const { thread } = this;
    const port = this.records.words[(record + Header.PORT) >>> 2]!;
    if (port !== thread.stage.port) {
      this.runElsewhere(at, kind, key, port);
      return true;
    }
    const c = new Connection(thread, key, record, began);
    const over = !this.meet(c, at, kind) || advance(thread, c);
    if (over) c.release();
    return over;
  }

  // ---- from packets to events

  /** What the packet means. False: nothing is to be called. */
  private meet(c: Connection, at: number, kind: Kind): boolean {
    const { thread, records } = this;
    const state = records.bytes[c.at + Header.STATE]!;
    if (this.isElsewhere(c.recordKey, c.at)) return this.meetLost(c, at, kind);
    if ((c.flags & RecordFlag.Closing) !== 0) return this.meetClosing(c, at, kind);
    if ((state & IN_TRANSIT) !== 0) begin(thread, c);
    else if (kind === Kind.HandOff)
      return false; // told twice
    else c.now = thread.machine.states[state] ?? thread.machine.initial;
    switch (kind) {
      case Kind.HandOff:
        return true;
      case Kind.Receive:
        return this.meetReceived(c, at);
      case Kind.Posted:
        return this.meetPosted(c, at);
      case Kind.Message:
        return this.meetMessage(c, at);
      case Kind.Send:
      case Kind.SendFile:
      case Kind.Shutdown:
        return this.meetSent(c, at, kind);
      case Kind.Drain:
        return this.call(c, Event.Drain);
      case Kind.Timer:
        return this.meetTimer(c);
      case Kind.Abandoned:
        return this.meetAbandoned(c);
      case Kind.Close:
        return this.meetClosed(c, at);
      default:
        return true;
    }
  }

  private meetReceived(c: Connection, at: number): boolean {
    const { bytes, words, numbers } = this.records;
    const error = this.states[at + Slot.ERROR / 4]!;
    bytes[c.at + Header.FLAGS] = c.flags & ~RecordFlag.Receiving;
    if (error !== 0) return this.meetFailed(c, error, Kind.Receive);
    const length = this.results[at / 2 + Slot.RESULT / 8]!;
    const chunk = this.words[at + Slot.CHUNK / 4]!;
    if (chunk === NO_CHUNK) {
      bytes[c.at + Header.FLAGS] = c.flags | RecordFlag.Ended;
      return true;
    }
    const start = this.words[at + Slot.START / 4]!;
    const total = (c.at + Header.RECEIVED) >>> 3;
    numbers[total] = numbers[total]! + length;
    const behind = words[(c.at + Header.STASHED) >>> 2] !== 0;
    if (c.now.received === undefined || behind || isVisiting(this.thread, c)) {
      this.thread.stash(c.recordKey, c.at, chunk, start, length);
      return true;
    }
    c.chunk = chunk;
    c.start = start;
    c.length = length;
    return this.call(c, Event.Received);
  }

  /**
   * Cancelled, and not by a close: the thread that had submitted it has died. What it was to
   * receive is still to come.
   */
  private meetFailed(c: Connection, error: number, kind: Kind): boolean {
    if (error === (LibraryError.HandleClosed as number)) return false;
    if (kind === Kind.Receive) {
      if (error === ECANCELED) return true;
      this.records.bytes[c.at + Header.FLAGS] = c.flags | RecordFlag.Broken;
    }
    fail(this.thread, c, this.nameOf(kind), failure(error, kind, about));
    return true;
  }

  private nameOf(kind: Kind): string {
    if (kind === Kind.Receive) return 'received';
    return kind === Kind.SendFile ? 'fileSent' : 'sent';
  }

  private meetSent(c: Connection, at: number, kind: Kind): boolean {
    const error = this.states[at + Slot.ERROR / 4]!;
    if (error !== 0) return this.meetFailed(c, error, kind);
    c.value = this.results[at / 2 + Slot.RESULT / 8]!;
    if (kind === Kind.Shutdown) return true;
    return this.call(c, kind === Kind.SendFile ? Event.FileSent : Event.Sent);
  }

  private meetPosted(c: Connection, at: number): boolean {
    if (this.thread.closing) {
      c.todo = 0;
      c.action = Action.Close;
      return true;
    }
    c.value = this.results[at / 2 + Slot.RESULT / 8]!;
    return this.call(c, Event.Posted);
  }

  private meetMessage(c: Connection, at: number): boolean {
    if (this.thread.closing) return this.meetPosted(c, at);
    c.message = this.messageAt(at);
    return this.call(c, Event.Message);
  }

  private messageAt(at: number): StageMessage {
    const { words } = this;
    return new StageMessage(
      words[at + Slot.CHUNK / 4]!,
      words[at + Slot.START / 4]!,
      this.results[at / 2 + Slot.RESULT / 8]!,
      words[at + Slot.TOKEN / 4]!,
    );
  }

  private meetTimer(c: Connection): boolean {
    const deadline = (c.at + Header.DEADLINE) >>> 3;
    if (this.records.numbers[deadline] !== EXPIRED) return false;
    this.records.numbers[deadline] = 0;
    return this.call(c, Event.Timeout);
  }

  /** Whether a receive is in flight is not known: one too many does no harm. */
  private meetAbandoned(c: Connection): boolean {
    // First of all, also where it was about to begin: what else happens may rely on what was lost.
    c.todo = 0;
    this.records.bytes[c.at + Header.FLAGS] = c.flags & ~RecordFlag.Receiving;
    giveTurnBack(this.thread, c);
    if (this.isGone(c)) return this.lastEvent(c);
    if (this.thread.machine.local !== undefined) makeLocal(this.thread, c);
    c.brought = true;
    return this.call(c, Event.Abandoned);
  }

  private meetClosed(c: Connection, at: number): boolean {
    // A second close was refused; the first one's packet is still to come.
    if (this.states[at + Slot.ERROR / 4] !== 0 && !this.isGone(c)) return false;
    return this.lastEvent(c);
  }

  private meetClosing(c: Connection, at: number, kind: Kind): boolean {
    const state = this.records.bytes[c.at + Header.STATE]!;
    c.now = this.thread.machine.states[state] ?? this.thread.machine.initial;
    if (kind === Kind.Close) return this.meetClosed(c, at);
    if (kind === Kind.Abandoned) return this.closeAgain(c);
    this.drop(at);
    if (c.handleId !== 0) this.goOnClosing(c, at, kind);
    return false;
  }

  /** What was sent goes out, what is received is thrown away: see `discardMore`. */
  private goOnClosing(c: Connection, at: number, kind: Kind): void {
    const { thread, records } = this;
    const error = this.states[at + Slot.ERROR / 4]!;
    switch (kind) {
      case Kind.Posted:
      case Kind.Message:
        if (thread.closing) closeForGood(thread, c); // the pipeline waits no longer
        return;
      case Kind.Timer:
        return closeForGood(thread, c);
      case Kind.Shutdown:
        if (error === (LibraryError.TimedOut as number)) return giveUp(thread, c);
        return error === 0 ? linger(thread, c) : closeForGood(thread, c);
      case Kind.Receive: {
        const over = error !== 0 || this.words[at + Slot.CHUNK / 4] === NO_CHUNK;
        const flags = c.flags & ~RecordFlag.Receiving;
        records.bytes[c.at + Header.FLAGS] = over ? flags | RecordFlag.Ended : flags;
        if ((flags & RecordFlag.Broken) !== 0) return; // closed already
        if (!over) return discardMore(thread, c);
        if ((flags & RecordFlag.Sent) === 0) closeForGood(thread, c);
      }
    }
  }

  /** A thread died that was closing it: between its close and the last event, or in that. */
  private closeAgain(c: Connection): boolean {
    const handle = c.handleId;
    if (handle === 0) {
      this.thread.releaseRecord(c.recordKey);
      return false;
    }
    if (this.isGone(c)) return this.lastEvent(c);
    submitClose(this.thread, handle);
    return false;
  }

  private lastEvent(c: Connection): boolean {
    const { bytes, words, numbers } = this.records;
    bytes[c.at + Header.FLAGS] = c.flags | RecordFlag.Closing;
    numbers[(c.at + Header.DEADLINE) >>> 3] = 0;
    // Should this thread die in it, whoever hears of that knows that it was begun.
    setHandle(words, (c.at + Header.HANDLE) >>> 2, 0);
    c.todo = 0;
    return this.call(c, Event.Closed);
  }

  private isGone(c: Connection): boolean {
    const handle = c.handleId;
    return handle !== 0 && this.thread.native.handleInfo(handle) === undefined;
  }

  private call(c: Connection, event: Event): true {
    c.event = event;
    c.todo |= Todo.Event;
    return true;
  }

  // ---- connections that are not here

  /** The connection has gone on: what is left here follows it. */
  private runElsewhere(at: number, kind: Kind, key: number, port: number): void {
    if (kind === Kind.Posted) {
      this.thread.forward(key, this.results[at / 2 + Slot.RESULT / 8]!, port);
    } else if (kind === Kind.Message) {
      this.thread.forwardBytes(key, this.messageAt(at), port);
    } else {
      this.drop(at);
    }
  }

  /**
   * It was to go on, and did not: its thread died first, with whatever else was submitted for it, or
   * the other port is closed. It is here still, and begins anew.
   */
  private meetLost(c: Connection, at: number, kind: Kind): boolean {
    const { thread, records } = this;
    // The notice of its arrival, behind a message that was here before and has sent it on.
    if (kind === Kind.HandOff && this.states[at + Slot.ERROR / 4] === 0) return false;
    records.bytes[c.at + Header.STAGE] = thread.stage.index;
    records.bytes[c.at + Header.STATE] = thread.machine.initial.index;
    c.now = thread.machine.initial;
    if ((c.flags & RecordFlag.Closing) !== 0) return this.meetClosing(c, at, kind);
    if (kind === Kind.Abandoned) return this.meetAbandoned(c);
    this.drop(at);
    c.action = Action.Close;
    return true;
  }

  /** The bytes of a message are the batch's. */
  private drop(at: number): void {
    const kind = (this.words[at + Slot.KIND / 4]! & 0xff) as Kind;
    const chunk = kind === Kind.Message ? NO_CHUNK : this.words[at + Slot.CHUNK / 4]!;
    if (chunk !== NO_CHUNK) this.thread.release(chunk, this.words[at + Slot.START / 4]!);
  }

  // ---- listeners

  private serveListener(at: number, kind: Kind): void {
    const handle = handleAt(this.words, at + Slot.HANDLE / 4);
    const more = (this.words[at + Slot.KIND / 4]! & (PacketFlag.More << 8)) !== 0;
    switch (kind) {
      case Kind.HandOff:
        return this.accept(handle);
      case Kind.Accept: {
        const accepted = handleAt(this.words, at + Slot.ACCEPTED / 4);
        const key = this.words[at + Slot.ACCEPTED_KEY / 4]!;
        if (accepted !== 0) this.thread.submitHandOff(key, accepted, this.thread.stage.port);
        const closed = this.states[at + Slot.ERROR / 4] === LibraryError.HandleClosed;
        if (!more && !closed) this.accept(handle);
        return;
      }
      case Kind.Abandoned:
        this.welcomeAll();
        return this.accept(handle);
      default:
    }
  }

  /**
   * Has the listener accept. A second accept beside one in flight waits behind it, so it does no
   * harm when that is not known.
   */
  private accept(handle: number): void {
    const info = this.thread.native.handleInfo(handle);
    if (info === undefined || info.closing || info.kind !== 'listener') return;
    const flags = SubmissionFlag.Multishot;
    this.thread.portThread.submissions.accept(handle, 0, flags);
  }

  /** A thread died when it had accepted connections that nobody was told of. */
  private welcomeAll(): void {
    const { words, bytes, stride, limit } = this.records;
    const { port } = this.thread.stage;
    for (let at = 0; at < limit * stride; at += stride) {
      const key = words[at >>> 2]!;
      const mine = key !== 0 && words[(at + Header.PORT) >>> 2] === port;
      if (!mine || bytes[at + Header.STAGE] !== NONE) continue;
      const handle = handleAt(words, (at + Header.HANDLE) >>> 2);
      if (handle !== 0) this.thread.submitHandOff(key, handle, port);
    }
  }
}
