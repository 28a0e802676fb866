/**
 * Memory for reads of files whose bytes are the program's when they end. At the memory limit they
 * wait in the order they came, and one at a time goes beyond it: what that takes comes back as soon
 * as the kernel has read, whatever the program does. So no read waits for what others keep, a client
 * that does not read least of all (rule M7), and beyond the limit lies one read for each thread.
 */
import { LibraryError } from './binding';
import { ECANCELED } from './errno';
import type { Handle, Style } from './handle';
import type { Memory } from './memory';
import { awaitedAsItIs, Operation, type Aftermath } from './operation';
import { Alarm, now } from './timers';

/** A read that waits for its memory. */
export interface WaitingRead {
  readonly file: Handle<Style>;
  readonly bytes: number;
  /**
   * `memory` took it last. `beyond` the limit: `over` is to be called when it was given back, which
   * only the kernel may delay. `timeout`: what is left of it; 0: none.
   */
  begin(beyond: boolean, timeout: number): void;
  /** It was not begun, and will not be. */
  ended(error: number): void;
}

interface Limit {
  readonly deadline: number;
  readonly alarm: Alarm;
}

export class ReadMemory {
  private readonly memory: Memory;
  /** In the order they came. */
  private readonly waiting = new Map<WaitingRead, Limit | undefined>();
  /** Whether one has gone beyond the limit. While any waits, one has. */
  private beyond = false;

  constructor(memory: Memory) {
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
  cancel(file: Handle<Style>): void {
    if (this.waiting.size === 0) return;
    const error = this.memory.lane.closed ? LibraryError.PortClosed : ECANCELED;
    for (const read of [...this.waiting.keys()]) if (read.file === file) this.end(read, error);
  }

  /** What had gone beyond the limit was given back. */
  over(): void {
    this.beyond = false;
    this.beginSome();
  }

  private beginSome(): void {
    if (this.memory.lane.closed) return;
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

/** Pool memory that an operation has until its end. */
export interface ReadBlock extends Aftermath {
  readonly chunk: number;
  readonly start: number;
}

/** A read of await style that is submitted when there is memory for it. */
export class LateRead<T> extends Operation<T> implements WaitingRead {
  static {
    awaitedAsItIs(this.prototype);
  }

  private begun = false;
  private readonly submit: (timeout: number) => void;

  /** @internal `submit` takes over the memory that was taken last, and submits it under the token. */
  constructor(
    readonly file: Handle<Style>,
    kind: ConstructorParameters<typeof Operation>[1],
    readonly bytes: number,
    decode: (bytes: number) => T,
    submit: (timeout: number) => void,
  ) {
    super(file.lane, kind, file.subject(), decode);
    this.submit = submit;
  }

  begin(beyond: boolean, timeout: number): void {
    this.begun = true;
    if (beyond) this.tellWhenOver();
    this.token = this.lane.add(this);
    this.submit(timeout);
  }

  ended(error: number): void {
    this.fail(this.errorOf(error));
  }

  /** @internal */
  override stop(reason: Error | undefined): void {
    if (!this.begun) this.lane.memory.reads.leave(this);
    super.stop(reason);
  }

  /** @internal */
  override fail(error: Error): void {
    if (this.pending && !this.begun) this.aftermath?.after(ECANCELED, 0);
    super.fail(error);
  }

  private tellWhenOver(): void {
    const { aftermath, lane } = this;
    this.aftermath = {
      after: (error, result) => {
        aftermath?.after(error, result);
        lane.memory.reads.over();
      },
    };
  }
}
