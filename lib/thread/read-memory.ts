/**
 * Memory for reads of files whose bytes are the program's when they end. At the memory limit they
 * wait in the order they came, and one at a time goes beyond it: what that takes comes back as soon
 * as the kernel has read, whatever the program does. So no read waits for what others keep, a client
 * that does not read least of all (rule M7), and beyond the limit lies one read for each thread.
 */
import { LibraryError } from '../native/layout';
import { ECANCELED } from '../support/errno';
import { Alarm, now } from '../support/timers';

/** A read that waits for its memory. */
export interface WaitingRead {
  readonly file: object;
  readonly bytes: number;
  /**
   * `memory` took it last. `beyond` the limit: `over` is to be called when it was given back, which
   * only the kernel may delay. `timeout`: what is left of it; 0: none.
   */
  begin(beyond: boolean, timeout: number): void;
  /** It was not begun, and will not be. */
  ended(error: number): void;
}

/** The port's memory, as reads see it: lib/thread/memory.ts. */
interface Source {
  take(size: number, beyond?: boolean): boolean;
  mayEverTake(size: number): boolean;
  readonly thread: { readonly closed: boolean };
}

interface Limit {
  readonly deadline: number;
  readonly alarm: Alarm;
}

export class ReadMemory {
  private readonly memory: Source;
  /** In the order they came. */
  private readonly waiting = new Map<WaitingRead, Limit | undefined>();
  /** Whether one has gone beyond the limit. While any waits, one has. */
  private beyond = false;

  constructor(memory: Source) {
    this.memory = memory;
  }

  /** Takes `bytes` now; false where others wait, or the limit is reached. */
  take(bytes: number): boolean {
    return this.waiting.size === 0 && this.memory.take(bytes);
  }

  /** Begins it as soon as there is memory, which may be now. */
  wait(read: WaitingRead, timeout: number): void {
    if (!this.memory.mayEverTake(read.bytes)) {
      read.ended(LibraryError.OutOfBuffers);
      return;
    }
    this.waiting.set(read, undefined);
    this.beginSome();
    if (timeout === 0 || !this.waiting.has(read)) return;
    const alarm = new Alarm(timeout, () => this.end(read, LibraryError.TimedOut));
    this.waiting.set(read, { deadline: now() + timeout, alarm });
  }

  /** It does not wait any more, if it did. */
  leave(read: WaitingRead): void {
    this.waiting.get(read)?.alarm.cancel();
    this.waiting.delete(read);
  }

  /** What is in flight of a file is cancelled. */
  cancel(file: object): void {
    if (this.waiting.size === 0) return;
    const error = this.memory.thread.closed ? LibraryError.PortClosed : ECANCELED;
    for (const read of [...this.waiting.keys()]) if (read.file === file) this.end(read, error);
  }

  /** What had gone beyond the limit was given back. */
  over(): void {
    this.beyond = false;
    this.beginSome();
  }

  private beginSome(): void {
    if (this.memory.thread.closed) return;
    for (const [read, limit] of this.waiting) {
      const within = this.memory.take(read.bytes);
      if (!within && this.beyond) return;
      if (!within && !this.memory.take(read.bytes, true)) {
        this.end(read, LibraryError.OutOfBuffers); // the system has none
        continue;
      }
      if (!within) this.beyond = true;
      this.leave(read);
      const left = limit === undefined ? 0 : Math.max(1, Math.ceil(limit.deadline - now()));
      read.begin(!within, left);
    }
  }

  private end(read: WaitingRead, error: number): void {
    this.leave(read);
    read.ended(error);
  }
}
