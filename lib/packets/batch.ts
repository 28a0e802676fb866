/**
 * The keyed packets of one call to native code, given out one after another.
 *
 * A packet is claimed when it is given out, not before: until then another thread that idles may
 * take it (rule D5). It is marked done when the next one is claimed, so that a thread that dies
 * abandons only the key it was at (rule T1).
 */
import { Slot, PacketFlag, PacketState } from '../native/layout';
import { checks } from '../support/checks';
import type { HeldBatch, PortThread } from '../thread/port-thread';
import { Packet } from './packet';

const SLOT_WORDS = Slot.SIZE / 4;
/** In the word that begins with the kind. */
const AWAITED = PacketFlag.Awaited << ((Slot.FLAGS - Slot.KIND) * 8);

/**
 * Objects that packets which are handled in turn share: a program that keeps one beyond its time
 * finds it without a packet, and not with the next one's, so that the mistake is loud. A prime: with
 * 64 of them what was kept of a batch of 64 was at hand again in the next one, at the same place. An
 * object for each packet tells always, and costs half as much again as all else of a message: that is
 * for `COMPLETION_PORT_CHECK=memory`.
 */
const OBJECTS = 61;
const tellsAlways = checks('memory');

export class Batch implements HeldBatch, IterableIterator<Packet> {
  /** The packet at hand, or the last one. */
  packet: Packet;
  readonly thread: PortThread;
  private readonly objects: readonly Packet[];
  private object = 0;
  private readonly result: { done: false; value: Packet };
  private index = 0;
  private end = 0;
  private current = -1;
  private primed = false;
  private inTurn = false;
  /** Whether native code was called while the program still held a packet of the last batch. */
  interrupted = false;

  constructor(thread: PortThread) {
    this.thread = thread;
    this.objects = Array.from({ length: OBJECTS }, () => new Packet(thread));
    this.packet = this.objects[0]!;
    this.result = { done: false, value: this.packet };
  }

  get feeder(): number {
    return this.packet.feeder;
  }

  /** Whether a packet is being handled or others are waiting to be. */
  get active(): boolean {
    return this.current >= 0 || this.index < this.end;
  }

  /**
   * `count` packets have come; claims the first. False when there is none for this thread.
   * `inTurn`: the program means to handle them without awaiting anything; else each packet has an
   * object of its own.
   */
  begin(count: number, inTurn: boolean): boolean {
    this.inTurn = inTurn;
    this.index = 0;
    this.end = count;
    this.interrupted = false;
    this.primed = this.advance();
    return this.primed;
  }

  /** Whether a turn ended in the middle of a packet: by an exception, if not by a `break`. */
  get heldInTurn(): boolean {
    return this.inTurn && this.current >= 0;
  }

  /** The first packet was given out otherwise than by `next`. */
  unprime(): void {
    this.primed = false;
  }

  /** Ends the current packet and claims the next. */
  advance(): boolean {
    this.leave();
    const { words, states } = this.thread;
    while (this.index < this.end) {
      const i = this.index++;
      const at = i * SLOT_WORDS;
      if ((words[at + Slot.KIND / 4]! & AWAITED) !== 0) continue;
      const before = Atomics.compareExchange(
        states,
        at,
        PacketState.Ready,
        PacketState.Claimed,
      ) as PacketState;
      if (before !== PacketState.Ready) continue;
      this.current = at;
      this.show(at);
      return true;
    }
    return false;
  }

  /** Ends the current packet. */
  finish(): void {
    this.leave();
  }

  private show(at: number): void {
    if (this.inTurn && !tellsAlways) {
      this.object = this.object === OBJECTS - 1 ? 0 : this.object + 1;
      this.packet = this.objects[this.object]!;
    } else {
      this.packet = new Packet(this.thread);
    }
    this.packet.enter(at);
  }

  private leave(): void {
    this.primed = false;
    this.packet.leave();
    if (this.current < 0) return;
    this.thread.states[this.current] = PacketState.Done;
    this.current = -1;
  }

  /**
   * Native code is about to reuse the array while the program still holds a packet: that packet is
   * copied, and what was not given out yet goes back to the queue.
   */
  interrupt(): void {
    if (this.current >= 0) this.packet.copyOut();
    this.current = -1;
    this.interrupted = this.index < this.end;
    this.index = this.end = 0;
  }

  /** Gives back what was not given out yet. */
  drop(): void {
    this.finish();
    this.index = this.end = 0;
  }

  next(): IteratorResult<Packet, undefined> {
    if (this.primed) {
      this.primed = false;
    } else if (!this.advance()) {
      return { done: true, value: undefined };
    }
    this.result.value = this.packet;
    return this.result;
  }

  return(): IteratorResult<Packet, undefined> {
    return { done: true, value: undefined };
  }

  [Symbol.iterator](): this {
    return this;
  }
}
