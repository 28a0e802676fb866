/**
 * Rule D5 while a handler runs for long: what completes for its thread meanwhile is for a thread
 * that idles. The heavy handler is let go only after everything else has been answered, so a test
 * that passes has seen it happen.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import type net from 'node:net';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  newPort,
  rawClient,
  rawServer,
  skipOnWindows,
  temporaryDirectory,
  until,
  type CompletionPort,
} from '../support/harness';
import { STOP } from '../support/taker';

interface Seen {
  readonly index: number;
  readonly type: string;
  readonly key: number;
  readonly value: number;
  readonly code: string | undefined;
  readonly text: string | undefined;
}

interface CrewOptions {
  readonly style?: 'get' | 'serve';
  readonly heavy: string;
  readonly prepares?: object;
  readonly pipe?: number;
  readonly threads?: number;
}

/** Worker threads on a port; the first one has everything in its lane, and then gets busy. */
class Crew {
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
    const { style = 'get', heavy, prepares = {}, pipe } = this.options;
    const index = this.workers.length;
    const worker = new Worker(new URL('../support/workers/handler.mjs', import.meta.url), {
      workerData: {
        token: this.port.token,
        index,
        style,
        heavy,
        gate: this.gate,
        pipe,
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

  /** Since it became busy, what others than the busy one have seen. */
  others(type: string): Seen[] {
    const from = this.seen.findIndex(({ text }) => text === '!');
    return this.seen.slice(from + 1).filter((one) => one.type === type && one.index !== this.busy);
  }
}

class Client {
  received = '';
  private constructor(readonly socket: net.Socket) {
    socket.setEncoding('utf8').on('data', (text: string) => (this.received += text));
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
async function stayLively(crew: Crew, [heavy, ...light]: Client[], rounds = 5): Promise<void> {
  await crew.makeBusy(heavy!);
  for (let round = 0; round < rounds; round++) {
    const answers = await Promise.all(light.map((client) => client.ask(`round ${round}`)));
    expect(new Set(answers)).toEqual(new Set([`round ${round}`]));
  }
  expect(heavy!.received).toBe('');
}

async function comesBack(crew: Crew, heavy: Client): Promise<void> {
  crew.release();
  await until(() => heavy.received === '!');
  expect(crew.errors).toEqual([]);
}

const styles = ['get', 'serve'] as const;
const portable = ['loop', 'json', 'regexp', 'pbkdf2', 'wait'];

describe('D5: a handler that runs for long', () => {
  for (const style of styles) {
    test.each(portable)(`D5: others answer while it is in %s (${style})`, async (heavy) => {
      const { crew, clients } = await Crew.start({ style, heavy }, 12);
      await stayLively(crew, clients);
      await comesBack(crew, clients[0]!);
    });
  }

  test('D5: others answer while it waits for a process', async (context) => {
    skipOnWindows(context, 'there is no sleep(1)');
    const { crew, clients } = await Crew.start({ heavy: 'exec' }, 12);
    await stayLively(crew, clients);
    await comesBack(crew, clients[0]!);
  });

  test('D5: others answer while it waits for a pipe', async (context) => {
    skipOnWindows(context, 'there is no mkfifo(1)');
    const fifo = path.join(temporaryDirectory(), 'pipe');
    execFileSync('mkfifo', [fifo]);
    const pipe = openSync(fifo, constants.O_RDWR);
    onTestFinished(() => closeSync(pipe));
    const { crew, clients } = await Crew.start({ heavy: 'read', pipe }, 12);
    onTestFinished(() => void writeSync(pipe, 'x'));
    await stayLively(crew, clients);
    writeSync(pipe, 'x');
    await comesBack(crew, clients[0]!);
  });

  test('D5: connections are accepted meanwhile', async () => {
    const { crew, clients } = await Crew.start({ heavy: 'wait' }, 1);
    await crew.makeBusy(clients[0]!);
    for (let i = 0; i < 20; i++) {
      const client = await Client.connect(crew.listening);
      expect(await client.ask('new')).toBe('new');
    }
    await comesBack(crew, clients[0]!);
  });

  test('D5: timers of its thread fire, again and again', async () => {
    const { crew, clients } = await Crew.start({ heavy: 'wait', prepares: { timer: 5 } }, 1);
    await crew.makeBusy(clients[0]!);
    await until(() => crew.others('timer').length >= 5);
    await comesBack(crew, clients[0]!);
  });

  test('D5: operations of its thread time out', async () => {
    const { port } = await rawServer();
    const silent = { port, timeout: 1000 };
    const { crew, clients } = await Crew.start({ heavy: 'wait', prepares: { silent } }, 1);
    await crew.makeBusy(clients[0]!);
    await until(() => crew.seen.some(({ key, code }) => key === 3 && code === 'ETIMEDOUT'));
    await comesBack(crew, clients[0]!);
  });
});

describe('D4: blocking', () => {
  test('D4: the lane of a thread in `blocking` is looked after, also when it is nested', async () => {
    const { crew, clients } = await Crew.start({ heavy: 'blocking' }, 12);
    await stayLively(crew, clients);
    expect(crew.port.stats().running).toBeLessThan(3);
    await comesBack(crew, clients[0]!);
  });
});
