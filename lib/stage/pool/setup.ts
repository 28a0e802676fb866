/** What `setup` of a stage begins in one thread, and `teardown` ends. */
import type { StageContext } from '../api';
import type { Machine } from '../definition/definition';

export class Setup {
  /** Resolves when `setup` is over; rejects with what it throws. */
  readonly done: Promise<void>;
  private readonly machine: Machine;
  private readonly context: StageContext;

  constructor(machine: Machine, context: StageContext) {
    this.machine = machine;
    this.context = context;
    this.done = this.begin();
    // One that has to leave does not look.
    this.done.catch(() => undefined);
  }

  /** Waits for a `setup` that is under way. What did not begin does not end. */
  async end(): Promise<void> {
    const { teardown } = this.machine;
    if (teardown !== undefined && (await this.succeeds())) await teardown(this.context);
  }

  private async begin(): Promise<void> {
    await this.machine.setup?.(this.context);
  }

  private succeeds(): Promise<boolean> {
    return this.done.then(
      () => true,
      () => false,
    );
  }
}
