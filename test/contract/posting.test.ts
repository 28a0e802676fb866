import { Worker } from 'node:worker_threads';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Collector, newPort, root, take, turns, until } from '../support/harness';

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

describe('Q2', () => {
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

  test('Q2: drained() resolves when there is room, not before', async () => {
    const port = newPort({ queueLimit: 2 });
    await port.drained();
    port.post(1, 1);
    port.post(1, 2);
    let room = 0;
    const waiting = [port.drained(), port.drained()].map((operation) =>
      operation.then(() => room++),
    );
    await turns();
    expect(room).toBe(0);
    const collector = new Collector(port);
    await Promise.all(waiting);
    expect(collector.packets.length).toBeGreaterThan(0);
    port.post(1, 3);
    await collector.count(3);
    expect(collector.packets.map(({ value }) => value)).toEqual([1, 2, 3]);
  });

  test('Q2: posting through drained() loses nothing', async () => {
    const port = newPort({ queueLimit: 7 });
    const collector = new Collector(port);
    for (let i = 0; i < 500; i++) {
      while (!port.tryPost(1, i)) await port.drained();
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
