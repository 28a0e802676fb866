import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  Collector,
  failureNow,
  failureOf,
  newPort,
  root,
  take,
  temporaryFile,
  turns,
  until,
  type CompletionPort,
} from '../support/harness';

describe('Q1', () => {
  test.each([0, 1, -1, 0.5, 2 ** 53, -0, Infinity, 1e308])(
    'Q1: %d arrives as posted',
    async (value) => {
      const port = newPort();
      port.post(9, value);
      const [packet] = await take(port, 1);
      expect(packet).toMatchObject({ type: 'posted', key: 9, handle: undefined, more: false });
      expect(packet!.value).toBe(value);
    },
  );

  test('Q1: NaN arrives as NaN, a missing value as 0', async () => {
    const port = newPort();
    port.post(1, NaN);
    port.post(1);
    expect((await take(port, 2)).map(({ value }) => value)).toEqual([NaN, 0]);
  });

  test('O3: undefined in the place of a message is refused: a value was forgotten', () => {
    const port = newPort();
    const forgotten = undefined as never;
    const calls: (() => unknown)[] = [
      () => port.post(1, forgotten),
      () => port.tryPost(1, forgotten),
      () => port.publish([1], forgotten),
      () => port.tryPublish([1], forgotten),
      () => (port.publish as (keys: number[]) => void)([1]),
    ];
    for (const call of calls) {
      expect(failureNow(call)).toMatchObject({
        code: 'ERR_INVALID_ARG_TYPE',
        message: expect.stringMatching(/"message" argument.*Received undefined/) as string,
      });
    }
    expect(port.stats().queueDepth).toBe(0);
  });

  test('Q1: a worker that is attached posts, and ends right afterwards', async () => {
    const port = newPort();
    const collector = new Collector(port);
    const code = `
      const { CompletionPort } = require(${JSON.stringify(`${root}dist/index.js`)});
      const port = CompletionPort.attach(require('node:worker_threads').workerData);
      for (let i = 0; i < 100; i++) port.post(5, i);`;
    const worker = new Worker(code, { eval: true, workerData: port.token, execArgv: [] });
    onTestFinished(async () => void (await worker.terminate()));
    await collector.count(100);
    expect(collector.packets.map(({ key, value }) => [key, value])).toEqual(
      Array.from({ length: 100 }, (_, i) => [5, i]),
    );
  });
});

/** Runs `body` in a worker that is attached to `port`. */
function poster(port: CompletionPort, body: string, data: object = {}): Worker {
  const code = `
    const { CompletionPort } = require(${JSON.stringify(`${root}dist/index.js`)});
    const { workerData } = require('node:worker_threads');
    const port = CompletionPort.attach(workerData.token);
    ${body}`;
  const workerData = { token: port.token, ...data };
  const worker = new Worker(code, { eval: true, workerData, execArgv: [] });
  onTestFinished(async () => void (await worker.terminate()));
  return worker;
}

const upTo = (count: number): number[] => Array.from({ length: count }, (_, i) => i);

describe('Q1: when a message is seen', () => {
  // More than a thread can have set room aside for at one time, and fewer.
  test.each([3, 2000])('Q1: %d messages are there although their sender blocks', async (count) => {
    const port = newPort();
    const collector = new Collector(port);
    const body = `
      for (let i = 0; i < ${count}; i++) port.post(5, i);
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0);`;
    poster(port, body);
    await collector.count(count);
    expect(collector.packets.map(({ value }) => value)).toEqual(upTo(count));
  });

  // With one that is out of proportion, each message is met by a thread that looks for it.
  test.each([0, 50, 1000])('Q1: two ports, to and fro, blocking, spin %d', async (spin) => {
    const there = newPort({ spinMicroseconds: spin });
    const back = newPort({ spinMicroseconds: spin });
    const body = `
      const back = CompletionPort.attach(workerData.back);
      for (let wanted = 0; wanted < 2000; wanted++) {
        for (const { value } of port.get(1)) back.post(1, value + 1);
      }`;
    poster(there, body, { back: back.token });
    for (let i = 0; i < 2000; i++) {
      there.post(1, i);
      for (const { value } of back.get(1)) expect(value).toBe(i + 1);
    }
  });

  test('D5: a message that comes while all threads are busy is taken by the first that is not', async () => {
    const port = newPort({ concurrency: 1 });
    const values: number[] = [];
    port.post(1, 1);
    for (const packet of port.get(1)) {
      port.post(2, 2);
      values.push(packet.value!);
    }
    for (const packet of port.get(1)) values.push(packet.value!);
    expect(values).toEqual([1, 2]);
    await turns(1);
  });

  test('D7: messages posted inside of a chain keep their order', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile('abc'), 'r+');
    port.post(1, 0);
    const written = file.link(() => {
      const first = file.write('x', 0);
      port.post(1, 1);
      return [first, file.sync()];
    });
    port.post(1, 2);
    await Promise.all(written);
    expect((await take(port, 3)).map(({ value }) => value)).toEqual([0, 1, 2]);
    await file.close();
  });
});

describe('T1: messages of a thread that ends', () => {
  test.each([
    ['process.exit()', 'process.exit(0);'],
    ['an uncaught exception', 'throw new Error("on purpose");'],
    ['port.detach()', 'port.detach();'],
  ])('T1: %s in the turn of the posts loses none', async (_, how) => {
    const port = newPort();
    const worker = poster(port, `for (let i = 0; i < 700; i++) port.post(5, i); ${how}`);
    worker.on('error', () => undefined);
    await new Promise((resolve) => worker.once('exit', resolve));
    expect((await take(port, 700)).map(({ value }) => value)).toEqual(upTo(700));
    expect([...port.get(1, 0)]).toEqual([]);
  });

  test('T1: terminate() loses none that was accepted, and frees the room of the others', async () => {
    const port = newPort({ queueLimit: 4096 });
    for (let round = 0; round < 10; round++) {
      const accepted = new Int32Array(new SharedArrayBuffer(4));
      const body = `
        for (let i = 0; ; i++) if (port.tryPost(5, i)) Atomics.store(workerData.accepted, 0, i + 1);`;
      const worker = poster(port, body, { accepted });
      await until(() => Atomics.load(accepted, 0) > 100 * round + 1);
      await worker.terminate();
      const { queueDepth } = port.stats();
      // It may have ended between a message and the note of it.
      expect(queueDepth - Atomics.load(accepted, 0)).toBeOneOf([0, 1]);
      expect((await take(port, queueDepth)).map(({ value }) => value)).toEqual(upTo(queueDepth));
    }
    for (let i = 0; i < 4096; i++) expect(port.tryPost(1, i)).toBe(true);
    expect(port.tryPost(1, 0)).toBe(false);
  });

  test('T1: closing the port while a thread posts', async () => {
    const port = newPort();
    const body = `
      const { parentPort } = require('node:worker_threads');
      let code;
      const post = () => {
        try {
          for (let i = 0; i < 1000; i++) port.tryPost(5, i);
          setImmediate(post);
        } catch (error) {
          code = error.code;
        }
      };
      process.on('exit', () => parentPort.postMessage(code ?? 'none'));
      port.consume(() => undefined);
      post();`;
    const worker = poster(port, body);
    const code = new Promise((resolve) => worker.once('message', resolve));
    await until(() => port.stats().threads === 2 && port.stats().batches > 0);
    await port.close();
    expect(await code).toBe('ERR_PORT_CLOSED');
  });
});

test('D10: in the turn in which another thread closes the port, posting says so', async () => {
  for (const method of ['post', 'tryPost']) {
    const body = `
      const { parentPort } = require('node:worker_threads');
      const state = workerData.state;
      Atomics.store(state, 0, 1);
      Atomics.wait(state, 0, 1); // the port is closed meanwhile
      let code = 'none';
      // What was set aside before is used up first.
      try { for (let i = 0; i < 1000; i++) port.${method}(5, i); } catch (error) { code = error.code; }
      parentPort.postMessage(code);`;
    const port = newPort({ concurrency: 2 });
    const state = new Int32Array(new SharedArrayBuffer(4));
    const worker = poster(port, body, { state });
    const code = once(worker, 'message');
    await until(() => Atomics.load(state, 0) === 1);
    await port.close();
    Atomics.store(state, 0, 2);
    Atomics.notify(state, 0);
    expect(await code).toEqual(['ERR_PORT_CLOSED']);
  }
});

describe('Q2', () => {
  test('Q2: room that is not used is there for others at the end of the turn', async () => {
    const port = newPort({ queueLimit: 1000 });
    const worker = poster(port, 'port.post(1, 1); setInterval(() => undefined, 1000);');
    await until(() => port.stats().queueDepth === 1);
    await until(() => {
      while (port.tryPost(2, 2));
      return port.stats().queueDepth === 1000;
    });
    await worker.terminate();
  });

  test('Q2: tryPost answers false and post throws when the queue is full; nothing is dropped', async () => {
    const port = newPort({ queueLimit: 10 });
    for (let i = 0; i < 10; i++) expect(port.tryPost(1, i)).toBe(true);
    expect(port.tryPost(1, 10)).toBe(false);
    expect(() => port.post(1, 10)).toThrow(expect.objectContaining({ code: 'ERR_QUEUE_FULL' }));
    expect(port.stats().queueDepth).toBe(10);
    const packets = await take(port, 10);
    expect(packets.map(({ value }) => value)).toEqual([0, 1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect([...port.get(64, 0)]).toEqual([]);
    port.post(1, 11);
  });

  test('Q2: room() resolves when there is room, not before', async () => {
    const port = newPort({ queueLimit: 2 });
    await port.room();
    port.post(1, 1);
    port.post(1, 2);
    let room = 0;
    const waiting = [port.room(), port.room()].map((operation) => operation.then(() => room++));
    await turns();
    expect(room).toBe(0);
    const collector = new Collector(port);
    await Promise.all(waiting);
    expect(collector.packets.length).toBeGreaterThan(0);
    port.post(1, 3);
    await collector.count(3);
    expect(collector.packets.map(({ value }) => value)).toEqual([1, 2, 3]);
  });

  test('Q2: room() ends with its signal, its timeout, and cancel()', async () => {
    const port = newPort({ queueLimit: 1 });
    port.post(1, 1);
    const controller = new AbortController();
    const aborted = failureOf(() => port.room({ signal: controller.signal }));
    const late = failureOf(() => port.room({ timeout: 20 }));
    const cancelled = port.room();
    const told = failureOf(() => cancelled);
    cancelled.cancel();
    controller.abort();
    expect((await aborted).name).toBe('AbortError');
    expect((await told).code).toBe('ECANCELED');
    expect((await late).code).toBe('ETIMEDOUT');
    expect(() => port.room({ limit: 1 } as object)).toThrow(/unknown/);
    const waiting = port.room();
    for (const packet of port.get(1, 0)) expect(packet.value).toBe(1);
    await waiting;
  });

  test('Q2: posting through room() loses nothing', async () => {
    const port = newPort({ queueLimit: 7 });
    const collector = new Collector(port);
    for (let i = 0; i < 500; i++) {
      while (!port.tryPost(1, i)) await port.room();
    }
    await collector.count(500);
    expect(collector.packets.map(({ value }) => value)).toEqual(
      Array.from({ length: 500 }, (_, i) => i),
    );
  });

  test('Q2: completions have room in a queue that is full of messages', async () => {
    const port = newPort({ queueLimit: 1 });
    port.post(1, 1);
    const timer = port.timer({ key: 2 });
    timer.start(0);
    await until(() => {
      for (const packet of port.get(1, 0)) expect(packet.type).not.toBe('none');
      return port.stats().completed > 0;
    });
  });

  test('Q2: a packet the loop leaves behind counts again', async () => {
    const port = newPort({ queueLimit: 4 });
    for (let i = 0; i < 4; i++) port.post(i, i);
    for (const packet of port.get(4)) {
      expect(packet.value).toBe(0);
      break;
    }
    expect([...port.get(1)]).toHaveLength(1);
    expect(port.stats().queueDepth).toBe(2);
    expect(port.tryPost(9, 9)).toBe(true);
    expect(port.tryPost(9, 9)).toBe(true);
    expect(port.tryPost(9, 9)).toBe(false);
  });
});
