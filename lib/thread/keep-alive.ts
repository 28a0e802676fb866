/**
 * What keeps the process alive (rule T3), and handles whose end may be seen by another thread only.
 */
import type { NativeThread } from '../native/binding';
import { clearInterval, setInterval } from '../support/timers';
import { Unattended } from '../support/warnings';
import type { Handles, ThreadHandle } from './handle-table';

/** How often handles that another thread may have closed are looked after, in milliseconds. */
const SWEEP_INTERVAL = 1000;

/** How many looks packets may wait that no thread takes. */
const PATIENCE = 1;
/** Where there are messages alone: those for threads that are just being started, for example. */
const PATIENCE_WITH_MESSAGES = 10;

/** The thread's part of the port: lib/thread/port-thread.ts. */
interface Owner {
  readonly native: NativeThread;
  readonly handles: Handles;
  readonly closed: boolean;
  readonly consumer: object | undefined;
  /** Native code is told of the event loop. */
  start(): void;
  readonly started: boolean;
}

export class KeepAlive {
  private readonly owner: Owner;
  /** What the thread's handles bring is for it alone. */
  private readonly affine: boolean;
  private holds = 0;
  private held = false;
  private consumerHolds = true;
  /** Whether this thread has ever taken packets. */
  private takes = false;
  private readonly foreign = new Set<ThreadHandle>();
  private sweeper: NodeJS.Timeout | undefined = undefined;
  /** Messages were posted, or there was no room for them: are they taken? */
  private messages = false;
  /** Looks whether its packets are taken; undefined where whoever has the port sees to that. */
  private unattended: Unattended | undefined = new Unattended();

  constructor(owner: Owner, affine: boolean) {
    this.owner = owner;
    this.affine = affine;
  }

  /** Whether anything does. */
  get referenced(): boolean {
    return this.held;
  }

  /** Something that keeps the process alive came (1) or went (-1). */
  hold(by: 1 | -1): void {
    this.holds += by;
    this.reconcile();
  }

  /** Whether a consumer keeps the process alive. */
  holdByConsumer(holds: boolean): void {
    this.consumerHolds = holds;
    this.reconcile();
  }

  /** Packets are taken from now on, or not any more. */
  takesPackets(takes: boolean): void {
    this.takes ||= takes;
    this.reconcile();
  }

  /** The port is closed, or this thread has left it. */
  end(): void {
    this.holds = 0;
    this.reconcile();
  }

  /** The port's packets are for threads of the library, which replaces those that die. */
  leaveToOthers(): void {
    this.unattended = undefined;
  }

  /** A keyed handle that keeps the process alive: its end may be seen by another thread only. */
  watch(handle: ThreadHandle): void {
    this.foreign.add(handle);
    this.lookNowAndThen();
  }

  unwatch(handle: ThreadHandle): void {
    this.foreign.delete(handle);
    this.rest();
  }

  /** Messages have been posted, or wait for room. */
  watchMessages(): void {
    if (this.messages || this.unattended === undefined) return;
    this.messages = true;
    this.lookNowAndThen();
  }

  /** Forgets the objects of handles that are gone. */
  sweep(): void {
    const { owner } = this;
    if (owner.closed) return;
    const open = new Set(owner.native.handles());
    for (const handle of owner.handles) {
      if (handle.style === 'packet' && !open.has(handle.id)) handle.gone();
    }
  }

  private lookNowAndThen(): void {
    this.sweeper ??= setInterval(() => this.lookAfter(), SWEEP_INTERVAL).unref();
  }

  private rest(): void {
    if (this.foreign.size > 0 || this.messages) return;
    clearInterval(this.sweeper);
    this.sweeper = undefined;
  }

  private lookAfter(): void {
    const { foreign, owner, unattended } = this;
    if (owner.closed) {
      this.messages = false;
      return this.rest();
    }
    if (foreign.size > 0) this.sweep();
    const patience = foreign.size > 0 ? PATIENCE : PATIENCE_WITH_MESSAGES;
    this.messages = unattended?.look(owner.native, patience) === true;
    if (foreign.size > 0 && this.affine && !this.takes) unattended?.lookAtAffine();
    this.rest();
  }

  private reconcile(): void {
    const { owner } = this;
    const wanted = this.holds > 0 || (owner.consumer !== undefined && this.consumerHolds);
    if (wanted === this.held) return;
    this.held = wanted;
    if (owner.closed) {
      if (!wanted && owner.started) owner.native.unref();
      return;
    }
    if (wanted) {
      owner.start();
      owner.native.ref();
    } else {
      owner.native.unref();
    }
  }
}
