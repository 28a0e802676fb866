/**
 * This thread's part of a port: the arrays it shares with native code, the operations it awaits,
 * what it has in memory, and when it calls native code.
 *
 * Submissions gather in an array and go out with one call, at the end of the current turn of
 * microtasks; the same call brings back what has completed.
 */
import { AsyncResource } from 'node:async_hooks';
import { inspect } from 'node:util';
import type { CompletionPort } from '../api';
import type { NativeThread } from '../native/binding';
import { invalidState, portClosed, queueFull } from '../support/errors';
import { invalidType } from '../support/validate';
import { checksHandles } from '../support/forgotten';
import { now } from '../support/timers';
import { Unheard } from '../support/warnings';
import { Awaited, type Entry } from './awaited';
import { FollowedHandles, Handles, type ThreadHandle } from './handle-table';
import { KeepAlive } from './keep-alive';
import { Memory } from './memory';
import { Outgoing } from './outgoing';
import { Posts, type Content } from './posts';
import { Submissions } from './submissions';
import { Turns } from './turns';

export type { Entry };

/** Whoever takes this thread's keyed packets on the event loop. */
export interface PacketTaker {
  /** How many packets it wants now. */
  wanted(): number;
  /** Packets `0` to `count` of the completion array are there, awaited ones among them. */
  take(count: number): void;
  /** The port is gone; `here`: because this thread has closed or left it. */
  ended(error: Error, here: boolean): void;
}

/** The keyed packets of one call to native code, as the program goes through them: lib/packets/batch.ts. */
export interface HeldBatch {
  /** Whether a packet is being handled or others are waiting to be. */
  readonly active: boolean;
  /** Whether a turn ended in the middle of a packet. */
  readonly heldInTurn: boolean;
  /** The handle whose received bytes the packet at hand holds; 0: none. */
  readonly feeder: number;
  /** `count` packets have come; false when there is none for this thread. */
  begin(count: number, inTurn: boolean): boolean;
  /** Ends the current packet. */
  finish(): void;
  /** Native code is about to reuse the array. */
  interrupt(): void;
  /** Gives back what was not given out yet. */
  drop(): void;
}

export class PortThread {
  readonly port: CompletionPort;
  readonly native: NativeThread;
  readonly memory: Memory;
  /** What this thread's sockets have to send. */
  readonly outgoing: Outgoing;
  /** The completion array. */
  readonly words: Uint32Array;
  readonly states: Int32Array;
  readonly numbers: Float64Array;
  readonly batch: HeldBatch;
  /** Handles this thread has an object for. */
  readonly handles: Handles = checksHandles ? new FollowedHandles() : new Handles();
  /** What else of this thread ends with its part of the port. */
  readonly followers = new Set<{ gone(here: boolean): void }>();
  closed = false;
  /** It is closed because this thread has closed, or left, the port. */
  left = false;
  /** `port.close()` is under way. */
  closing = false;
  consumer: PacketTaker | undefined = undefined;
  /** Whether any of its handles keeps the asynchronous context it was opened in. */
  keepsContexts = false;

  readonly awaited: Awaited;
  readonly submissions: Submissions;
  private readonly posts: Posts;
  private readonly turns: Turns;
  private readonly keepAlive: KeepAlive;
  private readonly unheard = new Unheard();
  private readonly onDown: () => void;
  private readonly context = new AsyncResource('CompletionPort', {
    requireManualDestroy: true,
  });

  /** `affine`: what its handles bring is for this thread alone. */
  constructor(
    port: CompletionPort,
    native: NativeThread,
    affine: boolean,
    batchFor: (thread: PortThread) => HeldBatch,
    onDown: () => void,
  ) {
    this.port = port;
    this.native = native;
    this.onDown = onDown;
    const { completions } = native;
    this.words = new Uint32Array(completions);
    this.states = new Int32Array(completions);
    this.numbers = new Float64Array(completions);
    this.memory = new Memory(this);
    this.outgoing = new Outgoing(native);
    this.turns = new Turns(this);
    this.keepAlive = new KeepAlive(this, affine);
    this.awaited = new Awaited(completions, () => native.closeAnnounced());
    const schedule = (): void => this.turns.schedule();
    const { memory, outgoing, awaited } = this;
    this.submissions = new Submissions(native, memory, outgoing, awaited, schedule);
    this.posts = new Posts(native, memory, () => {
      this.turns.schedule();
      this.keepAlive.watchMessages();
    });
    this.batch = batchFor(this);
  }

  // ---- submitting

  /** A token for an operation this thread awaits. */
  add(entry: Entry): number {
    return this.awaited.add(entry);
  }

  /** Takes back the token of an operation that could not be submitted. */
  remove(token: number): void {
    this.awaited.remove(token);
  }

  /** Posts a message; false when the queue is full (rule Q2), or the port is closed. */
  post(key: number, value: number): boolean {
    return this.posts.post(key, value);
  }

  /** The same of bytes, or any other value. */
  postMessage(key: number, message: unknown): boolean {
    return typeof message === 'number'
      ? this.posts.post(key, message)
      : this.posts.postMessage(key, message);
  }

  /** A message for `publish`, as it is now. Of bytes a look at them: they are copied by `publish`. */
  contentOf(message: unknown): Content {
    if (message === undefined) throw invalidType('message', 'a message', message);
    return this.posts.contentOf(message, 'publish()');
  }

  /** The same for many keys, of a port: for all of them or none. */
  publish(keys: Uint32Array, portId: number, content: Content): boolean {
    this.keepAlive.watchMessages();
    return this.posts.publish(keys, portId, content);
  }

  /** Why a message was not posted, where that is another reason than a queue that is full. */
  assertPostable(): void {
    if (this.posts.closed) throw portClosed();
  }

  /** The same, of one that was not. */
  refusal(): Error {
    return this.posts.closed ? portClosed() : queueFull();
  }

  /** Asks for an early end of an operation this thread awaits. */
  cancel(token: number): void {
    this.submissions.cancel(token);
  }

  /** Before a native function that must not overtake what was submitted earlier. */
  flush(): void {
    this.submissions.flush();
  }

  /** Releases pool memory after what was submitted before, which keeps what it uses (rule O2). */
  release(chunk: number, start: number): void {
    this.submissions.release(chunk, start);
  }

  /** Calls native code soon: at the end of the current turn of microtasks. */
  schedule(): void {
    this.turns.schedule();
  }

  /** Somebody waits for room in the queue. */
  waitsForRoom(): void {
    this.keepAlive.watchMessages();
    this.turns.schedule();
  }

  // ---- taking

  /**
   * Waits for packets without the event loop. False when `timeout` milliseconds passed first.
   * `alone`: no other thread can know of the port; then it throws where it would wait for ever
   * (rule D12).
   */
  get(max: number, timeout: number, alone: boolean): boolean {
    if (this.turns.driving || this.awaited.settling || this.submissions.chaining)
      throw invalidState('get() is not possible here');
    // What comes would go to the consumer, who has no turn as long as this waits.
    if (this.consumer !== undefined) throw takenAlready(this.consumer);
    const endless = alone && timeout === Infinity;
    if (endless && this.nothingCanCome()) throw waitsForEver();
    this.keepAlive.takesPackets(true);
    // If the program goes back to its event loop, that has to hear of completions again.
    this.schedule();
    const deadline = timeout === Infinity ? Infinity : now() + timeout;
    for (let left = timeout; ; left = Math.max(0, deadline - now())) {
      this.batch.finish();
      this.unheard.look();
      const count = this.submissions.handOver();
      this.posts.giveRoomBack();
      const wait = Math.min(left, this.unheard.patience);
      const got = this.native.get(count, max, wait);
      if (got < 0) throw this.down();
      if (got > 0) {
        const settled = this.awaited.settle(got);
        if (this.awaited.results > 0) this.unheard.add(this.awaited.results);
        if (this.batch.begin(got, true)) return true;
        // What awaited it goes on in the event loop alone, and so begins nothing here.
        if (endless && settled > 0 && this.nothingCanCome()) throw waitsForEver();
      }
      if (left === 0) return false;
    }
  }

  /**
   * Whether there is nothing that could bring a packet to this thread by itself: no handle with a
   * key, no operation that may open one, no message, no other thread.
   */
  private nothingCanCome(): boolean {
    if (this.submissions.count > 0 || this.batch.active || this.awaited.any) return false;
    for (const handle of this.handles) if (handle.style === 'packet') return false;
    const { handles, queueDepth, threads } = this.native.stats();
    return handles <= this.handles.size && queueDepth === 0 && threads === 1;
  }

  // ---- staying alive (rule T3)

  setConsumer(consumer: PacketTaker | undefined): void {
    this.consumer = consumer;
    this.keepAlive.takesPackets(consumer !== undefined);
    if (consumer) this.schedule();
  }

  /** Something that keeps the process alive came (1) or went (-1). */
  hold(by: 1 | -1): void {
    this.keepAlive.hold(by);
  }

  /** Whether anything keeps the process alive: for the ports of a pipeline. */
  holdAtAll(holds: boolean): void {
    this.keepAlive.holdAtAll(holds);
  }

  get heldByConsumer(): boolean {
    return this.keepAlive.heldByConsumer;
  }

  /** Whether a consumer keeps the process alive. */
  holdByConsumer(holds: boolean): void {
    this.keepAlive.holdByConsumer(holds);
  }

  /** The port's packets are for threads of the library, which replaces those that die. */
  leaveToOthers(): void {
    this.keepAlive.leaveToOthers();
  }

  /** A keyed handle that keeps the process alive: its end may be seen by another thread only. */
  watch(handle: ThreadHandle): void {
    this.keepAlive.watch(handle);
  }

  unwatch(handle: ThreadHandle): void {
    this.keepAlive.unwatch(handle);
  }

  /** Forgets the objects of handles that are gone. */
  sweep(): void {
    this.keepAlive.sweep();
  }

  // ---- ending

  /**
   * The port is closed, or this thread leaves it: everything that waits fails. `here`: this thread's
   * own doing, whose loops end.
   */
  down(here = false): Error {
    if (this.closed) return portClosed();
    // Nobody can give it back any more, and what is there is another's, or nothing (rule M2).
    this.memory.revokeAll();
    this.closed = true;
    this.left = here;
    this.submissions.count = 0;
    this.posts.leave();
    this.batch.drop();
    this.awaited.end();
    this.stopConsumer(here);
    for (const handle of this.handles) handle.gone();
    for (const follower of this.followers) follower.gone(here);
    this.keepAlive.end();
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

  // ---- for its parts

  /** The program has packets to go through. */
  get busy(): boolean {
    return this.batch.active;
  }

  get submits(): boolean {
    return this.submissions.count > 0;
  }

  get heldInTurn(): boolean {
    return this.batch.heldInTurn;
  }

  get referenced(): boolean {
    return this.keepAlive.referenced;
  }

  get started(): boolean {
    return this.turns.started;
  }

  start(): void {
    this.turns.start();
  }

  /** Calls native code. The number of packets that came; negative: the port is closed. */
  enter(): number {
    const max = this.consumer === undefined ? 0 : this.consumer.wanted();
    if (this.batch.active) this.batch.interrupt();
    const count = this.submissions.handOver();
    this.posts.giveRoomBack();
    return this.native.enter(count, max);
  }

  settleAwaited(count: number): number {
    return this.awaited.settle(count);
  }

  /** Not in the asynchronous context of whichever operation made this thread call native code. */
  consume(got: number): void {
    if (this.consumer !== undefined) {
      this.context.runInAsyncScope(takeFor, undefined, this.consumer, got);
    }
  }
}

function waitsForEver(): Error {
  return invalidState(
    'get() would wait for ever: the port has no handle with a key, no message, no operation under ' +
      'way and no other thread. Give it a timeout, or begin something first; what awaits goes on ' +
      'in the event loop alone',
  );
}

function takeFor(consumer: PacketTaker, count: number): void {
  consumer.take(count);
}

export function takenAlready(consumer: PacketTaker): Error {
  return invalidState(`This thread takes packets already: ${inspect(consumer, { depth: -1 })}`);
}
