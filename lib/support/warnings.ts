/**
 * Warnings of the process, for programs that wait for what can never come. Each is given once in a
 * thread.
 */
import { binding, type NativeThread, type Queue } from '../native/binding';
import { clearInterval, now, queueMicrotask, setInterval, setTimeout } from './timers';

/** A second, in milliseconds: what is so for longer is no passing state. */
const PATIENCE = 1000;
/** How many seconds what was handed to another port may wait there: its threads may just begin. */
const PATIENCE_ELSEWHERE = 10;

const UNHEARD = 'CP_WARN_AWAITED_IN_GET';

const given = new Set<string>();

export function warnOnce(type: string, code: string, text: string): void {
  if (given.has(code)) return;
  given.add(code);
  process.emitWarning(text, { type, code });
}

/**
 * Operations that a thread awaits, and that end while it is in `get`: whoever awaits them goes on in
 * a turn of microtasks, which the program has to give it.
 */
export class Unheard {
  private count = 0;
  private since = 0;
  private readonly heard = (): void => void (this.count = 0);

  /** So many have ended, with results that somebody waits for. */
  add(count: number): void {
    if (this.count === 0) {
      this.since = now();
      // Behind those that go on now.
      queueMicrotask(this.heard);
    }
    this.count += count;
  }

  /** Milliseconds until there is something to say. */
  get patience(): number {
    if (this.count === 0 || given.has(UNHEARD)) return Infinity;
    return Math.max(0, this.since + PATIENCE - now());
  }

  look(): void {
    if (this.patience > 0) return;
    given.add(UNHEARD);
    const text =
      `Operations that this thread awaits (${this.count}) ended a second ago or longer, and what ` +
      'awaits them goes on in its event loop alone, which has no turn while the thread loops in ' +
      'get(). Give the handles keys, take packets with port.packets(), or await between two batches';
    // At once: process.emitWarning waits for the turn that does not come.
    process.emit(
      'warning',
      Object.assign(new Error(text), { name: 'UnheardWarning', code: UNHEARD }),
    );
  }
}

/** Looks now and then whether packets wait that no thread takes. */
export class Unattended {
  /** Batches that had been taken at the last look. */
  private batches = -1;
  /** For how many looks in turn packets have waited, and none was taken. */
  private stuck = 0;

  /** `patience`: looks, a second apart. Whether any packets wait. */
  look({ queueDepth, running, batches }: Queue, patience: number): boolean {
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

/** Ports that something was handed to, as long as anything waits there. */
const queues = new Map<number, Unattended>();
let looking: NodeJS.Timeout | undefined;

/** Something was handed to a port, whose packets nobody may take. */
export function watchQueue(port: number): void {
  if (queues.has(port)) return;
  queues.set(port, new Unattended());
  looking ??= setInterval(lookAtQueues, PATIENCE).unref();
}

function lookAtQueues(): void {
  for (const [port, unattended] of queues) {
    const queue = binding.queueOf(port);
    const waits = queue !== undefined && unattended.look(queue, PATIENCE_ELSEWHERE);
    if (!waits) queues.delete(port);
  }
  if (queues.size > 0) return;
  clearInterval(looking);
  looking = undefined;
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
