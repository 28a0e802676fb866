/** What is published on channels of node:diagnostics_channel: names, order, contexts. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { channel, subscribe, tracingChannel, unsubscribe } from 'node:diagnostics_channel';
import { describe, expect, onTestFinished, test } from 'vitest';
import { spawn } from '../../dist/micro.js';
import { defineStage } from '../../dist/stages.js';
import {
  codeOf,
  Collector,
  connectedPair,
  failureNow,
  failureOf,
  library,
  newPort,
  outputOf,
  runModule,
  temporaryFile,
  turns,
  until,
} from '../support/harness';
import { newPipeline } from '../support/stages';

type Context = Record<string, unknown> & { error?: Error };
type Heard = readonly [event: string, context: Context];
const events = ['start', 'end', 'asyncStart', 'asyncEnd', 'error'] as const;

/** What a tracing channel tells from now on. */
function traced(name: string): Heard[] {
  const heard: Heard[] = [];
  const hear = (event: string) => (context: unknown) =>
    void heard.push([event, context as Context]);
  const handlers = Object.fromEntries(events.map((event) => [event, hear(event)])) as Record<
    (typeof events)[number],
    (context: unknown) => void
  >;
  const tracing = tracingChannel(name);
  tracing.subscribe(handlers);
  onTestFinished(() => void tracing.unsubscribe(handlers));
  return heard;
}

/** What a channel tells from now on. */
function told(name: string): Context[] {
  const heard: Context[] = [];
  const hear = (context: unknown): void => void heard.push(context as Context);
  subscribe(name, hear);
  onTestFinished(() => void unsubscribe(name, hear));
  return heard;
}

const names = (heard: readonly Heard[]): string => heard.map(([event]) => event).join(' ');
const SUCCEEDED = 'start end asyncStart asyncEnd';
const FAILED = 'start end error asyncStart asyncEnd';

describe('completion-port:file:open', () => {
  test('begins and ends, with the handle, in either style', async () => {
    const heard = traced('completion-port:file:open');
    const port = newPort();
    const path = temporaryFile('x');
    const options = { key: 5 };
    const opening = port.open(path, 'r', options);
    expect(names(heard)).toBe('start end');
    const keyed = await opening;
    const awaited = await port.open(path);
    expect(names(heard)).toBe(`${SUCCEEDED} ${SUCCEEDED}`);
    const [first, second] = [heard[0]![1], heard[4]![1]];
    expect([first['port'], first['path'], first['flags']]).toEqual([port, path, 'r']);
    expect([first['options'], first['result'], second['result']]).toEqual([
      options,
      keyed,
      awaited,
    ]);
    expect(heard.slice(0, 4).every(([, context]) => context === first)).toBe(true);
    await awaited.close();
  });

  test('fails with the error that the operation rejects with', async () => {
    const heard = traced('completion-port:file:open');
    const port = newPort();
    const error = await failureOf(() => port.open('/no/such/file'));
    expect(names(heard)).toBe(FAILED);
    expect(heard.at(-1)![1].error).toBe(error);
  });

  test('a wrong argument is an error between start and end, and thrown all the same', () => {
    const heard = traced('completion-port:file:open');
    const port = newPort();
    const error = failureNow(() => port.open('x', 'nonsense'));
    expect(names(heard)).toBe('start error end');
    expect(heard.at(-1)![1].error).toBe(error);
  });

  test('a signal that is aborted already, or later, is told as the program is told', async () => {
    const heard = traced('completion-port:file:open');
    const port = newPort();
    const reason = new Error('enough');
    const early = port.open('x', 'r', { signal: AbortSignal.abort(reason) });
    const failed = await failureOf(() => early);
    await until(() => heard.length === 5);
    expect(names(heard)).toBe(FAILED);
    expect(heard.at(-1)![1].error).toBe(failed);

    heard.length = 0;
    const controller = new AbortController();
    const signal = controller.signal;
    const late = traced('completion-port:socket:connect');
    const connecting = failureOf(() => port.connect({ host: '127.0.0.1', port: 9, signal }));
    controller.abort(reason);
    const error = await connecting;
    expect([error.name, error.cause]).toEqual(['AbortError', reason]);
    expect(names(late)).toBe(FAILED);
    expect(late.at(-1)![1].error).toBe(error);
  });

  test('in a micro-thread, which has the error first', async () => {
    const heard = traced('completion-port:file:open');
    const port = newPort();
    const path = temporaryFile('x');
    const error = await spawn(function* () {
      const file = yield* port.open(path);
      yield* file.close();
      try {
        yield* port.open('/no/such/file');
      } catch (thrown) {
        return thrown as Error;
      }
      throw new Error('it opened');
    });
    expect(names(heard)).toBe(`${SUCCEEDED} ${FAILED}`);
    expect(codeOf(error)).toBe('ENOENT');
    expect(heard.at(-1)![1].error).toBe(error);
  });
});

describe('a rejection that nobody handles', () => {
  test.each([
    "port.open('/no/such/file');",
    "port.connect({ host: '127.0.0.1', port: closed });",
    'port.listen({ host: "127.0.0.1", port: taken });',
  ])('is reported as one although somebody listens: %s', async (begun) => {
    const text = `
      import { tracingChannel } from 'node:diagnostics_channel';
      const seen = [];
      for (const name of ['file:open', 'socket:connect', 'listener:listen']) {
        tracingChannel('completion-port:' + name).subscribe({
          start() {}, end() {}, asyncStart() {}, asyncEnd() {},
          error({ error }) { seen.push(error); },
        });
      }
      const port = new CompletionPort();
      const listener = await port.listen({ host: '127.0.0.1', port: 0 });
      const taken = listener.address().port;
      const other = await port.listen({ host: '127.0.0.1', port: 0 });
      const closed = other.address().port;
      await other.close();
      process.on('unhandledRejection', (error) => {
        console.log('unhandled', error === seen[0], seen.length);
        process.exit();
      });
      ${begun}`;
    expect(await outputOf(text)).toBe('unhandled true 1');
  });
});

describe('asynchronous contexts', () => {
  test('a bound store is there from start to asyncEnd, and not in what awaits', async () => {
    const storage = new AsyncLocalStorage<string>();
    const tracing = tracingChannel('completion-port:file:open');
    const stores: unknown[] = [];
    const look = (): void => void stores.push(storage.getStore());
    const handlers = { start: look, end: look, asyncStart: look, asyncEnd: look, error: look };
    tracing.start.bindStore(storage, (context) => `of ${(context as Context)['path'] as string}`);
    tracing.subscribe(handlers);
    onTestFinished(() => {
      tracing.unsubscribe(handlers);
      tracing.start.unbindStore(storage);
    });
    const port = newPort();
    const path = temporaryFile('x');
    const after = await storage.run('own', async () => {
      const file = await port.open(path);
      await file.close();
      return storage.getStore();
    });
    expect(stores).toEqual(Array(4).fill(`of ${path}`));
    expect(after).toBe('own');
  });
});

describe('connections', () => {
  test('listen, connect, accepted, close and closed, awaited', async () => {
    const [listening, connecting, closing] = [
      'listener:listen',
      'socket:connect',
      'handle:close',
    ].map((name) => traced(`completion-port:${name}`)) as [Heard[], Heard[], Heard[]];
    const accepted = told('completion-port:socket:accepted');
    const closed = told('completion-port:handle:closed');
    const port = newPort();
    const { listener, client, server } = await connectedPair(port);
    expect([names(listening), names(connecting)]).toEqual([SUCCEEDED, SUCCEEDED]);
    expect(listening[0]![1]).toMatchObject({ options: { host: '127.0.0.1', port: 0 } });
    expect([listening[0]![1]['port'], listening[0]![1]['result']]).toEqual([port, listener]);
    expect(connecting[0]![1]['result']).toBe(client);
    expect(accepted).toHaveLength(1);
    expect([accepted[0]!['socket'], accepted[0]!['listener']]).toEqual([server, listener]);
    await server.close();
    void server.close();
    expect(names(closing)).toBe(SUCCEEDED);
    expect(closing[0]![1]['handle']).toBe(server);
    expect(closed.map(({ handle }) => handle)).toEqual([server]);
  });

  test('the loop of a listener tells of each connection it gives, and of what it drops', async () => {
    const accepted = told('completion-port:socket:accepted');
    const dropped = told('completion-port:socket:dropped');
    const port = newPort();
    const listener = await port.listen({ host: '127.0.0.1', port: 0 });
    const where = { host: '127.0.0.1', port: listener.address()!.port };
    const loop = listener.sockets();
    const first = loop.next();
    const clients = [await port.connect(where), await port.connect(where)];
    const { value } = await first;
    await until(() => accepted.length === 2);
    await loop.return();
    expect(accepted[0]!['socket']).toBe(value);
    expect(dropped.map(({ socket }) => socket)).toEqual([accepted[1]!['socket']]);
    expect(dropped[0]!['listener']).toBe(listener);
    for (const client of clients) await client.close();
  });

  test('with a key: accepted once, close without an asynchronous end, closed with its packet', async () => {
    const accepted = told('completion-port:socket:accepted');
    const closed = told('completion-port:handle:closed');
    const closing = traced('completion-port:handle:close');
    const port = newPort();
    const collector = new Collector(port, (packet) => {
      if (packet.type === 'accepted') void [packet.accepted, packet.accepted];
    });
    const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 7 });
    const client = await port.connect({
      host: '127.0.0.1',
      port: listener.address()!.port,
      key: 8,
    });
    const { accepted: socket } = await collector.first('accepted');
    expect(accepted).toHaveLength(1);
    expect([accepted[0]!['socket'], accepted[0]!['listener']]).toEqual([socket, listener]);
    client.close();
    expect(names(closing)).toBe('start end');
    await collector.first('closed');
    await until(() => closed.length > 0);
    expect(closed[0]!['handle']).toBe(client);
    await turns();
    expect(names(closing)).toBe('start end');
  });

  test('a hand-off, and one that is refused', async () => {
    const heard = traced('completion-port:handle:handOff');
    const [port, other] = [newPort(), newPort()];
    const file = await port.open(temporaryFile('x'), 'r', { key: 5 });
    const error = failureNow(() => file.handOff({ completionPort: 1, instance: 'x' }));
    expect(names(heard)).toBe('start error end');
    expect(heard.at(-1)![1].error).toBe(error);
    heard.length = 0;
    file.handOff(other, 6);
    expect(names(heard)).toBe('start end');
    expect(heard[0]![1]).toMatchObject({ key: 6 });
    expect([heard[0]![1]['handle'], heard[0]![1]['target']]).toEqual([file, other]);
  });

  test('a worker thread has channels of its own', async () => {
    const worker = `
      import { subscribe } from 'node:diagnostics_channel';
      import { parentPort } from 'node:worker_threads';
      import { CompletionPort } from '${library}';
      let there = 0;
      subscribe('tracing:completion-port:file:open:asyncEnd', () => there++);
      const port = new CompletionPort();
      await (await port.open(process.execPath)).close();
      await port.close();
      parentPort.postMessage(there);`;
    const output = await outputOf(`
      import { subscribe } from 'node:diagnostics_channel';
      import { Worker } from 'node:worker_threads';
      let here = 0;
      subscribe('tracing:completion-port:file:open:start', () => here++);
      const text = ${JSON.stringify(worker)};
      const worker = new Worker(new URL('data:text/javascript,' + encodeURIComponent(text)));
      worker.on('message', (there) => console.log(here, there));`);
    expect(output).toBe('0 1');
  });
});

describe('pipelines', () => {
  test('listening is traced; connections are told of where they are', async () => {
    const listening = traced('completion-port:stage:listen');
    const [arrived, handedOff, closed] = ['arrived', 'handedOff', 'closed'].map((event) =>
      told(`completion-port:connection:${event}`),
    ) as [Context[], Context[], Context[]];
    const first = defineStage({ states: { idle: { posted: (c) => c.handOff('second') } } });
    const second = defineStage({ states: { idle: { handedOff: (c) => c.close() } } });
    const pipeline = newPipeline({
      first: { stage: first, threads: 0 },
      second: { stage: second, threads: 0 },
    });
    const options = { host: '127.0.0.1', port: 0 };
    const listener = await pipeline.listen('first', options);
    expect(names(listening)).toBe(SUCCEEDED);
    const context = listening[0]![1];
    expect([context['pipeline'], context['stage'], context['options'], context['result']]).toEqual([
      pipeline,
      'first',
      options,
      listener,
    ]);
    const key = pipeline.start('first');
    await until(() => closed.length === 1);
    expect(arrived).toEqual([
      { stage: 'first', key, from: '' },
      { stage: 'second', key, from: 'first' },
    ]);
    expect(handedOff).toEqual([{ stage: 'first', key, to: 'second' }]);
    expect(closed).toEqual([{ stage: 'second', key }]);
  });
});

test('a subscriber that throws is an uncaught exception, and no end of the operation', async () => {
  const { stdout, code } = await runModule(`
    import { subscribe } from 'node:diagnostics_channel';
    process.on('uncaughtException', ({ message }) => console.log(message));
    subscribe('tracing:completion-port:file:open:asyncEnd', () => { throw new Error('mine'); });
    const port = new CompletionPort();
    const file = await port.open(process.execPath);
    await file.close();
    await port.close();
    console.log('done');`);
  expect([stdout.trim().split('\n').sort(), code]).toEqual([['done', 'mine'], 0]);
  expect(channel('completion-port:handle:closed').hasSubscribers).toBe(false);
});
