/**
 * Threads of which one is busy for as long as a test likes, and clients that want answers meanwhile.
 */
import type net from 'node:net';
import { Worker } from 'node:worker_threads';
import { expect, onTestFinished } from 'vitest';
import { newPort, rawClient, until, type CompletionPort } from './harness';
import { STOP } from './taker';

export interface Seen {
  readonly index: number;
  readonly type: string;
  readonly key: number;
  readonly value: number;
  readonly code: string | undefined;
  readonly text: string | undefined;
}

export interface CrewOptions {
  readonly style?: 'get' | 'serve' | 'packets';
  readonly heavy: string;
  readonly prepares?: object;
  readonly pipe?: number;
  readonly file?: string;
  readonly threads?: number;
}

/** Worker threads on a port; the first one has everything in its lane, and then gets busy. */
export class Crew {
  readonly seen: Seen[] = [];
  readonly workers: Worker[] = [];
  readonly errors: unknown[] = [];
  listening = 0;
  /** Which of them has the heavy handler: the first one, unless it was too slow to take it. */
  private busy = -1;
  private readonly gate = new Int32Array(new SharedArrayBuffer(4));

  private constructor(
    readonly port: CompletionPort,
    private readonly options: CrewOptions,
  ) {
    onTestFinished(async () => {
      this.release();
      await Promise.all(this.workers.map((worker) => worker.terminate()));
    });
  }

  /** The first worker alone, with `clients` connections; then the others come. */
  static async start(
    options: CrewOptions,
    clients: number,
  ): Promise<{ crew: Crew; clients: Client[] }> {
    const { threads = 3 } = options;
    const crew = new Crew(newPort({ concurrency: 4 }), options);
    await crew.add();
    const connected: Client[] = [];
    for (let i = 0; i < clients; i++) connected.push(await Client.connect(crew.listening));
    for (const client of connected) expect(await client.ask('hello')).toBe('hello');
    while (crew.workers.length < threads) await crew.add();
    await until(() => crew.port.stats().waiting === threads);
    return { crew, clients: connected };
  }

  private async add(): Promise<void> {
    const { style = 'get', heavy, prepares = {}, pipe, file } = this.options;
    const index = this.workers.length;
    const worker = new Worker(new URL('./workers/handler.mjs', import.meta.url), {
      workerData: {
        token: this.port.token,
        index,
        style,
        heavy,
        gate: this.gate,
        pipe,
        file,
        stop: STOP,
        max: 64,
        prepares: index === 0 ? prepares : undefined,
      },
      execArgv: [],
    });
    this.workers.push(worker);
    worker.on('error', (error) => this.errors.push(error));
    await new Promise<void>((resolve) => {
      worker.on('message', (message: Seen | { ready: true; listening: number }) => {
        if (!('ready' in message)) return void this.seen.push(message);
        if (index === 0) this.listening = message.listening;
        resolve();
      });
    });
  }

  /** Lets the heavy handler end. */
  release(): void {
    Atomics.store(this.gate, 0, 1);
    Atomics.notify(this.gate, 0);
  }

  /** Makes one of them busy, and waits until it says so. */
  async makeBusy(client: Client): Promise<void> {
    client.send('!');
    await until(() => this.seen.some(({ text }) => text === '!'));
    this.busy = this.seen.find(({ text }) => text === '!')!.index;
  }

  /** Ends the thread that is busy, in the middle of it. */
  async endBusy(): Promise<void> {
    await this.workers[this.busy]!.terminate();
  }

  /** All of them are answered, and no thread has failed. */
  async soundness(clients: readonly Client[]): Promise<void> {
    const answers = await Promise.all(clients.map((client, i) => client.ask(`client ${i}`)));
    expect(answers).toEqual(clients.map((_, i) => `client ${i}`));
    expect(this.errors).toEqual([]);
  }

  /** Since it became busy, what others than the busy one have seen. */
  others(type: string): Seen[] {
    const from = this.seen.findIndex(({ text }) => text === '!');
    return this.seen.slice(from + 1).filter((one) => one.type === type && one.index !== this.busy);
  }
}

export class Client {
  received = '';
  ended = false;
  private constructor(readonly socket: net.Socket) {
    socket.setEncoding('utf8').on('data', (text: string) => (this.received += text));
    socket.on('end', () => (this.ended = true));
  }
  static async connect(port: number): Promise<Client> {
    return new Client(await rawClient(port));
  }
  send(text: string): void {
    this.received = '';
    this.socket.write(text);
  }
  async ask(text: string): Promise<string> {
    this.send(text);
    await until(() => this.received.length >= text.length);
    return this.received;
  }
}

/** All light clients are answered, again and again, before the heavy one is let go. */
export async function stayLively(
  crew: Crew,
  [heavy, ...light]: Client[],
  rounds = 5,
): Promise<void> {
  await crew.makeBusy(heavy!);
  for (let round = 0; round < rounds; round++) {
    const answers = await Promise.all(light.map((client) => client.ask(`round ${round}`)));
    expect(new Set(answers)).toEqual(new Set([`round ${round}`]));
  }
  expect(heavy!.received).toBe('');
}

export async function comesBack(crew: Crew, heavy: Client): Promise<void> {
  crew.release();
  await until(() => heavy.received === '!');
  expect(crew.errors).toEqual([]);
}
