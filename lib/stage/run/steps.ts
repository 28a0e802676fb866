/**
 * What a packet means for its connection, step by step: the handlers that are called, what follows
 * from what they return, and how the connection rests or leaves afterwards.
 */
import { handleAt, NO_CHUNK, SocketOption, SubmissionFlag } from '../../native/layout';
import { outOfBuffers, timedOut } from '../../support/errors';
import { now } from '../../support/timers';
import { isGenerator } from '../../support/validate';
import { monotonic, monotonicAt } from '../../support/clock';
import { Action, Todo, type Connection } from './connection';
import { Counter } from '../record/counters';
import { setDeadline } from '../record/deadline';
import type { State } from '../definition/definition';
import { Event, names, Step } from '../definition/events';
import { arrived, asError, closed, endlessTransitions, handedOff, unknownState } from '../failures';
import { StageMessage } from './message';
import { Header, IN_TRANSIT, NONE, RecordFlag } from '../record/record';
import { MOST_CALLS, type StageThread } from './thread';

/** Milliseconds in which nothing moves of what was sent before a close: then it is given up. */
const FAREWELL = 2000;
/** Milliseconds that the peer has for ending its side, when all that was sent is out. */
const LINGER = 2000;

/**
 * Calls handlers until there is nothing to do for the connection. False when one has returned a
 * promise, or waits as a generator: the key stays held, and the steps go on when that is over.
 */
export function advance(thread: StageThread, c: Connection): boolean {
  for (;;) {
    if (c.action !== Action.None && leave(thread, c)) return true;
    const event = nextEvent(thread, c);
    if (event === Event.None) {
      if (isVisiting(thread, c)) goBack(thread, c);
      else rest(thread, c);
      return true;
    }
    let result: unknown;
    try {
      result = call(thread, c, event);
    } catch (error) {
      failed(thread, c, event, error);
      if (event === Event.Closed) return true;
      continue;
    }
    if (result instanceof Promise || isThenable(result)) {
      suspend(thread, c, event, result);
      return false;
    }
    if (isGenerator(result)) {
      suspend(thread, c, event, thread.generators.start(result, names[event]!));
      return false;
    }
    done(thread, c, event, result);
    if (event === Event.Closed) return true;
  }
}

// ---- which event is next

function nextEvent(thread: StageThread, c: Connection): Event {
  const { todo } = c;
  if (todo === 0) return waiting(thread, c);
  const first = todo & -todo;
  c.todo = todo & ~first;
  switch (first as Todo) {
    case Todo.Failed:
      return Event.Failed;
    case Todo.Entered:
      return Event.Entered;
    case Todo.HandedOff:
      return Event.HandedOff;
    case Todo.Event:
      return c.event;
  }
}

/** Something may have arrived elsewhere, or in a state that did not want it, and be wanted now. */
function waiting(thread: StageThread, c: Connection): Event {
  const { records } = thread;
  const flags = records.bytes[c.at + Header.FLAGS]!;
  const stashed = records.words[(c.at + Header.STASHED) >>> 2]!;
  const held = records.words[(c.at + Header.HELD) >>> 2]!;
  if ((flags & RecordFlag.Closing) !== 0) return Event.None;
  if (c.brought && takeMessage(thread, c))
    return c.message === undefined ? Event.Posted : Event.Message;
  if (!c.now.listens || isVisiting(thread, c)) return Event.None;
  if (stashed > held) {
    if (c.now.received === undefined) return Event.None;
    return unstash(thread, c, held > 0) ? Event.Received : nextEvent(thread, c);
  }
  if ((flags & RecordFlag.Ended) === 0 || (flags & RecordFlag.EndTold) !== 0) return Event.None;
  // What was held for more is all there is.
  if (held > 0 && !unstash(thread, c, false)) return nextEvent(thread, c);
  records.bytes[c.at + Header.FLAGS] = flags | RecordFlag.EndTold;
  return Event.Ended;
}

function takeMessage(thread: StageThread, c: Connection): boolean {
  const message = thread.native.takeMessage(c.recordKey);
  if (message === undefined) {
    c.brought = false;
    return false;
  }
  if (message === true) {
    const [chunk, start, length, form] = thread.place as unknown as [
      number,
      number,
      number,
      number,
    ];
    c.message = new StageMessage(chunk, start, length, form, chunk !== NO_CHUNK);
  } else {
    c.value = message;
  }
  c.calls = thread.callsFrom + 1; // what one message leads to has a bound, not how many there are
  return true;
}

/**
 * Takes out what came first of what waits, `joined` with what follows. False, and `failed` is to be
 * called, where there is no memory to show it in.
 */
function unstash(thread: StageThread, c: Connection, joined: boolean): boolean {
  const { place: piece } = thread;
  const { words } = thread.records;
  const [stashed, held] = [(c.at + Header.STASHED) >>> 2, (c.at + Header.HELD) >>> 2];
  const length = thread.native.unstash(c.recordKey, joined);
  if (length < 0) {
    fail(thread, c, names[Event.Received]!, outOfBuffers());
    return false;
  }
  words[held] = 0;
  if (length === 0) {
    words[stashed] = 0;
    return false;
  }
  c.chunk = piece[0]!;
  c.start = piece[1]!;
  c.length = piece[2]!;
  words[stashed] = words[stashed]! - c.length;
  return true;
}

/** What was given back is for another state, or stage: it need not wait for more. */
function letHeldGo(thread: StageThread, c: Connection): void {
  thread.records.words[(c.at + Header.HELD) >>> 2] = 0;
}

// ---- calling

function call(thread: StageThread, c: Connection, event: Event): unknown {
  const state = c.now;
  if (++c.calls > MOST_CALLS) watchCall(thread, c, event);
  switch (event) {
    case Event.Entered:
      return state.entered?.(c);
    case Event.HandedOff:
      return state.handedOff?.(c, nameOfOrigin(thread, c));
    case Event.Received:
      return state.received === undefined
        ? unwanted(thread, c)
        : state.received(c, c.bytesAtHand());
    case Event.Sent:
      return state.sent?.(c, c.value);
    case Event.FileSent:
      return state.fileSent?.(c, c.value);
    case Event.Drain:
      return state.drain?.(c);
    case Event.Posted:
      return state.posted?.(c, c.value);
    case Event.Ended:
      return state.ended === undefined ? closeNow(c) : state.ended(c, restOf(c));
    case Event.Message:
      return state.message?.(c, c.message!.read(thread.portThread));
    case Event.Timeout:
      return state.timeout === undefined ? failTimeout(thread, c) : state.timeout(c);
    case Event.Abandoned:
      return state.abandoned === undefined ? closeNow(c) : state.abandoned(c);
    case Event.Failed:
      return state.failed === undefined ? closeNow(c) : state.failed(c, c.error!);
    case Event.Closed:
      return state.closed?.(c);
    default:
      return undefined;
  }
}

/**
 * Of a call that is one too many, or traced: one branch for both, and counts that begin higher, so
 * that threads without a trace pay nothing for it.
 */
function watchCall(thread: StageThread, c: Connection, event: Event): void {
  if (tooManyCalls(thread, c)) {
    throw endlessTransitions(thread.stage.name, c.now.name, c.recordKey);
  }
  // `StageThread.fail` has noted what failed when it did.
  if (event !== Event.Failed)
    thread.note(c, event, bytesOf(thread, c, event), timeOf(thread, c, event));
}

function tooManyCalls(thread: StageThread, c: Connection): boolean {
  return c.calls - thread.callsFrom > MOST_CALLS;
}

function bytesOf(thread: StageThread, c: Connection, event: Event): number {
  switch (event) {
    case Event.Received:
    case Event.Ended:
      return c.chunk === NO_CHUNK ? 0 : c.length;
    case Event.Sent:
    case Event.FileSent:
      return c.value;
    case Event.HandedOff:
      return documentLength(thread, c);
    case Event.Message:
      return c.message!.length;
    default:
      return 0;
  }
}

function documentLength({ records }: StageThread, c: Connection): number {
  const brings = (records.bytes[c.at + Header.FLAGS]! & RecordFlag.HasDocument) !== 0;
  return brings ? records.numbers[(c.at + Header.DOCUMENT_LENGTH) >>> 3]! : 0;
}

/** To read a clock takes longer than all else that is noted: a time that was just read will do. */
function timeOf(thread: StageThread, c: Connection, event: Event): number {
  if (event === Event.Entered) return thread.records.numbers[(c.at + Header.SINCE) >>> 3]!;
  return c.calls === thread.callsFrom + 1 ? monotonicAt(c.began) : monotonic();
}

function nameOfOrigin(thread: StageThread, c: Connection): string {
  return thread.stages[thread.records.bytes[c.at + Header.FROM]!]?.name ?? '';
}

/** What was given back and nothing followed. */
function restOf(c: Connection): Buffer | undefined {
  return c.chunk === NO_CHUNK ? undefined : c.bytesAtHand();
}

/** The state, or the stage, has changed since the packet was looked at. */
function unwanted(thread: StageThread, c: Connection): undefined {
  thread.stash(c.recordKey, c.at, c.chunk, c.start, c.length);
  c.chunk = NO_CHUNK;
  return undefined;
}

function closeNow(c: Connection): undefined {
  c.action = Action.Close;
  return undefined;
}

function failTimeout(thread: StageThread, c: Connection): undefined {
  fail(thread, c, 'timeout', timedOut('timeout', {}));
  return undefined;
}

function isThenable(result: unknown): result is PromiseLike<unknown> {
  return (
    typeof result === 'object' &&
    result !== null &&
    typeof (result as { then?: unknown }).then === 'function'
  );
}

// ---- what follows

/** The handler of `event` is done, and this is what it returned. */
function done(thread: StageThread, c: Connection, event: Event, result: unknown): void {
  finish(thread, c, event);
  if (c.action === Action.Enter) {
    c.action = Action.None;
    if (event !== Event.Closed) goTo(thread, c, c.next!);
    return;
  }
  if (result === undefined || event === Event.Closed) return;
  if (typeof result === 'string') {
    const next = thread.machine.indexes.get(result);
    if (next !== undefined) return goTo(thread, c, next);
  } else if (c.action !== Action.None) {
    return; // what handOff, reply or close gave it
  }
  failed(thread, c, event, unknownState(thread.stage.name, c.now.name, c.recordKey, result));
}

/** What was lent to the handler is taken back. */
function finish(thread: StageThread, c: Connection, event: Event): void {
  if (c.chunk !== NO_CHUNK && (event === Event.Received || event === Event.Ended)) {
    thread.release(c.chunk, c.start);
    c.chunk = NO_CHUNK;
  }
  if (event === Event.Message) c.endMessage();
  if (event === Event.Closed) forget(thread, c);
}

function goTo(thread: StageThread, c: Connection, next: State): void {
  if (next === c.now) return;
  const { records } = thread;
  if (isVisiting(thread, c)) records.bytes[c.at + Header.FROM] = NONE; // it stays
  c.now = next;
  letHeldGo(thread, c);
  records.bytes[c.at + Header.STATE] = next.index;
  const time = (records.numbers[(c.at + Header.SINCE) >>> 3] = monotonic());
  if (next.entered !== undefined) c.todo |= Todo.Entered;
  else if (thread.trace !== undefined) thread.note(c, Event.Entered, 0, time);
}

/** The handler of `event` threw, or its promise was rejected. */
function failed(thread: StageThread, c: Connection, event: Event, thrown: unknown): void {
  const error = asError(thrown);
  c.action = Action.None;
  if (event === Event.Failed || event === Event.Closed || tooManyCalls(thread, c)) {
    thread.fail(c, names[event]!, error);
    c.todo = 0;
    c.action = Action.Close;
  } else {
    fail(thread, c, names[event]!, error);
  }
  finish(thread, c, event);
}

/** Tells of a failure, and has `failed` called. */
export function fail(thread: StageThread, c: Connection, event: string, error: Error): void {
  thread.fail(c, event, error);
  c.error = error;
  c.todo |= Todo.Failed;
}

// ---- promises

/** The key stays with this thread; packets that follow wait (rule D8). */
function suspend(
  thread: StageThread,
  c: Connection,
  event: Event,
  promise: PromiseLike<unknown>,
): void {
  thread.kept.add(c.recordKey);
  c.message?.retain(thread.portThread);
  promise.then(
    (result) => resume(thread, c, event, () => done(thread, c, event, result)),
    (error: unknown) => resume(thread, c, event, () => failed(thread, c, event, error)),
  );
}

function resume(thread: StageThread, c: Connection, event: Event, settle: () => void): void {
  if (thread.ended || thread.portThread.closed || thread.generators.ending) return;
  const key = c.recordKey;
  settle();
  if (event !== Event.Closed && !advance(thread, c)) return;
  c.release();
  thread.letGo(key);
  const took = now() - c.began;
  thread.measures.handling.record(Math.max(1, Math.round(took * 1000)));
}

// ---- resting and leaving

/** With one of these nothing is to be received. */
const NOT_RECEIVING =
  RecordFlag.Receiving |
  RecordFlag.Closing |
  RecordFlag.Broken |
  RecordFlag.Ended |
  RecordFlag.EndTold;

/** Nothing is to be done: something is received when the state wants it. */
function rest(thread: StageThread, c: Connection): void {
  if (!c.now.listens) return;
  const { bytes, words } = thread.records;
  const flags = bytes[c.at + Header.FLAGS]!;
  if ((flags & NOT_RECEIVING) !== 0 || hasMore(words, c)) return;
  const handle = handleAt(words, (c.at + Header.HANDLE) >>> 2);
  if (handle === 0) return;
  bytes[c.at + Header.FLAGS] = flags | RecordFlag.Receiving;
  thread.portThread.submissions.receive(handle, 0);
}

/** Whether more is there than what waits for what follows it. */
function hasMore(words: Uint32Array, c: Connection): boolean {
  return words[(c.at + Header.STASHED) >>> 2] !== words[(c.at + Header.HELD) >>> 2];
}

/**
 * Whether a native stage has handed the connection over for its messages alone, between documents:
 * it goes back when they are told, unless a handler sends it elsewhere. What its client sends
 * meanwhile is for the native stage.
 */
export function isVisiting(thread: StageThread, c: Connection): boolean {
  const { bytes } = thread.records;
  if ((bytes[c.at + Header.FLAGS]! & RecordFlag.HasDocument) !== 0) return false;
  return thread.stages[bytes[c.at + Header.FROM]!]?.native === true;
}

function goBack(thread: StageThread, c: Connection): void {
  if ((c.flags & RecordFlag.Closing) !== 0) return;
  c.target = thread.stages[thread.records.bytes[c.at + Header.FROM]!];
  c.targetState = NONE;
  handOff(thread, c, Action.HandOff);
}

/** Carries out what the handler asked for. False: there is something to do before it is gone. */
function leave(thread: StageThread, c: Connection): boolean {
  const { action } = c;
  c.action = Action.None;
  if (action === Action.HandOff || action === Action.Reply) {
    handOff(thread, c, action);
    return true;
  }
  if (c.chunk !== NO_CHUNK) {
    thread.release(c.chunk, c.start);
    c.chunk = NO_CHUNK;
  }
  if ((c.flags & RecordFlag.Closing) !== 0) return true;
  return close(thread, c);
}

/** A task has nothing to wait for: it is closed at once. */
function close(thread: StageThread, c: Connection): boolean {
  const { bytes, words, numbers } = thread.records;
  bytes[c.at + Header.FLAGS] = bytes[c.at + Header.FLAGS]! | RecordFlag.Closing;
  numbers[(c.at + Header.DEADLINE) >>> 3] = 0;
  if (thread.trace !== undefined) thread.note(c, Step.Close, 0, monotonic());
  const handle = handleAt(words, (c.at + Header.HANDLE) >>> 2);
  c.todo = 0;
  if (handle === 0) {
    c.todo = Todo.Event;
    c.event = Event.Closed;
    return false;
  }
  // A close cancels what is in flight, sends among it. Where receiving has failed there is no peer.
  const goesOut = (c.flags & RecordFlag.Sent) !== 0 && (c.flags & RecordFlag.Broken) === 0;
  if (!goesOut || thread.closing) {
    closeForGood(thread, c);
  } else {
    thread.portThread.submissions.shutdown(handle, SubmissionFlag.Stall, FAREWELL);
    if ((c.flags & NOT_TO_COME) === 0) discardMore(thread, c);
  }
  return true;
}

/** With one of these there is nothing to be received before a close. */
const NOT_TO_COME = RecordFlag.Receiving | RecordFlag.Broken | RecordFlag.Ended;

/**
 * Closing a socket with bytes that were not received, or that come later, resets the connection, and
 * the peer may lose what it was sent last: so what it still sends is received, to be thrown away.
 */
export function discardMore(thread: StageThread, c: Connection): void {
  const { bytes } = thread.records;
  bytes[c.at + Header.FLAGS] = c.flags | RecordFlag.Receiving;
  thread.portThread.submissions.receive(c.handleId, 0);
}

/**
 * All that was sent is with the kernel, and the end of it: the peer may end its side, too. Of a named
 * pipe the close is what tells it, and takes nothing away from it.
 */
export function linger(thread: StageThread, c: Connection): void {
  thread.records.bytes[c.at + Header.FLAGS] = c.flags & ~RecordFlag.Sent;
  const hears = process.platform !== 'win32' || thread.native.handleInfo(c.handleId)?.halfCloses;
  const over = (c.flags & (RecordFlag.Ended | RecordFlag.Broken)) !== 0;
  if (over || !hears) return closeForGood(thread, c);
  setDeadline(thread, c, monotonic() + LINGER);
}

/** The peer takes nothing any more: it is not to believe that it has got all. */
export function giveUp(thread: StageThread, c: Connection): void {
  thread.fail(c, 'close', timedOut('shutdown', {}));
  thread.native.setOption(c.handleId, SocketOption.Linger, 1);
  closeForGood(thread, c);
}

export function closeForGood(thread: StageThread, c: Connection): void {
  const { bytes, numbers } = thread.records;
  bytes[c.at + Header.FLAGS] = c.flags | RecordFlag.Broken;
  numbers[(c.at + Header.DEADLINE) >>> 3] = 0;
  submitClose(thread, c.handleId);
}

/** Its answer is the connection's last packet (rule O5). */
export function submitClose(thread: StageThread, handle: number): void {
  thread.portThread.handles.get(handle)?.gone();
  thread.portThread.submissions.close(handle, 0);
}

/**
 * The record says where it goes; native code sets PORT with the hand-off itself. Until then the
 * thread leaves packets of the key alone: lib/stage/run/runner.ts.
 *
 * What called for `entered`, `handedOff` or `failed` first, and was not told itself when one of these
 * sent the connection on, is for the next stage: received bytes, which would be a gap in the stream,
 * and a message.
 */
function handOff(thread: StageThread, c: Connection, action: Action.HandOff | Action.Reply): void {
  const { bytes, words, numbers } = thread.records;
  const target = c.target!;
  const handle = handleAt(words, (c.at + Header.HANDLE) >>> 2);
  // The next stage wants to know of the end, too.
  bytes[c.at + Header.FLAGS] = bytes[c.at + Header.FLAGS]! & ~RecordFlag.EndTold;
  bytes[c.at + Header.FROM] = thread.stage.index;
  bytes[c.at + Header.STAGE] = target.index;
  bytes[c.at + Header.STATE] = c.targetState | IN_TRANSIT;
  numbers[(c.at + Header.DEADLINE) >>> 3] = 0;
  const time = (numbers[(c.at + Header.SINCE) >>> 3] = monotonic());
  // What a reply is was noted when it was given.
  if (thread.trace !== undefined && action === Action.HandOff) {
    thread.note(c, Step.HandOff, documentLength(thread, c), time);
  }
  thread.dropLocal(c.recordKey);
  letHeldGo(thread, c);
  if (handle !== 0) thread.portThread.handles.get(handle)?.gone();
  thread.count(Counter.HandedOff);
  if (handedOff.hasSubscribers) {
    handedOff.publish({ stage: thread.stage.name, key: c.recordKey, to: target.name });
  }
  if (c.chunk !== NO_CHUNK) unwanted(thread, c);
  thread.submitHandOff(c.recordKey, handle, target.port);
  if ((c.todo & Todo.Event) !== 0 && c.event === Event.Posted) {
    thread.forward(c.recordKey, c.value, target.port);
  }
  if ((c.todo & Todo.Event) !== 0 && c.event === Event.Message) {
    thread.forwardBytes(c.recordKey, c.message!, target.port);
  }
}

/** The last event is over. */
function forget(thread: StageThread, c: Connection): void {
  thread.dropLocal(c.recordKey);
  thread.count(Counter.Closed);
  if (closed.hasSubscribers) closed.publish({ stage: thread.stage.name, key: c.recordKey });
  thread.releaseRecord(c.recordKey);
}

/** A connection, or task, that has come to this stage: its events begin. */
export function begin(thread: StageThread, c: Connection): void {
  const { bytes, numbers } = thread.records;
  const { machine } = thread;
  const state = bytes[c.at + Header.STATE]!;
  c.now =
    state === NONE ? machine.initial : (machine.states[state & ~IN_TRANSIT] ?? machine.initial);
  bytes[c.at + Header.STAGE] = thread.stage.index;
  bytes[c.at + Header.STATE] = c.now.index;
  numbers[(c.at + Header.SINCE) >>> 3] = monotonic();
  thread.count(Counter.Arrived);
  if (arrived.hasSubscribers) {
    arrived.publish({ stage: thread.stage.name, key: c.recordKey, from: nameOfOrigin(thread, c) });
  }
  if ((bytes[c.at + Header.FLAGS]! & RecordFlag.HasDocument) !== 0) beginDocument(thread, c);
  c.brought = thread.stages[bytes[c.at + Header.FROM]!]?.native === true;
  if (!isVisiting(thread, c)) {
    if (c.now.entered !== undefined) c.todo |= Todo.Entered;
    else if (thread.trace !== undefined) noteEntered(thread, c);
    if (bytes[c.at + Header.FROM] !== NONE && c.now.handedOff !== undefined)
      c.todo |= Todo.HandedOff;
  }
  if (machine.local !== undefined) makeLocal(thread, c);
}

function beginDocument(thread: StageThread, c: Connection): void {
  thread.count(Counter.Documents);
  giveTurnBack(thread, c);
}

/** Others wait until the document is begun. A thread that dies in between leaves that to `abandoned`. */
export function giveTurnBack(thread: StageThread, c: Connection): void {
  const { bytes } = thread.records;
  if (bytes[c.at + Header.TAKES_TURN] === 0) return;
  thread.native.documentBegun(c.recordKey);
  bytes[c.at + Header.TAKES_TURN] = 0;
}

/** What follows in the same packet is later than its beginning. */
function noteEntered(thread: StageThread, c: Connection): void {
  c.calls = thread.callsFrom + 1;
  thread.note(c, Event.Entered, 0, timeOf(thread, c, Event.Entered));
}

/** Makes `c.local`, in a thread that has none for this connection yet. */
export function makeLocal(thread: StageThread, c: Connection): void {
  try {
    thread.localOf(c);
  } catch (error) {
    fail(thread, c, 'local', asError(error));
  }
}
