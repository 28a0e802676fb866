/** Threads that have channels in common, told what to do by the test. */
import { Worker } from 'node:worker_threads';
import { onTestFinished } from 'vitest';
import type { SharedChannel } from '../../dist/micro.js';
import { until } from '../support/harness';

const file = new URL('fixtures/sharer.mjs', import.meta.url);

interface Told {
  readonly id?: number;
  readonly ready?: true;
  readonly blocks?: true;
  readonly began?: true;
  readonly value?: unknown;
  readonly error?: { readonly code?: string; readonly message: string };
}

/** A command that a thread was given. */
export class Command {
  began = false;
  ended = false;
  readonly end: Promise<unknown>;
  resolve!: (value: unknown) => void;
  reject!: (error: unknown) => void;

  constructor(readonly id: number) {
    this.end = new Promise((resolve, reject) => {
      this.resolve = resolve;
      this.reject = reject;
    });
    this.end.catch(() => undefined);
  }
}

export class Sharer {
  readonly worker: Worker;
  readonly exited: Promise<unknown>;
  readonly words: Int32Array;
  ready = false;
  blocked = false;
  private last = 0;
  private readonly commands = new Map<number, Command>();

  constructor(channels: readonly SharedChannel<never>[], words = sharedWords(1)) {
    this.words = words;
    const tokens = channels.map(({ token }) => token);
    this.worker = new Worker(file, { workerData: { tokens, words }, execArgv: ['--no-warnings'] });
    this.exited = new Promise((resolve) => this.worker.once('exit', resolve));
    this.worker.on('message', (told: Told) => this.hear(told));
    onTestFinished(async () => void (await this.worker.terminate()));
  }

  /** Once the thread has attached. */
  static async start(...given: ConstructorParameters<typeof Sharer>): Promise<Sharer> {
    const sharer = new Sharer(...given);
    await until(() => sharer.ready);
    return sharer;
  }

  begin(name: string, ...args: unknown[]): Command {
    const command = new Command(++this.last);
    this.commands.set(command.id, command);
    this.worker.postMessage({ id: command.id, name, args });
    return command;
  }

  /** What it does until it waits is done then. */
  async begun(name: string, ...args: unknown[]): Promise<Command> {
    const command = this.begin(name, ...args);
    await until(() => command.began);
    return command;
  }

  run(name: string, ...args: unknown[]): Promise<unknown> {
    return this.begin(name, ...args).end;
  }

  cancel({ id }: Command): void {
    this.worker.postMessage({ cancel: id });
  }

  /** Its event loop stands still. */
  async block(): Promise<void> {
    this.begin('block', this.words.length - 1);
    await until(() => this.blocked);
  }

  private hear({ id, ready, blocks, began, value, error }: Told): void {
    if (ready === true) this.ready = true;
    if (blocks === true) this.blocked = true;
    const command = this.commands.get(id ?? 0);
    if (command === undefined) return;
    if (began === true) {
      command.began = true;
      return;
    }
    command.ended = true;
    if (error === undefined) command.resolve(value);
    else command.reject(error);
  }
}

export function sharedWords(length: number): Int32Array {
  return new Int32Array(new SharedArrayBuffer(4 * length));
}
