/**
 * Programs that are wrong in JavaScript, where no compiler looks: each call is told so, with a code,
 * and none is taken for something else that it looks like.
 */
import { once } from 'node:events';
import http from 'node:http';
import { expect, test } from 'vitest';
import { pool } from '../dist/cpu.js';
import { all, Channel, sleep, spawn, within } from '../dist/micro.js';
import { listenOver, sendFile } from '../dist/node.js';
import { defineStage, frames, Pipeline } from '../dist/stages.js';
import {
  CompletionPort,
  connectedPair,
  failureOf,
  newPort,
  rawClient,
  temporaryFile,
} from './support/harness';
import { newPipeline } from './support/stages';

const anything = (value: unknown): never => value as never;
const callback = (): void => undefined;
const TYPE = 'ERR_INVALID_ARG_TYPE';
const VALUE = 'ERR_INVALID_ARG_VALUE';
const RANGE = 'ERR_OUT_OF_RANGE';
const STATE = 'ERR_INVALID_STATE';

type Call = readonly [call: () => unknown, code: string];

async function expectCodes(calls: readonly Call[]): Promise<void> {
  for (const [call, code] of calls) {
    const failure = await failureOf(async () => void (await call()));
    expect([call.toString(), failure.code]).toEqual([call.toString(), code]);
  }
}

/** Memory that was the program's. */
function transferred(): Uint8Array {
  const view = new Uint8Array(4);
  structuredClone(view, { transfer: [view.buffer] });
  return view;
}

test('a signal, a callback or an encoding in the place of options', async () => {
  const port = newPort();
  const { client } = await connectedPair(port);
  const file = await port.open(temporaryFile('x'), 'r+');
  const timer = port.timer();
  const { signal } = new AbortController();
  const close = (closable: { close: unknown }): unknown =>
    (closable.close as (given: unknown) => unknown)(callback);
  await expectCodes([
    [() => port.packets(anything(signal)), TYPE],
    [() => port.room(anything(signal)), TYPE],
    [() => timer.wait(1, anything(signal)), TYPE],
    [() => client.receive(anything(signal)), TYPE],
    [() => client.send('x', anything(signal)), TYPE],
    [() => file.read(new Uint8Array(1), anything(signal)), TYPE],
    [() => file.readFile(anything(signal)), TYPE],
    [() => client.send('x', anything(callback)), TYPE],
    [() => client.send('x', anything('latin1')), TYPE],
    [() => file.write('x', anything('utf8')), TYPE],
    [() => close({ close: port.close.bind(port) }), TYPE],
    [() => close({ close: client.close.bind(client) }), TYPE],
    [() => close({ close: timer.close.bind(timer) }), TYPE],
    [() => close(pool({ maxThreads: 1 })), TYPE],
  ]);
  expect([port.closed, client.closed, timer.closed]).toEqual([false, false, false]);
});

test('packets and handles can’t be posted to another thread; a packet’s copy and a port can', async () => {
  const port = newPort();
  port.post(5, 6);
  for (const packet of port.get()) {
    expect(() => structuredClone(packet)).toThrow(/toObject/);
    expect(structuredClone(packet.toObject())).toMatchObject({ type: 'posted', key: 5, value: 6 });
  }
  const { client } = await connectedPair(port);
  for (const handle of [client, port.timer({ key: 1 })]) {
    expect(() => structuredClone(handle)).toThrow(/could not be cloned/);
  }
  const posted = structuredClone(port) as typeof port;
  expect(posted.token).toEqual(port.token);
  expect(CompletionPort.attach(posted)).toBe(port);
});

test('options of stages that mean nothing, or what nobody meant', async () => {
  const stage = defineStage({ states: { a: {} } });
  await expectCodes([
    [() => new Pipeline(anything({ a: { stage, threads: 0, data: 5 } })), VALUE],
    [() => new Pipeline(anything({ a: { stage, threads: 0, queue: 5 } })), VALUE],
    [() => new Pipeline(anything({ a: stage })), VALUE],
    [() => new Pipeline(anything({ a: { stage: new URL('file:///x'), threads: 0 } })), VALUE],
    [() => frames({ length: 'u8', minRate: Infinity }), RANGE],
    [() => frames({ length: 'u8', tooLarge: transferred() }), VALUE],
    [() => frames({ delimiter: transferred() }), VALUE],
  ]);
});

test('memory that was transferred is no answer, and nothing to send, of a stage', async () => {
  const codes: string[] = [];
  const tell = (call: () => unknown): void => {
    try {
      void call();
      codes.push(`nothing was thrown by ${call.toString()}`);
    } catch (error) {
      codes.push(String((error as { code?: string }).code));
    }
  };
  const work = defineStage({
    states: {
      a: {
        handedOff(c) {
          tell(() => c.reply(transferred()));
          tell(() => c.reply([transferred()]));
          return c.reply(['answer']);
        },
        received(c) {
          tell(() => c.send(transferred()));
          tell(() => c.send(['x', transferred()]));
          tell(() => c.end(transferred()));
          tell(() => c.unread(transferred()));
          c.end('answer');
        },
      },
    },
  });
  const pipeline = newPipeline({
    spool: { native: frames({ length: 'u8', pipelined: 8 }), next: 'work' },
    work: { stage: work, threads: 0 },
  });
  for (const stage of ['spool', 'work']) {
    const { port } = await pipeline.listen(stage, { host: '127.0.0.1', port: 0 });
    const client = await rawClient(port);
    client.write('\x01x');
    const [answer] = (await once(client, 'data')) as [Buffer];
    expect(answer.toString()).toBe('answer');
    client.destroy();
  }
  expect(codes).toEqual(Array(6).fill(VALUE));
});

test('what a client is told is what it was when the stage was made', () => {
  const tooLarge = Buffer.from('no');
  const native = frames({ length: 'u8', tooLarge });
  const [settings] = Object.getOwnPropertySymbols(native).map(
    (symbol) => (native as unknown as Record<symbol, { tooLarge: Uint8Array }>)[symbol]!,
  );
  tooLarge.fill('x');
  expect(Buffer.from(settings!.tooLarge).toString()).toBe('no');
});

test('what only yield* waits for is no promise', async () => {
  const channel = new Channel<number>(1);
  await expectCodes([
    [() => sleep(1), STATE],
    [() => channel.take(), STATE],
    [() => channel.put(1), STATE],
    [() => spawn(within(5, anything(undefined))), TYPE],
  ]);
  // Micro-threads and operations are promises.
  await spawn(all([sleep(1)]));
  await newPort().timer().wait(1);
});

test('nothing in the place of a server or a file', async () => {
  await expectCodes([
    [() => listenOver(anything(undefined)), TYPE],
    [() => listenOver(anything({})), TYPE],
    [() => listenOver(http.createServer(), anything({ port: 0 })), TYPE],
    [
      () =>
        sendFile(new http.ServerResponse(new http.IncomingMessage(anything({}))), anything('x')),
      TYPE,
    ],
  ]);
});
