/**
 * How long things live: what a `signal` ends, what keeps the process alive, and one meaning of 0 and
 * Infinity in all times and bounds.
 */
import { getEventListeners, once } from 'node:events';
import { describe, expect, test } from 'vitest';
import { pool } from '../dist/cpu.js';
import { frames, Pipeline } from '../dist/stages.js';
import {
  Collector,
  connectedPair,
  CompletionPort,
  failureNow,
  failureOf,
  newPort,
  outputOf,
  rawClient,
  temporaryFile,
  turns,
  until,
} from './support/harness';
import { fixture, newPipeline } from './support/stages';

const HOST = '127.0.0.1';
const inDist = (name: string): string => new URL(`../dist/${name}`, import.meta.url).href;

describe('a signal', () => {
  test('closes what was opened with it: files, connections and listeners, of either style', async () => {
    const port = newPort();
    const collector = new Collector(port);
    const elsewhere = await port.listen({ host: HOST, port: 0 });
    const { port: number } = elsewhere.address()!;
    const stop = new AbortController();
    const { signal } = stop;
    const opened = [
      await port.open(temporaryFile('x'), 'r', { signal }),
      await port.open(temporaryFile('x'), 'r', { signal, key: 1 }),
      await port.connect({ host: HOST, port: number, signal }),
      await port.connect({ host: HOST, port: number, signal, key: 2 }),
      await port.listen({ host: HOST, port: 0, signal }),
      await port.listen({ host: HOST, port: 0, signal, key: 3 }),
    ];
    expect(getEventListeners(signal, 'abort')).toHaveLength(1);
    expect(opened.some((handle) => handle.closed)).toBe(false);
    stop.abort();
    expect(opened.every((handle) => handle.closed)).toBe(true);
    await until(() => collector.of('closed').length === 3);
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
    expect(elsewhere.closed).toBe(false);
  });

  test('is let go of when they are closed, or handed to another port', async () => {
    const [port, other] = [newPort(), newPort()];
    const there = new Collector(other);
    const stop = new AbortController();
    const { signal } = stop;
    const file = await port.open(temporaryFile('x'), 'r', { signal });
    const listener = await port.listen({ host: HOST, port: 0, signal, key: 1 });
    await file.close();
    listener.handOff(other, 4);
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
    stop.abort();
    await there.first('handedOff');
    const { handle } = there.of('handedOff')[0]!;
    expect(handle!.closed).toBe(false);
  });

  test('has one listener, however much waits under it', async () => {
    const warnings: Error[] = [];
    const warn = (warning: Error): void => void warnings.push(warning);
    process.on('warning', warn);
    const port = newPort();
    const { listener, client } = await connectedPair(port);
    const pipeline = newPipeline({ echo: { stage: fixture('echo.mjs'), threads: 1 } });
    const stop = new AbortController();
    const { signal } = stop;
    const timer = port.timer();
    const many = Array.from({ length: 11 });
    const waits: Promise<unknown>[] = many.flatMap(() => [
      port.timer().every(60_000, { signal }).next(),
      timer.wait(60_000, { signal }),
      pipeline.ready({ signal }),
    ]);
    waits.push(port.packets({ signal }).next(), listener.accept({ signal }));
    waits.push(client.receive({ signal }));
    expect(getEventListeners(signal, 'abort')).toHaveLength(1);
    // One that has ended takes nobody else's along.
    const ended = await failureOf(() => timer.wait(60_000, { signal, timeout: 1 }));
    expect(ended.code).toBe('ETIMEDOUT');
    expect(getEventListeners(signal, 'abort')).toHaveLength(1);
    stop.abort();
    const ends = await Promise.allSettled(waits);
    for (const end of ends) {
      expect(end).toMatchObject({ status: 'rejected', reason: { code: 'ABORT_ERR' } });
    }
    expect(getEventListeners(signal, 'abort')).toHaveLength(0);
    await turns();
    process.off('warning', warn);
    expect(warnings.filter(({ name }) => name === 'MaxListenersExceededWarning')).toEqual([]);
  });

  test('closes an inspector, and ends a loop over ticks, which a timeout ends, too', async () => {
    const pipeline = newPipeline({ echo: { stage: fixture('echo.mjs'), threads: 1 } });
    const stop = new AbortController();
    const inspector = await pipeline.inspector({ signal: stop.signal, timeout: 60_000 });
    const { url } = inspector;
    expect(inspector.closed).toBe(false);
    stop.abort();
    expect(inspector.closed).toBe(true);
    expect(inspector.url).toBe(url);
    await inspector.close();
    const aborted = AbortSignal.abort();
    expect((await failureOf(() => pipeline.inspector({ signal: aborted }))).name).toBe(
      'AbortError',
    );

    const timer = newPort().timer();
    const late = async (): Promise<void> => {
      for await (const count of timer.every(60_000, { timeout: 20 })) expect(count).toBe(0);
    };
    expect(await failureOf(late)).toMatchObject({ code: 'ETIMEDOUT', timeout: true });
    let ticks = 0;
    for await (const count of timer.every(5, { timeout: 60_000 })) if ((ticks += count) > 3) break;
  });
});

describe('the process ends', () => {
  test('under a pipeline that is unref’d, and not under one that is not', async () => {
    const script = (call: string): string => `
      const { Pipeline } = await import(${JSON.stringify(inDist('stages-esm.mjs'))});
      const stage = new URL(${JSON.stringify(fixture('echo.mjs').href)});
      const pipeline = new Pipeline({ echo: { stage, threads: 2 } });
      await pipeline.listen('echo', { host: '127.0.0.1', port: 0 });
      console.log(pipeline.hasRef());
      process.on('exit', () => console.log('exit'));
      ${call}
      console.log(pipeline.hasRef());
      setTimeout(() => { console.log('late'); process.exit(); }, 1500).unref();`;
    expect(await outputOf(script('pipeline.unref();'))).toBe('true\nfalse\nexit');
    expect(await outputOf(script('pipeline.unref().ref();'))).toBe('true\ntrue\nlate\nexit');
    expect(await outputOf(script('await pipeline.unref().close();'))).toBe('true\nfalse\nexit');
  });

  test('hasRef() of handles and ports tells what ref and unref said', async () => {
    const port = newPort();
    const { client } = await connectedPair(port);
    expect(client.hasRef()).toBe(true);
    expect(client.unref().hasRef()).toBe(false);
    expect(client.ref().hasRef()).toBe(true);
    expect(port.hasRef()).toBe(true);
    expect(port.unref().hasRef()).toBe(false);
    await client.close();
    expect(client.hasRef()).toBe(false);
    expect(port.ref().hasRef()).toBe(true);
    await port.close();
    expect(port.hasRef()).toBe(false);
    const threads = pool({ maxThreads: 1 });
    expect(threads.hasRef()).toBe(true);
    expect(threads.unref().hasRef()).toBe(false);
    expect(threads.ref().hasRef()).toBe(true);
    await threads.close();
    expect(threads.hasRef()).toBe(false);
  });
});

test('a pipeline that is closed is not ready, and keeps nothing alive', async () => {
  const pipeline = newPipeline({ echo: { stage: fixture('echo.mjs'), threads: 1 } });
  await pipeline.ready();
  expect(pipeline.hasRef()).toBe(true);
  const closing = pipeline.close();
  expect((await failureOf(() => pipeline.ready())).code).toBe('ERR_PIPELINE_CLOSED');
  await closing;
  expect(pipeline.hasRef()).toBe(false);
  expect((await failureOf(() => pipeline.ready())).code).toBe('ERR_PIPELINE_CLOSED');
});

describe('Infinity', () => {
  const none = Infinity;

  test('is no limit, in every time and every bound', async () => {
    const port = new CompletionPort({ queueLimit: none, memoryLimit: none });
    const listener = await port.listen({
      ...{ host: HOST, port: 0, timeout: none, idleTimeout: none, maxConnections: none },
    });
    const { port: number } = listener.address()!;
    const accepting = listener.accept({ timeout: none });
    const client = await port.connect({ host: HOST, port: number, timeout: none });
    await client.send('x', { timeout: none });
    const server = await accepting;
    expect(await server.receive({ timeout: none })).toHaveLength(1);
    const file = await port.open(temporaryFile('x\n'), 'r', { timeout: none });
    for await (const line of file.readLines({ maxLength: none })) expect(line).toBe('x');
    await port.close();

    const native = frames({
      ...{ length: 'u8', maxLength: none, memoryThreshold: none, fileLimit: none },
      ...{ idleTimeout: none, stallTimeout: none, documentTimeout: none, farewellTimeout: none },
      ...{ queueLimit: none },
    });
    const pipeline = new Pipeline(
      {
        spool: { native, next: 'echo' },
        echo: { stage: fixture('echo.mjs'), threads: 1, queueLimit: none },
      },
      { memoryLimit: none },
    );
    await pipeline.ready({ timeout: none });
    expect(pipeline.connections({ limit: none })).toEqual([]);
    await pipeline.close({ grace: none });
  });

  test('is no time after which something is done', async () => {
    const port = newPort();
    const timer = port.timer();
    const pipeline = newPipeline({ echo: { stage: fixture('echo.mjs'), threads: 1 } });
    const { client } = await connectedPair(port);
    const keepAliveInitialDelay = none;
    for (const wrong of [
      () => timer.wait(none),
      () => timer.every(none),
      () => port.timer({ key: 1 }).start(none),
      () => port.timer({ key: 1 }).start(1, { repeat: none }),
      () => port.listen({ port: 0, keepAlive: true, keepAliveInitialDelay }),
      () => port.connect({ port: 1, keepAlive: true, keepAliveInitialDelay }),
      () => client.setKeepAlive(true, none),
      () => pipeline.inspector({ interval: none }),
    ]) {
      const { code } = await failureOf(async () => void (await wrong()));
      expect([wrong.toString(), code]).toEqual([wrong.toString(), 'ERR_OUT_OF_RANGE']);
    }
  });

  test('is no size, mark or number of threads', () => {
    const stage = fixture('echo.mjs');
    for (const wrong of [
      () => new CompletionPort({ concurrency: none }),
      () => new CompletionPort({ buffers: { count: none } }),
      () => new Pipeline({ echo: { stage, threads: none } }),
    ]) {
      expect(failureNow(wrong).code).toBe('ERR_OUT_OF_RANGE');
    }
  });
});

test('connections are not looked for in a state that there is not', async () => {
  const pipeline = newPipeline({ echo: { stage: fixture('echo.mjs'), threads: 1 } });
  const { port } = await pipeline.listen('echo', { host: HOST, port: 0 });
  const client = await rawClient(port);
  client.write('x');
  await once(client, 'data');
  expect(pipeline.connections({ state: 'echo' })).toHaveLength(1);
  expect(pipeline.connections({ state: '' })).toEqual([]);
  for (const options of [{ state: 'zz' }, { state: 'zz', stage: 'echo' }]) {
    expect(failureNow(() => pipeline.connections(options)).code).toBe('ERR_UNKNOWN_STATE');
  }
});
