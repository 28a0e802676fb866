/**
 * Messages that this thread posts: a ring in shared memory. Threads that take packets fetch them
 * from there; native code is called only when one of them is idle, and once in a while for room.
 */
import { Idle, Posts as Ring, type NativeThread } from '../native/binding';

export class Posts {
  private readonly native: NativeThread;
  /** Room is asked for: native code is to be called at the end of this turn. */
  private readonly onAsked: () => void;
  private readonly keys: Int32Array;
  private readonly values: Float64Array;
  private readonly sharedTail: Int32Array;
  private readonly idle: Int32Array;
  private tail = 0;
  /** Messages that may be written before room has to be asked for again (rule Q2). */
  private room = 0;

  constructor(native: NativeThread, onAsked: () => void) {
    this.native = native;
    this.onAsked = onAsked;
    this.keys = new Int32Array(native.posts);
    this.values = new Float64Array(native.posts);
    this.sharedTail = new Int32Array(native.postsTail);
    this.idle = new Int32Array(native.idle);
  }

  /** False when the queue is full (rule Q2). */
  post(key: number, value: number): boolean {
    if (this.room === 0 && !this.askForRoom()) return false;
    this.room--;
    const { tail } = this;
    const at = (tail & (Ring.CAPACITY - 1)) * Ring.SIZE;
    this.keys[at / 4] = key;
    this.values[(at + Ring.VALUE) / 8] = value;
    // From here on the message is posted, also if this thread is terminated now. The order of these
    // two makes sure that no thread falls asleep over it: see native/port/dispatcher.h.
    Atomics.store(this.sharedTail, 0, (this.tail = (tail + 1) | 0));
    const idle = Atomics.load(this.idle, 0) as Idle;
    if (idle !== Idle.Nobody) this.tell(idle);
    return true;
  }

  /** Native code is called: what is left of the room goes back with that. */
  giveRoomBack(): void {
    this.room = 0;
  }

  private tell(idle: Idle): void {
    if (idle === Idle.Asleep) this.native.acceptPosts();
    else if (idle === Idle.Spins) Atomics.compareExchange(this.idle, 0, Idle.Spins, Idle.Told);
  }

  /** What is left of it goes back with the next call, at the end of this turn at the latest. */
  private askForRoom(): boolean {
    this.onAsked();
    this.room = Math.max(0, this.native.reserve(Ring.CAPACITY));
    return this.room > 0;
  }
}
