import { runInNewContext } from 'node:vm';
import { Worker } from 'node:worker_threads';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  Collector,
  failureNow,
  keyedWithRawPeer,
  newPort,
  root,
  take,
  turns,
  until,
  type CompletionPort,
  type Message,
  type Packet,
} from '../support/harness';

/** Runs `body` in a worker that is attached to `port`. */
function worker(port: CompletionPort, body: string, data: object = {}): Worker {
  const code = `
    const { CompletionPort } = require(${JSON.stringify(`${root}dist/index.js`)});
    const { workerData, parentPort } = require('node:worker_threads');
    const port = CompletionPort.attach(workerData.token);
    ${body}`;
  const workerData = { token: port.token, ...data };
  const started = new Worker(code, { eval: true, workerData, execArgv: [] });
  onTestFinished(async () => void (await started.terminate()));
  return started;
}

/** Nobody has a message's memory but the threads that post. */
async function allFree(port: CompletionPort): Promise<void> {
  await until(() => port.stats().allocatedBytes === 0);
}

/** Whether it is gone: memory of the port can't be, and Node.js ignores it in the list or throws. */
function tryToTransfer(view: Uint8Array): boolean {
  try {
    structuredClone(view, { transfer: [view.buffer as ArrayBuffer] });
  } catch (error) {
    expect((error as Error).name).toBe('DataCloneError');
  }
  return view.length === 0;
}

function patterned(length: number, seed = 0): Buffer {
  return Buffer.from(Uint8Array.from({ length }, (_, i) => (i * 31 + seed) & 0xff));
}

/** Of Node.js 20, which TypeScript's library for it does not know. */
type Growing = new (length: number, options: { maxByteLength: number }) => ArrayBuffer;

describe('Q3: bytes', () => {
  test.each([0, 1, 63, 64, 255, 256, 257, 4095, 4096, 4097, 100_000, 3_000_000])(
    'Q3: %d bytes arrive as posted',
    async (length) => {
      const port = newPort();
      const bytes = patterned(length);
      port.post(9, bytes);
      port.post(9, new Uint8Array(bytes));
      for (const packet of await take(port, 2)) {
        expect(packet).toMatchObject({ type: 'message', key: 9, handle: undefined, bytes: length });
        expect(packet.data!.equals(bytes)).toBe(true);
        expect(packet.message).toBe(packet.data);
      }
      expect([...port.get(1, 0)]).toEqual([]);
      await allFree(port);
    },
  );

  test('Q3: they are those of the call, whatever the program does with its own afterwards', async () => {
    const port = newPort();
    for (const length of [10, 1000]) {
      const bytes = patterned(length);
      const before = Buffer.from(bytes);
      port.post(1, bytes);
      bytes.fill(0);
      expect((await take(port, 1))[0]!.data!.equals(before)).toBe(true);
    }
  });

  test('Q3: a view of a part, a subclass, shared and growing memory arrive as they are', async () => {
    const port = newPort();
    class Own extends Uint8Array {}
    const growing = new (ArrayBuffer as Growing)(4, { maxByteLength: 1 << 20 });
    const shared = new (SharedArrayBuffer as unknown as Growing)(4, { maxByteLength: 1 << 20 });
    const views = [
      Buffer.from('a longer text').subarray(2, 8),
      Own.from([1, 2, 3]),
      new Uint8Array(growing),
      new Uint8Array(shared),
      new Uint8Array(new SharedArrayBuffer(3)),
    ];
    for (const view of views) port.post(1, view);
    const packets = await take(port, views.length);
    for (const [i, { data }] of packets.entries()) expect([...data!]).toEqual([...views[i]!]);
  });

  test('Q3: what an array says of its own length is not believed', async () => {
    const port = newPort();
    const liars: [number, number][] = [
      [8, 1_000_000],
      [8, 0],
      [300, 8],
      [300, 5000],
    ];
    for (const [length, claimed] of liars) {
      const liar = new Uint8Array(patterned(length));
      Object.defineProperty(liar, 'length', { value: claimed });
      Object.defineProperty(liar, 'byteLength', { value: Math.max(1, claimed) });
      port.post(1, liar);
    }
    port.post(1, Buffer.from('a neighbour'));
    const packets = await take(port, liars.length + 1);
    for (const [i, [length]] of liars.entries()) {
      expect(packets[i]!.data!.equals(patterned(length))).toBe(true);
    }
    expect(String(packets.at(-1)!.data)).toBe('a neighbour');
  });

  test('Q3: memory that is gone is refused, and nothing is queued', () => {
    const port = newPort();
    const moved = new Uint8Array(8);
    structuredClone(moved.buffer, { transfer: [moved.buffer] });
    expect(failureNow(() => port.post(1, moved)).code).toBe('ERR_INVALID_ARG_VALUE');
    const released = port.allocate(100);
    port.release(released);
    expect(failureNow(() => port.post(1, released))).toBeInstanceOf(Error);
    expect(port.stats().queueDepth).toBe(0);
  });

  test('M5: the memory that is lent holds no bytes of another message, and goes nowhere', async () => {
    const port = newPort();
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < 40; i++) port.post(i, Buffer.alloc(i % 2 === 0 ? 200 : 2000, 1 + i));
      for (let taken = 0; taken < 40;) {
        for (const packet of port.get(64, 0)) {
          taken++;
          const all = new Uint8Array(packet.data!.buffer);
          const foreign = all.some((byte) => byte !== 0 && byte !== 1 + packet.key);
          expect(foreign).toBe(false);
          if (tryToTransfer(all)) {
            const code = 'ERR_BUFFER_RELEASED';
            expect(() => packet.data).toThrow(expect.objectContaining({ code }));
          } else {
            expect(packet.data).toHaveLength(packet.bytes);
          }
        }
      }
    }
    await turns(1);
  });

  test('M5: what small messages leave behind is not in the next ones', async () => {
    const port = newPort();
    for (const length of [250, 3]) {
      for (let i = 0; i < 64; i++) port.post(1, Buffer.alloc(length, 0xee));
      for (let taken = 0; taken < 64;) {
        for (const packet of port.get(64, 0)) {
          taken++;
          const all = new Uint8Array(packet.data!.buffer);
          expect(all.filter((byte) => byte === 0xee)).toHaveLength(length);
        }
      }
    }
    await turns(1);
  });
});

describe('Q3: values', () => {
  const values: Message[] = [
    'text',
    'ünïcödé ✓'.repeat(100),
    '',
    null,
    true,
    10n,
    [1, 'two', { three: 3 }],
    { at: new Date(5), of: new Map([['key', new Set([1])]]) },
    new Float64Array([1.5, 2]),
    { bytes: new Uint8Array([1, 2, 3]) },
    'x'.repeat(300_000),
  ];
  test.each(values.map((value) => [value]))('Q3: %o arrives as posted', async (value) => {
    const port = newPort();
    port.post(3, value);
    const [packet] = await take(port, 1);
    expect(packet).toMatchObject({ type: 'message', key: 3, data: undefined });
    expect(packet!.message).toEqual(value);
    await allFree(port);
  });

  test('Q3: a number is a posted packet, not a message', async () => {
    const port = newPort();
    port.post(1, 5);
    port.post(1, '5');
    const [number, text] = await take(port, 2);
    expect(number).toMatchObject({ type: 'posted', value: 5, message: undefined });
    expect(text).toMatchObject({ type: 'message', message: '5' });
  });

  test('Q3: what can be moved or shared alone is refused, and nothing is queued', () => {
    const port = newPort();
    const { port1, port2 } = new MessageChannel();
    const wrong: unknown[] = [() => 1, Symbol('x'), { deep: [() => 1] }, port1];
    wrong.push({ shared: new SharedArrayBuffer(1) });
    for (const value of wrong) {
      expect(failureNow(() => port.post(1, value as Message)).name).toBe('DataCloneError');
    }
    port1.close();
    port2.close();
    expect(port.stats().queueDepth).toBe(0);
  });

  test('Q3: a getter of the value may post others', async () => {
    const port = newPort({ queueLimit: 8 });
    const value = {
      get inner() {
        port.tryPost(1, 'inner');
        return 1;
      },
    };
    while (port.tryPost(1, value));
    const messages = (await take(port, 8)).map(({ message }) => message);
    expect(messages.filter((message) => message === 'inner')).toHaveLength(4);
    expect([...port.get(1, 0)]).toEqual([]);
  });
});

describe('Q3: at hand', () => {
  test('Q3: bytes are lent until the next packet; keep() and toObject() are copies', async () => {
    const port = newPort();
    for (let i = 0; i < 3; i++) port.post(i, patterned(20, i));
    const kept: Buffer[] = [];
    const packets: Packet[] = [];
    for (const packet of port.get(3, 0)) {
      packets.push(packet);
      if (packet.type !== 'message') continue;
      kept.push(packet.keep());
      expect(packet.data).toBe(kept.at(-1));
      expect(() => packet.keep()).toThrow(expect.objectContaining({ code: 'ERR_BUFFER_RELEASED' }));
      expect(packet.toObject().data!.equals(patterned(20, packet.key))).toBe(true);
    }
    expect([...port.get(1, 0)]).toEqual([]);
    expect(() => packets[0]!.data).toThrow(
      expect.objectContaining({ code: 'ERR_PACKET_RELEASED' }),
    );
    for (let i = 0; i < 64; i++) port.post(9, Buffer.alloc(20, 0xff));
    await take(port, 64);
    for (const [i, bytes] of kept.entries()) expect(bytes.equals(patterned(20, i))).toBe(true);
    for (const bytes of kept) port.release(bytes);
    await until(() => [...port.get(1, 0)].length === 0 && port.stats().allocatedBytes === 0);
  });

  test('Q3: what is released early is not at hand any more; a value has no bytes to keep', async () => {
    const port = newPort();
    const released = { code: 'ERR_BUFFER_RELEASED' };
    port.post(1, 'value');
    port.post(1, Buffer.from('bytes'));
    for (const packet of port.get(2, 0)) {
      if (packet.type !== 'message') continue;
      if (packet.data === undefined) {
        expect(() => packet.keep()).toThrow(expect.objectContaining({ code: 'ERR_INVALID_STATE' }));
        continue;
      }
      const { data } = packet;
      packet.release();
      expect(() => packet.data).toThrow(expect.objectContaining(released));
      expect(() => packet.release()).toThrow(expect.objectContaining(released));
      expect(() => port.post(2, data)).toThrow(expect.objectContaining(released));
    }
    await turns(1);
  });

  test('D11: in packets() they stay while the loop awaits, also when their memory is in demand', async () => {
    const port = newPort();
    for (let i = 0; i < 6; i++) port.post(i, i < 3 ? patterned(200, i) : patterned(3000, i));
    let seen = 0;
    for await (const packet of port.packets()) {
      const view = packet.data!;
      const { key } = packet;
      for (let i = 0; i < 20; i++) port.post(100, Buffer.alloc(200, 0xaa));
      await turns(3);
      expect(view.equals(patterned(view.length, key))).toBe(key < 100);
      expect(packet.data!.equals(view)).toBe(true);
      if (key < 100 && ++seen === 6) break;
    }
    await until(() => {
      for (const packet of port.get(64, 0)) expect(packet.bytes).toBe(200);
      return port.stats().queueDepth === 0 && port.stats().allocatedBytes === 0;
    });
  });

  test('O2: a send of them goes out right, whatever becomes of their memory', async () => {
    const port = newPort();
    const { socket, peer } = await keyedWithRawPeer(port, 5);
    const received: Buffer[] = [];
    peer.on('data', (bytes) => received.push(bytes));
    const sizes = [10, 256, 257, 5000, 70_000];
    let sent = 0;
    port.consume((packet) => {
      if (packet.type !== 'message') return;
      socket.send(packet.data!);
      sent++;
    });
    const all: Buffer[] = [];
    for (let i = 0; i < 300; i++) {
      const bytes = patterned(sizes[i % sizes.length]!, i);
      all.push(bytes);
      port.post(1, bytes);
      if (i % 20 === 19) await until(() => sent === i + 1);
    }
    const wanted = Buffer.concat(all);
    await until(() => received.reduce((sum, { length }) => sum + length, 0) === wanted.length);
    expect(Buffer.concat(received).equals(wanted)).toBe(true);
    await allFree(port);
  });
});

describe('Q3: bounds', () => {
  test('Q2: a full queue takes no message, and keeps no memory for it', async () => {
    const port = newPort({ queueLimit: 10 });
    const large = Buffer.alloc(10_000);
    for (let i = 0; i < 10; i++) expect(port.tryPost(1, large)).toBe(true);
    const { allocatedBytes } = port.stats();
    for (let i = 0; i < 10; i++) expect(port.tryPost(1, large)).toBe(false);
    expect(() => port.post(1, 'x')).toThrow(expect.objectContaining({ code: 'ERR_QUEUE_FULL' }));
    expect(port.stats().allocatedBytes).toBe(allocatedBytes);
    await take(port, 10);
    expect([...port.get(1, 0)]).toEqual([]);
    await allFree(port);
  });

  test.each([64, 5000])(
    'M7: the memory limit refuses messages of %d bytes at once',
    async (size) => {
      const port = newPort({ memoryLimit: 64 * 1024, queueLimit: 10_000 });
      const bytes = Buffer.alloc(size, 1);
      let posted = 0;
      const error = failureNow(() => {
        for (;;) {
          port.post(1, bytes);
          posted++;
        }
      });
      expect(error.code).toBe('ERR_MEMORY_LIMIT');
      expect(posted).toBeGreaterThan(5);
      expect(port.stats().queueDepth).toBe(posted);
      for (const packet of await take(port, posted)) expect(packet.bytes).toBe(size);
      expect([...port.get(1, 0)]).toEqual([]);
      await allFree(port);
      port.post(1, bytes);
    },
  );

  test('Q3: more than 64 MiB are refused', () => {
    const port = newPort();
    const error = failureNow(() => port.post(1, new Uint8Array(64 * 1024 * 1024 + 1)));
    expect(error.code).toBe('ERR_OUT_OF_RANGE');
  });
});

describe('Q3: threads', () => {
  test('Q3: a worker that ends right after its posts loses none', async () => {
    for (const how of ['process.exit(0);', 'throw new Error("on purpose");', 'port.detach();']) {
      const port = newPort();
      const body = `
        for (let i = 0; i < 100; i++) port.post(5, Buffer.alloc(i % 2 ? 40 : 400, i));
        port.publish([5, 5], Buffer.from('the last'));
        ${how}`;
      const poster = worker(port, body);
      poster.on('error', () => undefined);
      await new Promise((resolve) => poster.once('exit', resolve));
      const packets = await take(port, 102);
      for (let i = 0; i < 100; i++) {
        expect(packets[i]!.data!.equals(Buffer.alloc(i % 2 ? 40 : 400, i))).toBe(true);
      }
      expect(String(packets[101]!.data)).toBe('the last');
      expect([...port.get(1, 0)]).toEqual([]);
      await allFree(port);
    }
  });

  test('T1: a worker that is ended in the middle of a message gives its memory back', async () => {
    for (const size of [100, 50_000]) {
      const port = newPort({ concurrency: 2 });
      const at = new Int32Array(new SharedArrayBuffer(4));
      const body = `
        for (const packet of port.get(1)) {
          packet.data;
          Atomics.store(workerData.at, 0, 1);
          for (;;);
        }`;
      const stuck = worker(port, body, { at });
      await until(() => port.stats().threads === 2);
      port.publish([1, 2, 3], Buffer.alloc(size, 7));
      await until(() => Atomics.load(at, 0) === 1);
      await stuck.terminate();
      const packets = await take(port, 3);
      expect(packets.map(({ type }) => type).sort()).toEqual(['abandoned', 'message', 'message']);
      expect([...port.get(1, 0)]).toEqual([]);
      await allFree(port);
    }
  });

  test('T1: a worker that is ended while its loop awaits gives back what it retained', async () => {
    const port = newPort({ concurrency: 2 });
    const body = `
      (async () => {
        for await (const packet of port.packets()) {
          parentPort.postMessage(packet.data.length);
          await new Promise(() => setInterval(() => undefined, 1000));
        }
      })();`;
    const waits = worker(port, body);
    const told = new Promise((resolve) => waits.once('message', resolve));
    port.post(1, Buffer.alloc(50_000));
    expect(await told).toBe(50_000);
    await turns(20);
    expect(port.stats().allocatedBytes).toBeGreaterThan(0);
    await waits.terminate();
    await allFree(port);
  });

  test('Q3: messages from many threads to many threads are all whole', async () => {
    const port = newPort({ concurrency: 4 });
    const counts = new Int32Array(new SharedArrayBuffer(8));
    const takes = `
      port.consume((packet) => {
        const { data } = packet;
        const whole = data.every((byte) => byte === data[0]);
        Atomics.add(workerData.counts, whole ? 0 : 1, 1);
      });`;
    const posts = `
      for (let i = 0; i < 500; i++) {
        const bytes = Buffer.alloc(1 + (i * 37) % 600, i);
        if (i % 5 === 0) port.publish([i, i + 1, i + 2, i + 3], bytes);
        else port.post(i % 50, bytes);
      }`;
    for (let i = 0; i < 2; i++) worker(port, takes, { counts });
    for (let i = 0; i < 2; i++) worker(port, posts);
    await until(() => Atomics.load(counts, 0) + Atomics.load(counts, 1) === 1600);
    expect(counts[1]).toBe(0);
    await allFree(port);
  });
});

describe('Q4', () => {
  test.each([10, 10_000])('Q4: %d bytes for many keys are there once', async (size) => {
    const port = newPort();
    const keys = Uint32Array.from({ length: 1000 }, (_, i) => i * 3);
    const bytes = patterned(size);
    port.publish(keys, bytes);
    expect(port.stats().allocatedBytes).toBeLessThanOrEqual(16_384);
    const packets = await take(port, 1000);
    expect(packets.map(({ key }) => key)).toEqual([...keys]);
    for (const { data } of packets) expect(data!.equals(bytes)).toBe(true);
    expect([...port.get(1, 0)]).toEqual([]);
    await allFree(port);
  });

  test('Q4: a number, a value, a key that stands there twice, no key at all', async () => {
    const port = newPort();
    port.publish([1, 2, 1], 7);
    port.publish([3], { value: 1 });
    port.publish([], 'nobody');
    const packets = await take(port, 4);
    expect(packets.map(({ key, value }) => [key, value]).slice(0, 3)).toEqual([
      [1, 7],
      [2, 7],
      [1, 7],
    ]);
    expect(packets[3]!.message).toEqual({ value: 1 });
    expect([...port.get(1, 0)]).toEqual([]);
  });

  test('D7: what one thread posts and publishes under a key arrives in that order', async () => {
    const port = newPort();
    const collector = new Collector(port);
    for (let i = 0; i < 300; i += 3) {
      port.post(1, String(i));
      port.publish([1, 2], String(i + 1));
      port.post(1, String(i + 2));
      if (i % 50 === 0) await turns(1);
    }
    await collector.count(400);
    const seen = collector.packets.filter(({ key }) => key === 1).map(({ message }) => message);
    expect(seen).toEqual(Array.from({ length: 300 }, (_, i) => String(i)));
  });

  test('Q4: where the queue has no room for all there is none for any', async () => {
    const port = newPort({ queueLimit: 10 });
    expect(port.tryPublish([1, 2, 3, 4, 5, 6], 'x')).toBe(true);
    expect(port.tryPublish([1, 2, 3, 4, 5, 6], Buffer.alloc(1000))).toBe(false);
    expect(() => port.publish([1, 2, 3, 4, 5], 1)).toThrow(
      expect.objectContaining({ code: 'ERR_QUEUE_FULL' }),
    );
    expect(port.stats().queueDepth).toBe(6);
    expect(port.tryPublish([1, 2, 3, 4], 'x')).toBe(true);
    expect(port.tryPost(1, 1)).toBe(false);
    await take(port, 10);
    expect([...port.get(1, 0)]).toEqual([]);
    await allFree(port);
  });

  test('Q4: wrong keys, more keys than the queue holds, no message', () => {
    const port = newPort({ queueLimit: 10 });
    const code = (fn: () => unknown): string | undefined => failureNow(fn).code;
    expect(code(() => port.publish('x' as never, 1))).toBe('ERR_INVALID_ARG_TYPE');
    expect(code(() => port.publish([1, -1], 1))).toBe('ERR_OUT_OF_RANGE');
    expect(code(() => port.publish([1, 'a'] as never, 1))).toBe('ERR_INVALID_ARG_TYPE');
    expect(code(() => port.publish(new Uint32Array(11), 1))).toBe('ERR_OUT_OF_RANGE');
    expect(code(() => port.publish([1], undefined as never))).toBe('ERR_INVALID_ARG_TYPE');
    expect(port.stats().queueDepth).toBe(0);
  });

  test('D10: publishing at a port that another thread has closed says so', async () => {
    const port = newPort({ concurrency: 2 });
    const state = new Int32Array(new SharedArrayBuffer(4));
    const body = `
      Atomics.store(workerData.state, 0, 1);
      Atomics.wait(workerData.state, 0, 1);
      let code = 'none';
      try { port.publish([1], Buffer.from('x')); } catch (error) { code = error.code; }
      parentPort.postMessage(code);`;
    const late = worker(port, body, { state });
    const code = new Promise((resolve) => late.once('message', resolve));
    await until(() => Atomics.load(state, 0) === 1);
    await port.close();
    Atomics.store(state, 0, 2);
    Atomics.notify(state, 0);
    expect(await code).toBe('ERR_PORT_CLOSED');
  });
});

describe('Q3, Q4: what the program itself does while a message is looked at', () => {
  /** A value whose copying runs `body`. */
  const asking = (body: () => unknown): object => ({
    get a() {
      return body();
    },
  });

  test('Q4: what is posted meanwhile is not lost, nor is what follows', async () => {
    const port = newPort();
    port.publish(
      [1],
      asking(() => port.post(5)),
    );
    const bytes = Buffer.from('bytes');
    Object.defineProperty(bytes, 'buffer', {
      get: () => {
        port.post(6);
        return new ArrayBuffer(8);
      },
    });
    port.publish([1], bytes);
    for (let i = 0; i < 100; i++) port.post(7, i);
    const keys = Array.from(await take(port, 104), ({ key }) => key);
    expect(keys.filter((key) => key === 5)).toHaveLength(1);
    expect(keys.filter((key) => key === 6).length).toBeGreaterThanOrEqual(1);
    expect(keys.filter((key) => key === 7)).toHaveLength(100);
  });

  test('M2: a port that is left meanwhile is written to no more', async () => {
    const port = newPort();
    const other = worker(port, `port.consume(() => undefined); parentPort.postMessage(0);`);
    await new Promise((resolve) => other.once('message', resolve));
    port.publish([1], 'a block is begun');
    const { CompletionPort: Port } = await import('../../dist/index.js');
    const { token } = port;
    let again: CompletionPort | undefined;
    const blocks: Buffer[] = [];
    const leaving = asking(() => {
      port.detach();
      again = Port.attach(token) as CompletionPort;
      for (let i = 0; i < 80; i++) blocks.push(again.allocate(4096).fill(0xee));
      return 'secret';
    });
    expect(failureNow(() => port.publish([1], leaving))).toMatchObject({ code: 'ERR_PORT_CLOSED' });
    expect(blocks).toHaveLength(80);
    for (const block of blocks) expect(block.every((byte) => byte === 0xee)).toBe(true);
    await again!.close();
  });

  test('Q3: what it throws is what the post throws', () => {
    const port = newPort();
    const mine = new Error('mine');
    const throwing = asking(() => {
      throw mine;
    });
    expect(failureNow(() => port.post(1, throwing))).toBe(mine);
    expect(failureNow(() => port.publish([1], throwing))).toBe(mine);
  });
});

test('Q3: a message is no place to read into, whatever its length', async () => {
  const port = newPort();
  const file = await port.open(`${root}package.json`);
  for (const length of [16, 8192]) {
    port.post(1, patterned(length));
    let bytes: Buffer | undefined;
    for (const packet of port.get(1)) {
      if (packet.type !== 'message') continue;
      const here = packet.data!;
      bytes = here;
      expect(failureNow(() => void file.read(here))).toMatchObject({
        code: 'ERR_INVALID_ARG_VALUE',
      });
      expect(failureNow(() => void file.readv([here]))).toMatchObject({
        code: 'ERR_INVALID_ARG_VALUE',
      });
      expect(bytes).toEqual(patterned(length));
    }
    expect(bytes).toBeDefined();
  }
});

test('Q4: as many keys as queueLimit are published where this thread has taken all', async () => {
  const port = newPort({ queueLimit: 1024 });
  for (let i = 0; i < 8; i++) port.post(1, i);
  await take(port, 8);
  expect(port.tryPublish(new Uint32Array(1024), 'all')).toBe(true);
  expect(failureNow(() => port.publish(new Uint32Array(1025), 'more'))).toMatchObject({
    code: 'ERR_OUT_OF_RANGE',
  });
});

test('Q4: keys that are gone, or lie about how many they are, are refused', () => {
  const port = newPort();
  const gone = Uint32Array.of(1, 2);
  structuredClone(gone, { transfer: [gone.buffer] });
  expect(failureNow(() => port.publish(gone, 1))).toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
  for (const length of [-1, 1e12, 1.5]) {
    const lying = new Proxy([1], {
      get: (target, name) => (name === 'length' ? length : Reflect.get(target, name)),
    });
    expect(failureNow(() => port.publish(lying, 1))).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
  }
});

test('Q3: typed arrays of another realm are bytes, and keys', async () => {
  const port = newPort();
  const bytes = runInNewContext('new Uint8Array([1, 2, 3])') as Uint8Array;
  const keys = runInNewContext('new Uint32Array([4, 5])') as Uint32Array;
  port.publish(keys, bytes);
  port.post(6, { bytes });
  const packets = await take(port, 3);
  expect(Array.from(packets, (packet) => packet.key)).toEqual([4, 5, 6]);
});

test('Q3: typed arrays of a value have memory of their own', async () => {
  const port = newPort();
  const views = [
    Uint8Array.of(1, 2),
    Float64Array.of(2),
    Buffer.from('a'),
    new DataView(new ArrayBuffer(3)),
  ];
  port.post(1, { views });
  const [packet] = await take(port, 1);
  const arrived = (packet!.message as { views: ArrayBufferView[] }).views;
  expect(arrived).toEqual(views);
  expect(arrived.map(({ buffer }) => buffer.byteLength)).toEqual([2, 8, 1, 3]);
});
