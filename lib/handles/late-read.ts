/**
 * Reads of files that wait for their memory: see ReadMemory.
 */
import { ECANCELED } from '../support/errno';
import type { Handle, Style } from './handle';
import { awaitedAsItIs, Operation, type Aftermath } from '../await/operation';
import type { WaitingRead } from '../thread/read-memory';

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
    super(file.thread, kind, file.subject(), decode);
    this.submit = submit;
  }

  begin(beyond: boolean, timeout: number): void {
    this.begun = true;
    if (beyond) this.tellWhenOver();
    this.token = this.thread.add(this);
    this.submit(timeout);
  }

  ended(error: number): void {
    this.fail(this.errorOf(error));
  }

  /** @internal */
  override stop(reason: Error | undefined): void {
    if (!this.begun) this.thread.memory.reads.leave(this);
    super.stop(reason);
  }

  /** @internal */
  override fail(error: Error): void {
    if (this.pending && !this.begun) this.aftermath?.after(ECANCELED, 0);
    super.fail(error);
  }

  private tellWhenOver(): void {
    const { aftermath, thread } = this;
    this.aftermath = {
      after: (error, result) => {
        const lost = aftermath?.after(error, result);
        thread.memory.reads.over();
        return lost;
      },
    };
  }
}
