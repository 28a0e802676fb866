/** A worker thread that is blocked in `get`, and under the test's control in between. */
import { Worker } from 'node:worker_threads';
import { onTestFinished } from 'vitest';
import { turns, until, type CompletionPort, type PacketType } from './harness';

export interface Taken {
  readonly index: number;
  readonly type: PacketType;
  readonly key: number;
  readonly value: number;
  readonly code: string | undefined;
  readonly text: string | undefined;
  /** 1 for the first packet of a batch. */
  readonly place: number;
}

export interface TakerOptions {
  /** Packets in a batch at most. Default: 64. */
  readonly max?: number;
  /** Whether it holds each packet until `pass()`. Default: true. */
  readonly holds?: boolean;
  /** Whether it holds them inside of `port.blocking`. Default: false. */
  readonly blocking?: boolean;
}

/** Posted under this key: the taker that gets it ends. */
export const STOP = 0xffff_ffff;

export class Taker {
  readonly taken: Taken[] = [];
  ready = false;
  /** Why it ended. */
  ended: string | undefined;
  exited = false;
  readonly worker: Worker;
  private readonly gate: Int32Array;
  private passes = 0;

  private constructor(port: CompletionPort, index: number, options: TakerOptions, log: Taken[]) {
    const { max = 64, holds = true, blocking = false } = options;
    this.gate = new Int32Array(new SharedArrayBuffer(4));
    const gate = holds ? this.gate : undefined;
    this.worker = new Worker(new URL('./workers/taker.mjs', import.meta.url), {
      workerData: { token: port.token, index, max, gate, blocking, stop: STOP },
      execArgv: [],
    });
    this.worker.on('message', (message: Taken | { ready: true } | { ended: string }) => {
      if ('ready' in message) this.ready = true;
      else if ('ended' in message) this.ended = message.ended;
      else {
        this.taken.push(message);
        log.push(message);
      }
    });
    this.worker.on('exit', () => (this.exited = true));
    onTestFinished(async () => {
      this.passAll();
      await this.worker.terminate();
    });
  }

  /** Starts one and waits until it waits for packets; nobody else may begin to wait meanwhile. */
  static async start(
    port: CompletionPort,
    options: TakerOptions = {},
    index = 0,
    log: Taken[] = [],
  ): Promise<Taker> {
    await turns(1); // this thread's own batch ends
    const { waiting } = port.stats();
    const taker = new Taker(port, index, options, log);
    await until(() => taker.taken.length > 0 || (taker.ready && port.stats().waiting > waiting));
    return taker;
  }

  /** `count` of them, which have begun to wait in this order. */
  static async team(
    port: CompletionPort,
    count: number,
    options: TakerOptions = {},
  ): Promise<{ takers: Taker[]; log: Taken[] }> {
    const log: Taken[] = [];
    const takers: Taker[] = [];
    for (let i = 0; i < count; i++) takers.push(await Taker.start(port, options, i, log));
    return { takers, log };
  }

  /** Lets it go on from the packet it holds. */
  pass(): void {
    this.passes++;
    Atomics.store(this.gate, 0, this.passes);
    Atomics.notify(this.gate, 0);
  }

  passAll(): void {
    this.passes = 0x7fff_0000;
    this.pass();
  }
}
