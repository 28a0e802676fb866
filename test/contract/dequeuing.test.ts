import type net from 'node:net';
import { Worker } from 'node:worker_threads';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  codeOf,
  Collector,
  connectedPair,
  failureNow,
  failureOf,
  keyedWithRawPeer,
  newPort,
  newSeed,
  pattern,
  Random,
  rawServer,
  sleep,
  take,
  temporaryFile,
  turns,
  until,
  CompletionPort,
} from '../support/harness';
import { spawn } from '../../dist/micro.js';
import { STOP, Taker } from '../support/taker';

interface CrowdOptions {
  readonly threads: number;
  readonly messages: number;
  readonly keys: number;
  readonly concurrency: number;
  readonly serialized: boolean;
}

interface CrowdResult {
  readonly counts: Int32Array;
  readonly log: readonly (readonly [key: number, number: number])[];
  readonly mostRunning: number;
  readonly keyClashes: number;
}

/** Workers that take what two posting workers and the main thread post, and note what they see. */
async function crowd(port: CompletionPort, options: CrowdOptions): Promise<CrowdResult> {
  const { threads, messages, keys } = options;
  const total = 3 * messages;
  const shared = {
    /** taken, running, most running, clashes */
    state: new Int32Array(new SharedArrayBuffer(16)),
    counts: new Int32Array(new SharedArrayBuffer(4 * total)),
    log: new Int32Array(new SharedArrayBuffer(8 * total)),
    holders: new Int32Array(new SharedArrayBuffer(4 * keys)),
  };
  const start = (role: string, producer: number): Worker => {
    const worker = new Worker(new URL('../support/workers/crowd.mjs', import.meta.url), {
      workerData: { token: port.token, role, producer, messages, keys, total, shared, stop: STOP },
      execArgv: [],
    });
    worker.on('error', (error) => errors.push(error));
    onTestFinished(async () => void (await worker.terminate()));
    return worker;
  };
  const errors: Error[] = [];
  const workers = Array.from({ length: threads }, () => start('taker', 0));
  workers.push(start('poster', 1), start('poster', 2));
  let ended = 0;
  for (const worker of workers) worker.once('exit', () => ended++);
  for (let i = 0; i < messages; i++) {
    while (!port.tryPost(i % keys, i)) await port.room();
    if (i % 100 === 0) await turns(1);
  }
  await until(() => errors.length > 0 || ended === workers.length);
  expect(errors).toEqual([]);
  const entries = Array.from(
    { length: total },
    (_, i) => [shared.log[2 * i]!, shared.log[2 * i + 1]!] as const,
  );
  const [, , mostRunning, keyClashes] = shared.state;
  return {
    counts: shared.counts,
    log: entries,
    mostRunning: mostRunning!,
    keyClashes: keyClashes!,
  };
}

describe('D1', () => {
  test('D1: messages leave in the order they were posted', async () => {
    const port = newPort();
    for (let i = 0; i < 1000; i++) port.post(i % 7, i);
    const packets = await take(port, 1000);
    expect(packets.map(({ value }) => value)).toEqual(packets.map((_, i) => i));
  });

  test('D1: on the event loop as well', async () => {
    const port = newPort();
    const collector = new Collector(port);
    for (let i = 0; i < 1000; i++) port.post(i % 7, i);
    await collector.count(1000);
    expect(collector.packets.map(({ value }) => value)).toEqual(
      Array.from({ length: 1000 }, (_, i) => i),
    );
  });

  test('D1: in an async loop as well, also when it awaits in between', async () => {
    const port = newPort();
    for (let i = 0; i < 300; i++) port.post(i % 7, i);
    const values: number[] = [];
    for await (const packet of port.packets()) {
      values.push(packet.value!);
      if (values.length === 300) break;
      if (values.length % 10 === 0) await turns(1);
    }
    expect(values).toEqual(Array.from({ length: 300 }, (_, i) => i));
  });

  test('D1: what a loop leaves behind keeps its place', async () => {
    const port = newPort();
    for (let i = 0; i < 100; i++) port.post(i, i);
    const values: number[] = [];
    while (values.length < 100) {
      let taken = 0;
      for (const packet of port.get(64)) {
        values.push(packet.value!);
        if (++taken === 3) break;
      }
    }
    expect(values).toEqual(Array.from({ length: 100 }, (_, i) => i));
  });
});

describe('D2', () => {
  test('D2: the thread that waited last is woken first', async () => {
    const port = newPort({ concurrency: 4 });
    const { takers, log } = await Taker.team(port, 3);
    for (let i = 1; i <= 3; i++) {
      port.post(i, i);
      await until(() => log.length === i);
    }
    expect(log.map(({ index }) => index)).toEqual([2, 1, 0]);
    // The first to wait again is the last to be woken.
    for (const index of [0, 2, 1]) {
      const { waiting } = port.stats();
      takers[index]!.pass();
      await until(() => port.stats().waiting === waiting + 1);
    }
    for (let i = 4; i <= 6; i++) {
      port.post(i, i);
      await until(() => log.length === i);
    }
    expect(log.slice(3).map(({ index }) => index)).toEqual([1, 2, 0]);
  });
});

describe('D3', () => {
  test('D3: a packet waits while `concurrency` threads run', async () => {
    const port = newPort({ concurrency: 2 });
    const { takers, log } = await Taker.team(port, 4, { max: 1 });
    for (let key = 0; key < 6; key++) port.post(key, key);
    await until(() => log.length === 2);
    await turns(100);
    expect(log).toHaveLength(2);
    expect(port.stats()).toMatchObject({ running: 2, queueDepth: 4 });
    const running = new Set(log.map(({ index }) => index));
    takers[[...running][0]!]!.pass();
    await until(() => log.length === 3);
    await turns(100);
    expect(log).toHaveLength(3);
    expect(port.stats()).toMatchObject({ running: 2, queueDepth: 3 });
  });

  test('D3: a thread that detaches runs no more', async () => {
    const port = newPort({ concurrency: 1 });
    const { takers, log } = await Taker.team(port, 2, { max: 1 });
    port.post(1, 1);
    await until(() => log.length === 1);
    port.post(STOP);
    port.post(2, 2);
    takers[log[0]!.index]!.pass();
    // One of them ends; the other runs in its place.
    await until(() => log.length === 2);
    const ended = takers.filter((taker) => taker.ended);
    await until(() => takers.some((taker) => taker.ended) && port.stats().threads === 2);
    expect(ended.every((taker) => taker !== takers[log[1]!.index])).toBe(true);
  });

  test('D3: never more than `concurrency` threads run, with many at work', async () => {
    const port = newPort({ concurrency: 2 });
    const options = { threads: 4, messages: 700, keys: 50, concurrency: 2, serialized: true };
    const { mostRunning } = await crowd(port, options);
    expect(mostRunning).toBeLessThanOrEqual(2);
    expect(mostRunning).toBeGreaterThan(0);
  });
});

describe('D4', () => {
  test('D4: while one thread is in `blocking`, another runs in its place', async () => {
    const port = newPort({ concurrency: 1 });
    const { takers, log } = await Taker.team(port, 3, { max: 1, blocking: true });
    for (let key = 0; key < 3; key++) port.post(key, key);
    await until(() => log.length === 3);
    expect(new Set(log.map(({ index }) => index)).size).toBe(3);
    // The last one tells of its packet before it blocks.
    await until(() => port.stats().running === 0);
    for (const taker of takers) taker.pass();
    await until(() => port.stats().waiting === 3);
  });

  test('D4: entering `blocking` gives the rest of the batch to others', async () => {
    const port = newPort({ concurrency: 1 });
    for (let key = 0; key < 3; key++) port.post(key, key);
    const first = await Taker.start(port, { blocking: true, max: 64 });
    await until(() => first.taken.length === 1);
    const second = await Taker.start(port, { holds: false });
    await until(() => second.taken.length === 2);
    expect(second.taken.map(({ value }) => value)).toEqual([1, 2]);
    first.pass();
  });

  test('D4: blocking returns what fn returns and throws what it throws', () => {
    const port = newPort();
    expect(port.blocking(() => 42)).toBe(42);
    expect(() =>
      port.blocking(() => {
        throw new Error('mine');
      }),
    ).toThrow('mine');
  });
});

describe('D5', () => {
  test('D5: packets do not wait in a batch while another thread idles', async () => {
    const port = newPort({ concurrency: 2 });
    for (let i = 0; i < 10; i++) port.post(i, i);
    const { takers, log } = await Taker.team(port, 1);
    await until(() => log.length === 1);
    // The first holds the first packet; a second thread comes and takes all the others.
    const second = await Taker.start(port, { holds: false });
    await until(() => second.taken.length === 9);
    expect(second.taken.map(({ value }) => value).sort((a, b) => a - b)).toEqual([
      1, 2, 3, 4, 5, 6, 7, 8, 9,
    ]);
    takers[0]!.pass();
    await until(() => port.stats().waiting === 2);
    expect(log).toHaveLength(1);
  });

  test('D5: a thread that waits already gets what is in the other one’s batch', async () => {
    const port = newPort({ concurrency: 2 });
    const idle = await Taker.start(port, { holds: false });
    const holding = await Taker.start(port);
    port.post(0, 0);
    await until(() => holding.taken.length === 1);
    for (let i = 1; i <= 20; i++) port.post(i, i);
    await until(() => idle.taken.length === 20);
    expect(holding.taken).toHaveLength(1);
    holding.pass();
  });

  test('D5: a burst is shared out among the threads that wait', async () => {
    const port = newPort({ concurrency: 3 });
    const { log } = await Taker.team(port, 3);
    for (let i = 0; i < 3; i++) port.post(i, i);
    // All three hold one packet at the same time.
    await until(() => log.length === 3);
    expect(new Set(log.map(({ index }) => index)).size).toBe(3);
  });

  test('D5: completions reaped by a thread that is busy go to one that is not', async () => {
    const port = newPort({ concurrency: 3 });
    const peers = [];
    for (let key = 0; key < 4; key++) peers.push(await keyedWithRawPeer(port, key));
    for (const { socket } of peers) socket.receive();
    const { log, takers } = await Taker.team(port, 2);
    for (const { peer } of peers) peer.write('x');
    await until(() => log.length === 2);
    expect(new Set(log.map(({ index }) => index)).size).toBe(2);
    for (const taker of takers) taker.passAll();
    await until(() => log.length === 4);
  });

  test('D5: a worker blocked in get takes a packet whose operation the main thread submitted', async () => {
    const port = newPort({ concurrency: 2 });
    const { socket, peer } = await keyedWithRawPeer(port, 3);
    const { log } = await Taker.team(port, 1, { holds: false });
    socket.receive({ multishot: true });
    peer.write('for whoever comes');
    await until(() => log.length === 1);
    expect(log[0]).toMatchObject({ type: 'received', key: 3, text: 'for whoever comes' });
  });
});

describe('D6', () => {
  test('D6: get takes from 1 to max packets', () => {
    const port = newPort();
    for (let i = 0; i < 10; i++) port.post(i, i);
    const sizes = [3, 1, 5, 64].map((max) => [...port.get(max)].length);
    expect(sizes).toEqual([3, 1, 5, 1]);
  });

  test('D6: get is refused to a micro-thread that goes on inside of it', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile('for the micro-thread'));
    let refusal: unknown;
    let second = 0;
    const done = spawn(function* () {
      const reads = [0, 8].map((position) => file.read(Buffer.alloc(8), { position }));
      yield* reads[0]!;
      refusal = failureNow(() => port.get(64, 0));
      second = yield* reads[1]!;
    });
    for (let i = 0; i < 5000 && second === 0; i++) expect([...port.get(64, 1)]).toEqual([]);
    await done;
    expect(codeOf(refusal)).toBe('ERR_INVALID_STATE');
    expect(second).toBe(8);
  });

  test('D6: a timeout of 0 polls', () => {
    const port = newPort();
    expect([...port.get(64, 0)]).toEqual([]);
    port.post(1, 1);
    expect([...port.get(64, 0)]).toHaveLength(1);
    expect([...port.get(64, 0)]).toEqual([]);
  });

  test('D6: get returns none when the timeout passes', () => {
    const port = newPort();
    const before = performance.now();
    expect([...port.get(64, 20)]).toEqual([]);
    // Not earlier: that much can be told on any machine.
    expect(performance.now() - before).toBeGreaterThanOrEqual(19);
  });

  test('D6: Infinity waits', async () => {
    const port = newPort({ concurrency: 2 });
    const { log } = await Taker.team(port, 1);
    await turns(100);
    expect(log).toEqual([]);
    port.post(1, 1);
    await until(() => log.length === 1);
  });

  test.each([-1, 1.5, 1001, NaN, Infinity])('D6: a spin of %d is a RangeError', (spin) => {
    expect(() => new CompletionPort({ spinMicroseconds: spin })).toThrow(
      expect.objectContaining({ name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }),
    );
  });

  test('D6: a thread that looks before it sleeps still hears of timers, bytes and the timeout', async () => {
    const port = newPort({ spinMicroseconds: 1000 });
    const { socket, peer } = await keyedWithRawPeer(port, 5);
    socket.receive();
    peer.write('bytes');
    await new Promise((resolve) => setImmediate(resolve));
    for (const packet of port.get(1)) expect(packet.data!.toString()).toBe('bytes');
    port.timer({ key: 6 }).start(3);
    for (const packet of port.get(1)) expect(packet).toMatchObject({ type: 'fired', key: 6 });
    for (let timeout = 0; timeout < 3; timeout++) expect([...port.get(1, timeout)]).toEqual([]);
  });

  test('D6: get of more than 256 packets or of none is a RangeError', () => {
    const port = newPort();
    for (const max of [0, 257, -1, 1.5, NaN]) expect(() => port.get(max)).toThrow(RangeError);
    for (const timeout of [-1, NaN]) expect(() => port.get(1, timeout)).toThrow(RangeError);
  });
});

describe('D7, D8', () => {
  test('D7, D8: many threads: each packet once, in order under its key, no key at two threads', async () => {
    const port = newPort({ concurrency: 4, queueLimit: 500 });
    const options = { threads: 4, messages: 2000, keys: 8, concurrency: 4, serialized: true };
    const { counts, log, keyClashes } = await crowd(port, options);
    expect(counts.every((count) => count === 1)).toBe(true);
    expect(keyClashes).toBe(0);
    // Each producer numbers its messages; under one key they arrive in that order.
    const last = new Map<string, number>();
    for (const [key, number] of log) {
      const stream = `${Math.floor(number / options.messages)} ${key}`;
      expect(number).toBeGreaterThan(last.get(stream) ?? -1);
      last.set(stream, number);
    }
  });

  test('D7: without serialized keys too, each packet goes to one thread, once', async () => {
    const port = newPort({ concurrency: 4, serializeKeys: false });
    const options = { threads: 4, messages: 1000, keys: 3, concurrency: 4, serialized: false };
    const { counts } = await crowd(port, options);
    expect(counts.every((count) => count === 1)).toBe(true);
  });

  test('D7: affine dispatch: each packet once', async () => {
    const port = newPort({ concurrency: 4, dispatch: 'affine' });
    const options = { threads: 3, messages: 500, keys: 5, concurrency: 4, serialized: true };
    const { counts, keyClashes } = await crowd(port, options);
    expect(counts.every((count) => count === 1)).toBe(true);
    expect(keyClashes).toBe(0);
  });

  test('D8: a key stays with the thread that holds it; other keys go on', async () => {
    const port = newPort({ concurrency: 2 });
    const { takers, log } = await Taker.team(port, 2, { max: 1 });
    port.post(7, 1);
    await until(() => log.length === 1);
    const holder = takers[log[0]!.index]!;
    const other = takers[1 - log[0]!.index]!;
    port.post(7, 2);
    port.post(7, 3);
    await turns(100);
    expect(log).toHaveLength(1);
    port.post(8, 4);
    await until(() => other.taken.length === 1);
    expect(other.taken[0]!.key).toBe(8);
    holder.pass();
    await until(() => log.length === 3);
    expect(log[2]).toMatchObject({ key: 7, value: 2 });
    for (const taker of takers) taker.passAll();
    await until(() => log.length === 4);
    expect(log[3]).toMatchObject({ key: 7, value: 3 });
  });

  test('D8: can be turned off', async () => {
    const port = newPort({ concurrency: 2, serializeKeys: false });
    const { log } = await Taker.team(port, 2, { max: 1 });
    port.post(7, 1);
    port.post(7, 2);
    await until(() => log.length === 2);
    expect(new Set(log.map(({ index }) => index)).size).toBe(2);
  });

  test('D8: the event loop holds a key only while its handler runs', async () => {
    const port = newPort({ concurrency: 2 });
    const { takers, log } = await Taker.team(port, 1, { max: 1 });
    port.post(7, 1);
    await until(() => log.length === 1);
    const collector = new Collector(port);
    port.post(7, 2);
    await turns(100);
    expect(collector.packets).toEqual([]);
    takers[0]!.pass();
    await until(() => log.length + collector.packets.length === 2);
  });
});

describe('D9', () => {
  test('D9: with affine dispatch, at the thread that submitted it', async () => {
    const port = newPort({ dispatch: 'affine', buffers: { size: 1024, count: 64 } });
    const { socket, peer } = await keyedWithRawPeer(port, 1);
    const chunks: Buffer[] = [];
    new Collector(port, (packet) => {
      if (packet.data) chunks.push(Buffer.from(packet.data));
    });
    socket.receive({ multishot: true });
    peer.end(pattern(300_000));
    await until(() => chunks.reduce((sum, chunk) => sum + chunk.length, 0) >= 300_000);
    expect(Buffer.concat(chunks).equals(pattern(300_000))).toBe(true);
  });

  test('D9: packets of one multishot receive arrive in stream order at several threads', async () => {
    const port = newPort({ concurrency: 4, buffers: { size: 1024, count: 64 } });
    const connections = 4;
    const total = 400_000;
    // Per connection: bytes seen, errors.
    const seen = new Int32Array(new SharedArrayBuffer(8 * connections));
    const errors: unknown[] = [];
    for (let i = 0; i < 3; i++) {
      const worker = new Worker(new URL('../support/workers/stream.mjs', import.meta.url), {
        workerData: { token: port.token, seen },
        execArgv: [],
      });
      worker.on('error', (error) => errors.push(error));
      onTestFinished(async () => void (await worker.terminate()));
    }
    await until(() => port.stats().waiting === 3);
    const all = pattern(total);
    const random = new Random(newSeed('D9'));
    const peers: net.Socket[] = [];
    for (let key = 0; key < connections; key++) {
      const pair = await keyedWithRawPeer(port, key);
      pair.socket.receive({ multishot: true });
      peers.push(pair.peer);
    }
    await Promise.all(
      peers.map(async (peer) => {
        for (let at = 0; at < total;) {
          const end = Math.min(total, at + 4 * (1 + random.below(3000)));
          peer.write(all.subarray(at, end));
          at = end;
          if (random.below(3) === 0) await turns(1);
        }
      }),
    );
    await until(
      () =>
        errors.length > 0 || peers.every((_, key) => seen[2 * key] === total || seen[2 * key + 1]),
    );
    expect(errors).toEqual([]);
    expect([...seen]).toEqual(peers.flatMap(() => [total, 0]));
  });
});

describe('packets()', () => {
  test('ends with a signal: at once where it waits, else when the next packet is asked for', async () => {
    const port = newPort();
    const controller = new AbortController();
    const waiting = failureOf(async () => {
      for await (const packet of port.packets({ signal: controller.signal }))
        expect(packet).toBeUndefined();
    });
    await turns();
    controller.abort('enough');
    expect(await waiting).toMatchObject({ name: 'AbortError', code: 'ABORT_ERR', cause: 'enough' });
    const other = new AbortController();
    port.post(7, 70);
    port.post(8);
    let value = 0;
    const handling = await failureOf(async () => {
      for await (const packet of port.packets({ signal: other.signal })) {
        other.abort();
        await turns(2);
        value = packet.value!;
      }
    });
    expect([handling.name, value]).toEqual(['AbortError', 70]);
    const late = failureOf(() => port.packets({ signal: AbortSignal.abort() }).next());
    expect((await late).name).toBe('AbortError');
    // What was not taken is still there.
    for (const packet of port.get(1, 0)) expect(packet.key).toBe(8);
  });

  test('ends with ETIMEDOUT when no packet comes in time, and takes no more', async () => {
    const port = newPort();
    port.post(1);
    let taken = 0;
    const error = await failureOf(async () => {
      for await (const packet of port.packets({ timeout: 50 })) taken += packet.key;
    });
    expect([error.code, taken]).toEqual(['ETIMEDOUT', 1]);
    port.consume(() => undefined).stop();
  });

  test('checks its options, and has Symbol.asyncDispose', async () => {
    const port = newPort();
    const wrong = [{ timeout: -1 }, { signal: 1 }, { tmeout: 1 }];
    for (const options of wrong) expect(() => port.packets(options as object)).toThrow();
    const packets = port.packets();
    await (packets as unknown as AsyncDisposable)[Symbol.asyncDispose]();
    expect((await packets.next()).done).toBe(true);
  });
});

describe('D10', () => {
  test('D10: closing wakes every thread that is blocked in get', async () => {
    const port = newPort({ concurrency: 2 });
    const { takers } = await Taker.team(port, 4);
    await port.close();
    await until(() => takers.every(({ ended }) => ended));
    expect(takers.map(({ ended }) => ended)).toEqual(Array(4).fill('ERR_PORT_CLOSED'));
    await until(() => takers.every(({ exited }) => exited));
  });

  test.each(['close', 'detach'] as const)(
    'D10: the async loop of the thread that calls %s() ends',
    async (how) => {
      const port = newPort();
      const looping = (async () => {
        for await (const packet of port.packets()) expect(packet).toBeUndefined();
      })();
      await turns();
      await port[how]();
      await looping;
    },
  );

  test('D10: closing ends the async loop of another thread, with nothing else going on there', async () => {
    const port = newPort({ concurrency: 2 });
    const worker = new Worker(new URL('../support/workers/looper.mjs', import.meta.url), {
      workerData: port.token,
      execArgv: [],
    });
    const messages: unknown[] = [];
    worker.on('message', (message) => messages.push(message));
    onTestFinished(async () => void (await worker.terminate()));
    await until(() => port.stats().waiting === 1);
    await turns(100);
    await port.close();
    await until(() => messages.length === 1);
    expect(messages).toEqual(['ERR_PORT_CLOSED']);
  });

  test('D10: closing tells all that another thread awaits the same, whatever it has begun', async () => {
    const server = await rawServer((socket) => {
      const feed = setInterval(() => socket.write('x'), 1);
      socket.on('error', () => undefined).on('close', () => clearInterval(feed));
    });
    const random = new Random(newSeed('D10'));
    for (let round = 0; round < 20; round++) {
      const port = newPort({ concurrency: 2 });
      const worker = new Worker(new URL('../support/workers/styles.mjs', import.meta.url), {
        workerData: { token: port.token, peer: server.port },
        execArgv: [],
      });
      const messages: unknown[] = [];
      worker.on('message', (message) => messages.push(message));
      onTestFinished(async () => void (await worker.terminate()));
      await until(() => messages.includes('ready'));
      await sleep(random.below(10));
      await port.close();
      await until(() => messages.length === 2);
      const waits = ['accept', 'receive', 'every', 'readLines', 'send', 'timer'];
      const kinds = ['listener', 'socket', 'timer', 'file'];
      expect(messages[1]).toEqual({
        ...Object.fromEntries(waits.map((what) => [what, 'ERR_PORT_CLOSED'])),
        consume: 'ended',
        ...Object.fromEntries(kinds.map((kind) => [`close ${kind}`, 'ended'])),
      });
    }
  });

  test('D10: the thread that closes is told the same of all it awaits, begun before or after', async () => {
    const port = newPort();
    const { client, server, listener } = await connectedPair(port);
    const file = await port.open(temporaryFile('some bytes'));
    const timer = port.timer();
    const codes: (string | undefined)[] = [];
    const told = async (begin: () => PromiseLike<unknown>): Promise<void> => {
      try {
        await begin();
        codes.push('none');
      } catch (error) {
        codes.push(codeOf(error));
      }
    };
    /** The body of a loop, which is in the middle of something when the port is closed. */
    const body = async (): Promise<void> => {
      for await (const bytes of client) {
        await told(() => port.timer().wait(60_000));
        await told(() => client.send(bytes));
        await told(() => file.read(Buffer.alloc(3), { position: 0 }));
      }
    };
    const looping = body();
    await server.send('into the loop');
    await turns(5);
    const under = [
      told(() => server.receive()),
      told(() => listener.accept()),
      told(() => timer.wait(60_000)),
      told(() => server.send(Buffer.alloc(64 << 20))),
      told(() => server.send('behind it')),
    ];
    await turns(1);
    const closing = port.close();
    under.push(
      told(() => server.send('late')),
      told(() => file.stat()),
      told(() => port.open('/dev/null')),
    );
    await Promise.all([closing, looping, ...under]);
    await told(() => server.receive());
    expect(codes).toEqual(codes.map(() => 'ERR_PORT_CLOSED'));
    expect(codes).toHaveLength(12);
  });

  test('D10: a close that another thread forestalls by closing the port is done', async () => {
    const port = newPort({ concurrency: 2 });
    const closer = new Worker(new URL('../support/workers/closer.mjs', import.meta.url), {
      workerData: port.token,
      execArgv: [],
    });
    onTestFinished(async () => void (await closer.terminate()));
    await new Promise((resolve) => closer.once('message', resolve));
    const timers = await Promise.all(Array.from({ length: 500 }, () => port.timer()));
    closer.postMessage('close');
    for (const timer of timers) await timer.close();
    await until(() => port.closed);
  });

  test('D10, T1: a close whose thread ends before it is done is none', async () => {
    const port = newPort({ concurrency: 2 });
    const quitter = new Worker(new URL('../support/workers/quitter.mjs', import.meta.url), {
      workerData: port.token,
      execArgv: [],
    });
    await new Promise((resolve) => quitter.once('exit', resolve));
    const { client, server } = await connectedPair(port);
    const receiving = client.receive();
    receiving.cancel();
    expect((await failureOf(() => receiving)).code).toBe('ECANCELED');
    const aborted = client.receive({ signal: AbortSignal.timeout(1) });
    expect((await failureOf(() => aborted)).name).toBe('AbortError');
    expect((await failureOf(() => port.open('/nothing/there'))).code).toBe('ENOENT');
    await server.send('still here');
    expect((await client.receive())?.toString()).toBe('still here');
  });

  test('D10: micro-threads of other threads are cancelled', async () => {
    const server = await rawServer((socket) => socket.on('error', () => undefined));
    const port = newPort({ concurrency: 2 });
    const worker = new Worker(new URL('../support/workers/micro.mjs', import.meta.url), {
      workerData: { token: port.token, peer: server.port },
      execArgv: [],
    });
    const messages: unknown[] = [];
    worker.on('message', (message) => messages.push(message));
    onTestFinished(async () => void (await worker.terminate()));
    await until(() => messages.includes('ready'));
    await turns();
    await port.close();
    await until(() => messages.length === 2);
    expect(messages[1]).toEqual({ seen: [], ends: Array(3).fill('ECANCELED') });
  });

  test('D10: afterwards everything is ERR_PORT_CLOSED', async () => {
    const port = newPort();
    const closing = port.close();
    for (const call of [
      () => port.post(1),
      () => port.tryPost(1),
      () => port.get(1, 0),
      () => port.packets(),
      () => port.consume(() => undefined),
      () => port.open(process.execPath),
      () => port.listen({ port: 0 }),
      () => port.connect({ port: 1 }),
      () => port.timer(),
      () => port.allocate(1),
      () => port.room(),
      () => port.stats(),
      () => port.blocking(() => 1),
    ]) {
      expect(call).toThrow(expect.objectContaining({ code: 'ERR_PORT_CLOSED' }));
    }
    await closing;
    expect(() => port.get(1, 0)).toThrow(expect.objectContaining({ code: 'ERR_PORT_CLOSED' }));
    expect(port.closed).toBe(true);
    await port.close();
  });

  test('D10: a thread in the middle of a packet is told at its next get', async () => {
    const port = newPort({ concurrency: 2 });
    const { takers, log } = await Taker.team(port, 1);
    port.post(1, 1);
    await until(() => log.length === 1);
    await port.close();
    expect(takers[0]!.ended).toBeUndefined();
    takers[0]!.pass();
    await until(() => takers[0]!.ended === 'ERR_PORT_CLOSED');
  });
});
