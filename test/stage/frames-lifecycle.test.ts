/** How a native stage ends: with its worker, its process, its pipeline, in every phase at once. */
import { readdirSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, onTestFinished, test } from 'vitest';
import { frames, type FramesOptions } from '../../dist/stages.js';
import { driver, drivers, ended, startProcess, temporaryFile, until } from '../support/harness';
import { Client, fixture, newPipeline, type Pipeline } from '../support/stages';

/** The drivers a run is for. */
const chosen = drivers.filter((name) => driver === '' || driver === name);

/** Bytes of an answer that no client reads: more than sockets take. */
const LONG = 30_000_000;
const QUEUE = 6;

/** A document with its length. */
function document(text: string | Buffer): Buffer {
  const body = Buffer.from(text);
  const head = Buffer.alloc(4);
  head.writeUInt32BE(body.length);
  return Buffer.concat([head, body]);
}

/** Answered from a file by clients that don't read. First: `hang` never gives its place back. */
function answered(file: string): Buffer[] {
  return [document(`file ${file}`), document(`file ${file}`)];
}

/** What the other clients send, so that there is a connection in each phase. */
function others(): Buffer[] {
  const long = document(Buffer.alloc(100_000, 'x'));
  const hang = document('hang');
  return [
    Buffer.alloc(0), // idle
    long.subarray(0, 2), // in the length
    long.subarray(0, 50_000), // in the document, in memory or a file
    long.subarray(0, 10),
    document(Buffer.alloc(500_000)).subarray(0, 10), // too large: is told, and does not go
    ...Array.from({ length: QUEUE }, () => Buffer.concat([hang, hang, long.subarray(0, 30)])),
    ...Array.from({ length: 3 }, () => Buffer.concat([document('wait'), hang])), // for a place
  ];
}

const options = (spool: 'memory' | 'file'): FramesOptions => ({
  length: 'u32be',
  maxLength: 200_000,
  spool,
  ...(spool === 'file' ? { memoryThreshold: 1000 } : {}),
  queueLimit: QUEUE,
  stallTimeout: 0,
  farewellTimeout: Infinity,
  tooLarge: 'too large',
});

function answersTwo(pipeline: Pipeline): boolean {
  return pipeline.stats().stages['spool']!.states['answering'] === 2;
}

/** All that was sent has come where it can. */
function inEveryPhase(pipeline: Pipeline): boolean {
  const { states, frames: of } = pipeline.stats().stages['spool']!;
  const { idle = 0, receiving = 0, answering = 0, dismissed = 0 } = states;
  const here = idle >= 1 && receiving === 3 && answering === 2 && dismissed === 1;
  return here && of!.queued === QUEUE && of!.waiting === 3;
}

const cases = chosen.flatMap((name) =>
  (['memory', 'file'] as const).map((kind) => [name, kind] as const),
);

// ---- in a thread or process of its own

const library = JSON.stringify(pathToFileURL(path.resolve('dist/stages-esm.mjs')));

/** A module that brings a pipeline into every phase, and then does `what`. */
function owner(name: string, kind: 'memory' | 'file', what: string): string {
  const file = temporaryFile(Buffer.alloc(LONG));
  const encoded = (streams: Buffer[]): string =>
    JSON.stringify(streams.map((stream) => stream.toString('base64')));
  return `
    const { Pipeline, frames } = await import(${library});
    const net = await import('node:net');
    const { parentPort } = await import('node:worker_threads');
    const work = { stage: new URL(${JSON.stringify(fixture('digest.mjs').href)}), threads: 2 };
    const QUEUE = ${QUEUE};
    const inEveryPhase = ${inEveryPhase.toString()};
    const answersTwo = ${answersTwo.toString()};
    const pipeline = new Pipeline({
      spool: { native: frames(${JSON.stringify(options(kind))}), next: 'work', threads: 2 },
      work,
    }, { driver: ${JSON.stringify(name)}, maxConnections: 1024 });
    const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
    const send = (streams) => {
      for (const bytes of streams) {
        const socket = net.connect({ port, host: '127.0.0.1', allowHalfOpen: true });
        socket.on('error', () => undefined);
        socket.pause();
        socket.write(Buffer.from(bytes, 'base64'));
      }
    };
    const when = (reached, then) => {
      if (reached(pipeline)) then();
      else setTimeout(when, 5, reached, then);
    };
    send(${encoded(answered(file))});
    when(answersTwo, () => {
      send(${encoded(others())});
      when(inEveryPhase, () => {
        ${what}
      });
    });
  `;
}

describe('a process that ends with documents in every phase', () => {
  const endings = [
    ['process.exit()', 'process.exit(7);', 7],
    ['an exception', "throw new Error('on purpose');", 1],
    ['a rejection', "void Promise.reject(new Error('on purpose'));", 1],
    ['close()', 'void pipeline.close().then(() => process.exit(9));', 9],
    [
      'process.exit() while it closes',
      'void pipeline.close(); setTimeout(() => process.exit(8), 20);',
      8,
    ],
    [
      'process.exit() as it exits',
      "process.on('exit', () => { process.exitCode = 5; }); process.exit();",
      5,
    ],
  ] as const;
  const all = cases.flatMap((one) => endings.map((ending) => [...one, ...ending] as const));

  test.each(all)('T1: %s, %s: %s', async (name, kind, _title, what, code) => {
    const file = temporaryFile(owner(name, kind, what), 'owner.mjs');
    expect(await ended(startProcess([file]))).toMatchObject({ code, signal: null });
  });
});

describe('a worker that ends with documents in every phase', () => {
  const endings = [
    ['terminate()', "parentPort.postMessage('there');", true],
    ['process.exit()', 'process.exit(7);', false],
    ['an exception', "throw new Error('on purpose');", false],
    [
      'terminate() while it closes',
      "void pipeline.close(); parentPort.postMessage('there');",
      true,
    ],
  ] as const;
  const all = cases.flatMap((one) => endings.map((ending) => [...one, ...ending] as const));

  test.each(all)('T1: %s, %s: %s', async (name, kind, _title, what, terminate) => {
    const count = (): number => readdirSync('/proc/self/fd').length;
    const round = async (): Promise<void> => {
      const file = temporaryFile(owner(name, kind, what), 'owner.mjs');
      const worker = new Worker(pathToFileURL(file));
      onTestFinished(() => void worker.terminate());
      worker.on('error', () => undefined);
      const exited = new Promise<number>((resolve) => worker.once('exit', resolve));
      if (terminate) {
        await new Promise((resolve) => worker.once('message', resolve));
        await worker.terminate();
      }
      await exited;
    };
    await round();
    const before = count();
    const rounds = 3;
    for (let i = 0; i < rounds; i++) await round();
    // What each round left would come to as many; the process itself may have opened one meanwhile.
    await until(() => count() < before + rounds);
  });
});

// ---- the pipeline alone

describe('closing', () => {
  async function crowded(name: string, kind: 'memory' | 'file'): Promise<[Pipeline, Client[]]> {
    const work = { stage: fixture('digest.mjs'), threads: 2 };
    const pipeline = newPipeline(
      { spool: { native: frames(options(kind)), next: 'work', threads: 2 }, work },
      { driver: name as (typeof drivers)[number] },
    );
    const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
    const file = temporaryFile(Buffer.alloc(LONG));
    const send = (stream: Buffer): Client => {
      const client = new Client(port, { allowHalfOpen: true });
      client.socket.pause();
      client.write(stream);
      return client;
    };
    const clients = answered(file).map(send);
    await until(() => answersTwo(pipeline));
    clients.push(...others().map(send));
    await until(() => inEveryPhase(pipeline));
    return [pipeline, clients];
  }

  test.each(cases)('T2: %s, %s: close() in every phase leaves nothing', async (name, kind) => {
    const count = (what: string): number => readdirSync(`/proc/self/${what}`).length;
    const round = async (): Promise<void> => {
      const [pipeline, clients] = await crowded(name, kind);
      await pipeline.close();
      for (const { socket } of clients) socket.resume();
      await until(() => clients.every(({ closed, ended }) => closed || ended));
      for (const { socket } of clients) socket.destroy();
      await until(() => clients.every(({ closed }) => closed));
    };
    await round();
    const [descriptors, threads] = [count('fd'), count('task')];
    for (let i = 0; i < 2; i++) await round();
    await until(() => count('fd') <= descriptors && count('task') <= threads);
  });

  test.each(chosen)('%s: close() does not wait for connections that idle', async (name) => {
    const work = { stage: fixture('digest.mjs'), threads: 1 };
    const pipeline = newPipeline(
      { spool: { native: frames(options('memory')), next: 'work' }, work },
      { driver: name },
    );
    const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
    const client = new Client(port);
    await until(() => pipeline.stats().connections === 1);
    let told = false;
    client.socket.once('close', () => (told = !pipelineClosed));
    let pipelineClosed = false;
    const closing = pipeline.close().then(() => (pipelineClosed = true));
    await until(() => client.closed);
    await closing;
    // Closed by the stage as the pipeline's end began, not by the end of the port.
    expect(told).toBe(true);
  });

  test.each(chosen)(
    '%s: close({ grace }) accepts no more, and answers what has begun',
    async (name) => {
      const work = { stage: fixture('digest.mjs'), threads: 1 };
      const pipeline = newPipeline(
        { spool: { native: frames(options('memory')), next: 'work' }, work },
        { driver: name },
      );
      const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
      const client = new Client(port);
      const begun = document('text still there\n');
      client.write(begun.subarray(0, 6));
      await until(() => pipeline.stats().stages['spool']!.states['receiving'] === 1);
      const closing = pipeline.close({ grace: 30_000 });
      // One that comes before the listener has heard of it is accepted as well.
      let refused = new Client(port);
      for (;;) {
        const { socket } = refused;
        await until(() => refused.closed || !socket.connecting);
        if (refused.error !== undefined) break;
        socket.destroy();
        refused = new Client(port);
      }
      client.write(begun.subarray(6));
      await until(() => client.text === 'still there\n');
      await closing;
    },
  );
});
