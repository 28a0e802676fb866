/**
 * A thread of a pool: takes tasks from the port, blocked there while there are none, runs them, and
 * answers. Started by lib/cpu/seat.ts.
 */
import { receiveMessageOnPort, workerData, type MessagePort } from 'node:worker_threads';
import type { PortThread } from '../thread/port-thread';
import { CompletionPort } from '../port';
import type { PortToken } from '../api';
import { monotonic } from '../support/clock';
import { now, setImmediate } from '../support/timers';
import {
  asTheyAre,
  canClone,
  cannotClone,
  Form,
  freeze,
  move,
  revive,
  type Frozen,
  type Moved,
  type ToMove,
} from '../support/codec';
import { toThrown } from '../support/thrown';
import { quiet } from './quiet';
import {
  Answer,
  ANSWERS,
  FAILED,
  INLINE,
  Leave,
  LARGE,
  LEAVE,
  READY,
  SEATS,
  SERIALIZED,
  Shared,
  Slot,
  State,
  Table,
  Waiting,
} from './table';
import { importTask, type Known } from './tasks';

quiet.worker = true;

/** What a thread is started with. */
export interface Start {
  readonly work: PortToken;
  readonly answers: PortToken;
  readonly seat: number;
  /** Where the table is. */
  readonly chunk: number;
  readonly start: number;
  readonly channel: MessagePort;
  /** Shared. */
  readonly shared: Int32Array;
  readonly tasks: readonly Named[];
}

/** A task of the pool. */
export interface Named {
  readonly module: string;
  readonly name: string;
}

/** From the owner: one more task, or the values that were asked for. */
export type ToWorker = { readonly task: Named } | (Moved & { readonly slot: number });

/** To the owner: what does not fit into the table. */
export interface FromWorker extends Moved {
  readonly slot: number;
  readonly generation: number;
}

/** Packets taken at one time. Others take them away while a task runs. */
const BATCH = 64;
/** A thread that is never idle lets its event loop run after so many milliseconds, */
const BUSY_TURN = 10;
/** an idle one after so many, and as often as long as something is open in it. */
const IDLE_TURN = 2;
const IDLE_TURNS = 10;

/** A thread that waits for values looks for so many milliseconds before it sleeps. */
const SPIN = 0.05;

const { seat, channel, shared, tasks: named, ...start } = workerData as Start;
const work = CompletionPort.attach(start.work);
const answers = CompletionPort.attach(start.answers);
const portThread: PortThread = work.thread;
const table = new Table(portThread.memory, start.chunk, start.start);
const { words, numbers } = table;
/** Packets of it come to this thread alone. */
const ownKey = SEATS + seat;
const names: Named[] = [...named];
const known: (Known | undefined)[] = [];
/** Values that came before they were looked for. */
const arrived = new Map<number, Moved>();
let leaving = false;

/**
 * Tells the owner, unless it looks by itself. Who stops looking says so, and then looks once more: one
 * of both sees the other.
 */
function answer(slot: number, what: Answer): void {
  if (what !== Answer.Freed && Atomics.load(words, table.watched) !== 0) return;
  answers.post(slot, (words[(table.at(slot) + Slot.GENERATION) >> 2]! >>> 0) * ANSWERS + what);
}

/**
 * Takes what is in the channel. In a thread that is about to be ended Node.js gives messages without
 * what was in them: with what such a thread makes of that, no task may end.
 */
function drain(): void {
  for (;;) {
    const received = receiveMessageOnPort(channel);
    if (received === undefined) return;
    const message = received.message as ToWorker | undefined;
    if (message === undefined) doomed();
    if ('task' in message) names.push(message.task);
    else arrived.set(message.slot, message);
  }
}

/** What is to be transferred was sent to this thread, or stays with the owner until it has begun. */
function fetch(slot: number): readonly unknown[] {
  drain();
  if (!arrived.has(slot)) ask(slot);
  const moved = arrived.get(slot)!;
  arrived.delete(slot);
  return revive(moved);
}

/** What was sent is wanted no more: the next task of this place must not find it. */
function forget(slot: number): void {
  drain();
  arrived.delete(slot);
}

function ask(slot: number): void {
  Atomics.store(words, (table.at(slot) + Slot.ASKS) >> 2, seat + 1);
  answer(slot, Answer.Fetch);
  for (const deadline = now() + SPIN; ;) {
    const seen = Atomics.load(shared, Shared.POSTED);
    drain();
    if (arrived.has(slot)) return;
    while (now() < deadline && Atomics.load(shared, Shared.POSTED) === seen);
    if (now() > deadline) Atomics.wait(shared, Shared.POSTED, seen);
  }
}

/** The place is this thread's: runs the task. A promise where it takes a while. */
function run(slot: number): Promise<void> | undefined {
  const at = table.at(slot);
  numbers[(at + Slot.BEGAN) >> 3] = monotonic();
  const number = words[(at + Slot.TASK) >> 2]!;
  const task = known[number];
  if (task === undefined) return importAndRun(slot, number);
  return call(slot, task);
}

async function importAndRun(slot: number, number: number): Promise<void> {
  if (names[number] === undefined) drain();
  const { module, name } = names[number]!;
  try {
    known[number] = await importTask(module, name);
  } catch (error) {
    forget(slot);
    failed(slot, error);
    return;
  }
  await call(slot, known[number]);
}

function call(slot: number, task: Known): Promise<void> | undefined {
  const at = table.at(slot);
  let result: unknown;
  try {
    const form = words[(at + Slot.FORM) >> 2] as Form;
    const values = form === Form.Message ? fetch(slot) : table.read(at);
    result = task.fn.apply(undefined, values as unknown[]);
    if (typeof (result as PromiseLike<unknown> | null | undefined)?.then === 'function') {
      return settle(slot, task, result as PromiseLike<unknown>);
    }
  } catch (error) {
    failed(slot, error);
    return undefined;
  }
  returned(slot, task, result);
  return undefined;
}

async function settle(slot: number, task: Known, promise: PromiseLike<unknown>): Promise<void> {
  let result: unknown;
  try {
    result = await promise;
  } catch (error) {
    failed(slot, error);
    return;
  }
  returned(slot, task, result);
}

function returned(slot: number, task: Known, result: unknown): void {
  try {
    done(slot, freeze([result], asTheyAre), 0);
  } catch (error) {
    failed(slot, cannotClone(error, `The result of task '${task.name}'`));
  }
}

function failed(slot: number, error: unknown): void {
  done(slot, freeze([toThrown(error, canClone)], asTheyAre), FAILED);
}

function done(slot: number, frozen: Frozen, flags: number): void {
  const at = table.at(slot);
  numbers[(at + Slot.ENDED) >> 3] = monotonic();
  const room = Math.max(INLINE, words[(at + Slot.CAPACITY) >> 2]! >>> 0);
  if (frozen.form === Form.Message) post(slot, frozen, flags);
  else if (frozen.form === Form.Plain && frozen.size >= LARGE) post(slot, move(frozen), flags);
  else if (frozen.size <= room) table.write(at, frozen, flags);
  // The block is the owner's, and it has no room for this.
  else if (frozen.form === Form.Plain) post(slot, move(frozen), flags);
  else post(slot, { values: [frozen.bytes], buffers: [], list: [] }, flags | SERIALIZED);
  const running: number = State.Running + seat;
  if (Atomics.compareExchange(words, at >> 2, running, State.Done + seat) !== running) doomed();
  answer(slot, Answer.Done);
}

function post(slot: number, { values, buffers, list }: ToMove, flags: number): void {
  const at = table.at(slot);
  const generation = words[(at + Slot.GENERATION) >> 2]! >>> 0;
  const message: FromWorker = { slot, generation, values, buffers };
  channel.postMessage(message, list as never);
  words[(at + Slot.FORM) >> 2] = Form.Message | flags;
}

/** The thread is about to be ended, and must not begin anything. */
function doomed(): never {
  for (;;) Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);
}

/** The message may be of a thread that has died with it, or of a time when there was less to do. */
function leave(): void {
  const state: Leave = Atomics.compareExchange(
    words,
    table.leave,
    Leave.Anybody,
    Leave.Seat + seat,
  );
  if (state !== Leave.Anybody) return;
  leaving = true;
  answers.post(LEAVE, seat);
}

/** Something is known of a place: looks what is to be done there. */
function step(key: number, value: number | undefined): Promise<void> | undefined {
  if (key === LEAVE) leave();
  else if (key === ownKey) return value === undefined ? undefined : runSent(value);
  else if (key < SEATS) return runQueued(key);
  return undefined;
}

function runQueued(slot: number): Promise<void> | undefined {
  const at = table.at(slot) >> 2;
  const state = Atomics.compareExchange(words, at, State.Queued, State.Running + seat);
  if (state === (State.Queued as number)) return run(slot);
  // A message that a dead thread had taken comes twice, and its place may have another task by now.
  if (state === (State.Cancelled as number)) answer(slot, Answer.Freed);
  return undefined;
}

/** Packets for another thread of this seat, which is dead, may still come: their places are settled. */
function runSent(slot: number): Promise<void> | undefined {
  const at = table.at(slot) >> 2;
  const state = Atomics.compareExchange(words, at, State.Sent + seat, State.Running + seat);
  if (state !== State.Sent + seat && state !== State.Recalled + seat) return undefined;
  Atomics.store(shared, Shared.WAITING, Waiting.Not);
  if (state === State.Sent + seat) return run(slot);
  forget(slot);
  answer(slot, Answer.Freed);
  return undefined;
}

/** Whether a task is on its way to this thread. From here on none is sent before it waits again. */
function awaitsSent(): boolean {
  const was = Atomics.compareExchange(shared, Shared.WAITING, Waiting.Any, Waiting.Not);
  return was === (Waiting.Sent as number);
}

/** Whether there was a packet within so many milliseconds; a promise of a task that is not over. */
function takeBatch(timeout: number): boolean | Promise<void> {
  let some = false;
  Atomics.compareExchange(shared, Shared.WAITING, Waiting.Not, Waiting.Any);
  const packets = work.get(BATCH, timeout);
  let busy = awaitsSent();
  for (const { key, value } of packets) {
    some = true;
    if (busy && key !== ownKey) {
      // Another thread is to take it.
      work.post(key, 0);
      continue;
    }
    const pending = step(key, value);
    // A packet of one's own may be for a thread that had this seat before.
    busy &&= Atomics.load(shared, Shared.WAITING) === (Waiting.Sent as number);
    // What is left of the batch goes to other threads.
    if (pending !== undefined || leaving) {
      portThread.batch.drop();
      return pending ?? true;
    }
    if (now() > turnAt) {
      portThread.batch.drop();
      return true;
    }
  }
  return some;
}

/** When the event loop is to run. */
let turnAt = 0;

/**
 * Timers, promises and output of what tasks have left behind: a thread that blocks in `get` never
 * gets to them. One that nothing is open in sleeps for good.
 */
async function turn(): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  turnAt = now() + BUSY_TURN;
}

const hasOpen = (): boolean => process.getActiveResourcesInfo().length > 0;

async function serve(): Promise<void> {
  portThread.native.pinKey(ownKey, 0, true);
  answers.post(READY, seat);
  let idle = 0;
  while (!leaving) {
    const wait = idle === 0 ? IDLE_TURN : hasOpen() ? IDLE_TURNS : Infinity;
    const taken = takeBatch(wait);
    if (typeof taken === 'object') await taken;
    idle = taken === false ? idle + 1 : 0;
    if (taken === false || now() > turnAt) await turn();
  }
}

serve().catch((error: unknown) => {
  // The pool is closed, or gone with its owner.
  if ((error as { code?: unknown }).code !== 'ERR_PORT_CLOSED') throw error;
});
