/**
 * What `cpu` returns: an operation that no port carries out, but whatever runs the task.
 */
import { Kind } from '../native/kinds';
import { abortError, cancelled, timedOut } from '../support/errors';
import type { PortThread } from '../thread/port-thread';
import { awaitedAsItIs, Operation, watchSignal } from '../await/operation';
import { Alarm } from '../support/timers';
import type { AwaitOptions } from '../api';
import { transferNothing } from '../support/codec';

/** Whoever is at work for a computation. */
export interface Worker {
  /** Nobody waits for it any more. */
  abandoned(): void;
}

const none: readonly unknown[] = [];
const noLane = undefined as unknown as PortThread;

export class Computation<T> extends Operation<T> {
  static {
    awaitedAsItIs(this.prototype);
  }

  /** Undefined before it begins and where nothing can be ended. */
  worker: Worker | undefined = undefined;
  /** As long as a policy may hand them on to another one, with what goes with them. */
  private args: readonly unknown[];
  private readonly task: string;
  private alarm: Alarm | undefined = undefined;

  constructor(task: string, args: readonly unknown[]) {
    super(noLane, Kind.Posted, {}, undefined);
    this.task = task;
    this.args = args;
  }

  /** False: it was given up before it began. `timeout`: as `validate.timeout` gives it. */
  begin(options: AwaitOptions, timeout: number): boolean {
    if (!watchSignal(this, options)) return false;
    if (timeout > 0) this.alarm = new Alarm(timeout, () => this.expire());
    return true;
  }

  /** Settles as `answer` does: a value, or a promise. */
  follow(answer: unknown): void {
    if (typeof (answer as PromiseLike<T> | null | undefined)?.then !== 'function') {
      this.fulfil(answer as T);
      return;
    }
    (answer as PromiseLike<T>).then(
      (value) => this.fulfil(value),
      (error: unknown) => this.fail(error as Error),
    );
  }

  override get gone(): boolean {
    return false;
  }

  override get what(): string {
    return `cpu ${this.task}`;
  }

  override errorOf(): Error {
    const { watch } = this;
    return watch?.aborted ? abortError(watch.reason) : cancelled('cpu', { path: this.task });
  }

  override stop(reason: Error | undefined): void {
    this.giveUp(reason ?? this.errorOf());
  }

  override fulfil(value: T): void {
    this.alarm?.cancel();
    this.keepArgs();
    transferNothing(value);
    super.fulfil(value);
  }

  override fail(error: Error): void {
    this.alarm?.cancel();
    this.keepArgs();
    super.fail(error);
  }

  /** What has not changed threads by now stays in this one. */
  keepArgs(): void {
    for (const value of this.args) transferNothing(value);
    this.args = none;
  }

  /** The call throws instead. */
  refused(): void {
    this.keepArgs();
    this.alarm?.cancel();
    this.watch?.end();
  }

  private expire(): void {
    this.giveUp(timedOut('cpu', { path: this.task }));
  }

  private giveUp(error: Error): void {
    if (!this.pending) return;
    const { worker } = this;
    this.fail(error);
    worker?.abandoned();
  }
}
