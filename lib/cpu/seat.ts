/**
 * A thread of a pool, as its owner sees it.
 */
import path = require('node:path');
import {
  MessageChannel,
  receiveMessageOnPort,
  Worker,
  type MessagePort,
} from 'node:worker_threads';
import type { PortToken } from '../api';
import type { PoolOptions } from './api';
import { revive, type ToMove } from '../support/codec';
import { Shared, Waiting } from './table';
import type { FromWorker, Named, Start, ToWorker } from './worker';

/** Looked up when it is wanted: in a bundle for ES modules there is no `__dirname`. */
const program = (): string => path.join(__dirname, 'worker.js');

export interface SeatOptions {
  readonly index: number;
  readonly work: PortToken;
  readonly answers: PortToken;
  readonly chunk: number;
  readonly start: number;
  readonly tasks: readonly Named[];
  readonly options: PoolOptions;
  /** Once, when the thread has ended. */
  readonly onExit: (seat: Seat, code: number, cause: Error | undefined) => void;
}

export class Seat {
  readonly index: number;
  /** It takes tasks. */
  ready = false;
  /** It ends because it was told to. */
  leaving = false;
  readonly exited: Promise<void>;
  private readonly worker: Worker;
  private readonly channel: MessagePort;
  private readonly shared = new Int32Array(new SharedArrayBuffer(Shared.SIZE));
  /** Messages that came before they were looked for. */
  private readonly arrived = new Map<number, FromWorker>();

  constructor(given: SeatOptions) {
    const { index, work, answers, chunk, start, tasks, options, onExit } = given;
    this.index = index;
    const { port1, port2 } = new MessageChannel();
    this.channel = port1;
    port1.unref();
    const workerData: Start = {
      ...{ work, answers, seat: index, chunk, start },
      ...{ channel: port2, shared: this.shared, tasks },
    };
    const { name = 'cpu', execArgv, resourceLimits } = options;
    this.worker = new Worker(program(), {
      workerData,
      transferList: [port2],
      name: `${name} ${index}`,
      ...(execArgv === undefined ? {} : { execArgv: [...execArgv] }),
      ...(resourceLimits === undefined ? {} : { resourceLimits: limitsOf(resourceLimits) }),
    });
    this.worker.unref();
    let cause: Error | undefined;
    this.worker.on('error', (error) => (cause = error));
    this.exited = new Promise((resolve) => {
      this.worker.once('exit', (code) => {
        onExit(this, code, cause);
        this.channel.close();
        resolve();
      });
    });
  }

  /** A task that it has not heard of yet. Before the first message of the port that needs it. */
  tell(task: Named): void {
    this.post({ task }, []);
  }

  /** Answers what `Answer.Fetch` asked for. */
  give(slot: number, moved: ToMove): void {
    this.send(slot, moved);
    Atomics.add(this.shared, Shared.POSTED, 1);
    Atomics.notify(this.shared, Shared.POSTED);
  }

  /** Whether the thread waits for any task; then it waits for one that is `send`ed to it. */
  reserve(): boolean {
    return this.waits(Waiting.Any, Waiting.Sent);
  }

  /** Nothing is sent after all. */
  release(): void {
    this.waits(Waiting.Sent, Waiting.Any);
  }

  /** The values of a place, before the packet that tells of it. */
  send(slot: number, { values, buffers, list }: ToMove): void {
    this.post({ slot, values, buffers }, list);
  }

  /** The values that the thread has posted for a place; undefined: there are none. */
  take(slot: number, generation: number): readonly unknown[] | undefined {
    for (;;) {
      const found = this.arrived.get(slot);
      if (found?.generation === generation) {
        this.arrived.delete(slot);
        return revive(found);
      }
      const received = receiveMessageOnPort(this.channel);
      if (received === undefined) return undefined;
      const message = received.message as FromWorker | undefined;
      if (message === undefined) return undefined; // this thread itself is about to be ended
      this.arrived.set(message.slot, message);
    }
  }

  end(): void {
    void this.worker.terminate();
  }

  private waits(before: Waiting, after: Waiting): boolean {
    const was: Waiting = Atomics.compareExchange(this.shared, Shared.WAITING, before, after);
    return was === before;
  }

  private post(message: ToWorker, list: readonly object[]): void {
    this.channel.postMessage(message, list as never);
  }
}

function limitsOf(limits: NonNullable<PoolOptions['resourceLimits']>): object {
  return Object.fromEntries(Object.entries(limits).filter(([, value]) => value !== undefined));
}
