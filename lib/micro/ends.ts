/**
 * The ends that this thread has of channels between threads, and what waits at them.
 *
 * Native code holds the queue (native/port/shared_queue.h): it calls back with the ticket of a put or
 * a take that is over, and what became of it is asked for then. So whatever this thread has not asked
 * for when it ends is not lost, but another's.
 */
import { binding, ItemPart, type NativeChannels } from '../native/binding';
import { Area } from '../support/codec';
import { portClosed } from '../support/errors';
import type { PortThread } from '../thread/port-thread';

/** Tickets are the numbers below that. */
const TICKETS = 2 ** 32;

/** A put or a take that native code tells of. */
export interface Expectant {
  readonly membership: Membership;
  /** It is over: native code knows how. */
  told(): void;
  /** It never will be. `ended`: the thread itself has closed the port, or left it. */
  cut(error: Error, ended: boolean): void;
}

/** An item on its way to native code or from there, as ItemPart has it. */
export const item = new Float64Array(ItemPart.PARTS);
/** Bytes of an item that is taken, where they are few: a call that says they were read costs more. */
export const small = new Area(Buffer.from(new ArrayBuffer(1024)));

let made: NativeChannels | undefined;
let last = 0;
const expectants = new Map<number, Expectant>();

/** Made when the first channel of the thread is. */
export function channels(): NativeChannels {
  return (made ??= binding.channels(told, item, small.bytes));
}

function told(ticket: number): void {
  expectants.get(ticket)?.told();
}

/** The number of the next put or take. */
export function newTicket(): number {
  do last = (last + 1) % TICKETS;
  while (expectants.has(last));
  return last;
}

export function expect(ticket: number, expectant: Expectant): void {
  expectants.set(ticket, expectant);
  expectant.membership.count(1);
}

export function forget(ticket: number): void {
  const expectant = expectants.get(ticket);
  if (expectants.delete(ticket)) expectant!.membership.count(-1);
}

/** A channel that this thread has made. */
export interface Kept {
  /** Whether nobody can put into it or take from it any more. */
  readonly over: boolean;
}

const kept = new Set<Membership>();
/** So many that the next look at all of them is due. */
let lookAt = 16;

/** Others may attach to it, though nobody here has the object any more. */
export function keep(membership: Membership, channel: Kept): void {
  membership.keeps = channel;
  kept.add(membership);
  if (kept.size < lookAt) return;
  for (const one of kept) if (one.keeps!.over) one.letGo();
  lookAt = 2 * kept.size + 16;
}

/** That this thread has a channel. It ends with the object of the channel, or the port. */
export class Membership {
  /** Its object, where it may not be collected. */
  keeps: Kept | undefined = undefined;
  readonly id: number;
  readonly thread: PortThread;
  private over = false;
  private referenced = true;
  /** Whether it keeps the process alive, as a pending operation of the port does. */
  private holds = false;
  private waiting = 0;

  /** `id`: native code has counted the thread in. */
  constructor(id: number, thread: PortThread) {
    this.id = id;
    this.thread = thread;
    thread.followers.add(this);
    // A thread that has never called native code is not told when another one closes the port.
    thread.schedule();
  }

  /** So many more puts and takes wait. */
  count(by: 1 | -1): void {
    this.waiting += by;
    this.reconcile();
  }

  /** Whether what waits keeps the process alive. */
  get reference(): boolean {
    return this.referenced;
  }

  set reference(wanted: boolean) {
    this.referenced = wanted;
    this.reconcile();
  }

  /** The port is closed, or the thread leaves it. */
  gone(here: boolean): void {
    for (const [ticket, expectant] of expectants) {
      if (expectant.membership !== this) continue;
      forget(ticket);
      expectant.cut(portClosed(), here);
    }
    this.quit();
  }

  /** What is in the channel goes back to the pool with the last thread that has it. */
  quit(): void {
    if (this.over) return;
    this.over = true;
    this.letGo();
    this.thread.followers.delete(this);
    channels().quit(this.id);
  }

  /** The object may be collected, and ends this with it. */
  letGo(): void {
    kept.delete(this);
    this.keeps = undefined;
  }

  private reconcile(): void {
    const wanted = this.referenced && this.waiting > 0;
    if (wanted === this.holds) return;
    this.holds = wanted;
    this.thread.hold(wanted ? 1 : -1);
  }
}
