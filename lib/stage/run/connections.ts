/**
 * The objects that stand for connections, used in turn.
 */
import { Connection } from './connection';
import type { StageThread } from './thread';

/** A program that kept one finds that it stands for nothing at first. */
const SPARES = 8;

export class Connections {
  private readonly thread: StageThread;
  private readonly spares: (Connection | undefined)[] = new Array<undefined>(SPARES).fill(
    undefined,
  );
  private spare = 0;

  constructor(thread: StageThread) {
    this.thread = thread;
  }

  /** An object that stands for no connection. */
  take(): Connection {
    const c = this.spares[this.spare] ?? new Connection(this.thread);
    this.spares[this.spare] = undefined;
    return c;
  }

  /**
   * The object may stand for another connection. Not one that a promise was given: whoever kept
   * that one would meet a stranger's connection in it.
   */
  giveBack(c: Connection): void {
    c.unbind();
    this.spares[this.spare] = c;
    this.spare = (this.spare + 1) % SPARES;
  }
}
