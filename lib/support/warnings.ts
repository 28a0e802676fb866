/**
 * Warnings of the process, for programs that wait for what can never come. Each is given once in a
 * thread.
 */
import type { NativeThread } from '../native/binding';
import { setTimeout } from './timers';

/** A second, in milliseconds: what is so for longer is no passing state. */
const PATIENCE = 1000;

const given = new Set<string>();

export function warnOnce(type: string, code: string, text: string): void {
  if (given.has(code)) return;
  given.add(code);
  process.emitWarning(text, { type, code });
}

/** Looks now and then whether packets wait that no thread takes. */
export class Unattended {
  /** Batches that had been taken at the last look. */
  private batches = -1;
  /** For how many looks in turn packets have waited, and none was taken. */
  private stuck = 0;

  /** `patience`: looks, a second apart. Whether any packets wait. */
  look(native: NativeThread, patience: number): boolean {
    const { queueDepth, running, batches } = native.stats();
    const waits = queueDepth > 0 && running === 0;
    this.stuck = waits && batches === this.batches ? this.stuck + 1 : 0;
    this.batches = waits ? batches : -1;
    if (this.stuck >= patience) {
      const time = patience === 1 ? 'a second' : `${patience} seconds`;
      warnOnce(
        'NoConsumerWarning',
        'CP_WARN_NO_CONSUMER',
        `${queueDepth} packets have waited for ${time}, and no thread of the port takes any: ` +
          'call port.consume(), port.packets() or port.get() in one of them',
      );
    }
    return queueDepth > 0;
  }

  /** A thread that takes no packets has opened handles with a key, whose packets nobody else gets. */
  lookAtAffine(): void {
    warnOnce(
      'NoConsumerWarning',
      'CP_WARN_NO_CONSUMER',
      "A handle with a key was opened on a port with dispatch 'affine', in a thread that has taken " +
        'no packets for a second: nobody else gets those of the handle. Open it in a thread that ' +
        'calls port.consume(), port.packets() or port.get()',
    );
  }
}

/** The receive buffers that a thread's program keeps. */
export class KeptBuffers {
  count = 0;
  private looking = false;

  /** One more is kept, by a thread that is attached. */
  add(thread: { readonly native: NativeThread; readonly closed: boolean }): void {
    this.count++;
    // Few are seldom all there are, and to ask costs as much as to keep one.
    if (this.looking || this.count < 4 || (this.count > 64 && this.count % 64 !== 0)) return;
    if (thread.native.stats().freeBuffers > 0) return;
    this.looking = true;
    const { count } = this;
    setTimeout(() => {
      this.looking = false;
      if (!thread.closed) this.lookAgain(thread.native, count);
    }, PATIENCE).unref();
  }

  private lookAgain(native: NativeThread, before: number): void {
    if (this.count < before || native.stats().freeBuffers > 0) return;
    warnOnce(
      'BuffersKeptWarning',
      'CP_WARN_BUFFERS_KEPT',
      `The program keeps ${this.count} receive buffers, and the port has none left to receive ` +
        'into: release those that packet.keep() gave, or copy their bytes',
    );
  }
}
