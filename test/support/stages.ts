/**
 * What the tests of stages share: pipelines that are closed after the test, what the fixtures tell,
 * and clients.
 */
import net from 'node:net';
import { BroadcastChannel } from 'node:worker_threads';
import { onTestFinished } from 'vitest';
import {
  Pipeline,
  type PipelineOptions,
  type StageFailure,
  type StageOptions,
  type ThreadExit,
} from '../../dist/stages.js';
import { skipInWorld, until } from './harness';

export { Pipeline };
export type { StageOptions };

export function fixture(name: string): URL {
  return new URL(`../stage/fixtures/${name}`, import.meta.url);
}

/** What a fixture told. */
export interface Told {
  readonly event: string;
  readonly key: number;
  readonly stage: string;
  readonly state: string;
  readonly name: string;
  readonly threadId: number;
  readonly n: number;
  /** When, on a clock that all threads share. */
  readonly at: bigint;
  readonly [more: string]: unknown;
}

let channels = 0;

/** Events that the threads of a pipeline tell. */
export class Log {
  readonly name = `stages ${process.pid} ${channels++}`;
  readonly told: Told[] = [];
  private readonly channel = new BroadcastChannel(this.name);

  constructor() {
    this.channel.onmessage = ({ data }: { data: unknown }) => this.hear(data as Told);
    onTestFinished(() => this.channel.close());
  }

  /** What different threads tell may come in another order than it happened in. */
  private hear(told: Told): void {
    let place = this.told.length;
    while (place > 0 && this.told[place - 1]!.at > told.at) place--;
    this.told.splice(place, 0, told);
  }

  of(event: string): Told[] {
    return this.told.filter((told) => told.event === event);
  }

  async first(event: string): Promise<Told> {
    await until(() => this.of(event).length > 0);
    return this.of(event)[0]!;
  }

  /** The events of one connection, in order: `entered obedient`. */
  story(key?: number): string[] {
    const wanted = key ?? this.told[0]?.key;
    return this.told.filter((told) => told.key === wanted).map((t) => `${t.event} ${t.state}`);
  }
}

export interface Running {
  readonly pipeline: Pipeline;
  readonly log: Log;
  readonly port: number;
  readonly failures: StageFailure[];
  readonly deaths: ThreadExit[];
}

/** A pipeline that is closed after the test. */
export function newPipeline(
  stages: Record<string, StageOptions>,
  options: PipelineOptions = {},
): Pipeline {
  const pipeline = new Pipeline(stages, { maxConnections: 1024, ...options });
  onTestFinished(() => pipeline.close());
  return pipeline;
}

/** Scripted stages `first` and `second`; `first` listens. */
export async function scripted(
  first: Partial<StageOptions> & { local?: boolean } = {},
  second: Partial<StageOptions> = {},
  options: PipelineOptions = {},
): Promise<Running> {
  const log = new Log();
  const stage = (
    name: string,
    given: Partial<StageOptions> & { local?: boolean },
  ): StageOptions => {
    const { local = false, ...rest } = given;
    const data = { channel: log.name, name, local };
    return { stage: fixture('scripted.mjs'), threads: 2, data, ...rest } as StageOptions;
  };
  const stages = { first: stage('first', first), second: stage('second', second) };
  const pipeline = newPipeline(stages, options);
  const failures: StageFailure[] = [];
  const deaths: ThreadExit[] = [];
  pipeline.on('failed', (failure) => failures.push(failure));
  pipeline.on('threadExit', (death) => deaths.push(death));
  const { port } = await pipeline.listen('first', { host: '127.0.0.1', port: 0 });
  return { pipeline, log, port, failures, deaths };
}

/** A client that is destroyed after the test. */
export class Client {
  readonly socket: net.Socket;
  private parts: Buffer[] = [];
  size = 0;
  ended = false;
  closed = false;
  error: NodeJS.ErrnoException | undefined;

  constructor(port: number, options: { allowHalfOpen?: boolean } = {}) {
    skipInWorld('nobody of the system connects to it');
    this.socket = net.connect({ host: '127.0.0.1', port, ...options });
    this.socket.setNoDelay();
    this.socket.on('data', (data) => {
      this.parts.push(data);
      this.size += data.length;
    });
    this.socket.on('error', (error) => (this.error = error));
    this.socket.on('end', () => (this.ended = true));
    this.socket.on('close', () => (this.closed = true));
    onTestFinished(() => void this.socket.destroy());
  }

  /** All that has come so far. */
  get received(): Buffer {
    if (this.parts.length !== 1) this.parts = [Buffer.concat(this.parts)];
    return this.parts[0]!;
  }

  forget(): void {
    this.parts = [];
    this.size = 0;
  }

  get text(): string {
    return this.received.toString();
  }

  write(data: string | Uint8Array): void {
    this.socket.write(data);
  }

  /** Sends commands and waits for the answer. */
  async ask(commands: string, answer: string): Promise<void> {
    this.forget();
    this.write(commands);
    await until(() => this.text.includes(answer) || this.closed);
    if (!this.text.includes(answer)) throw new Error(`closed: ${this.text}`);
  }
}

/** All connections are gone, and so are their records. */
export async function empty(pipeline: Pipeline): Promise<void> {
  await until(() => pipeline.stats().connections === 0);
}
