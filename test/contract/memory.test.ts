import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import {
  codeOf,
  Collector,
  failureNow,
  failureOf,
  keyedWithRawPeer,
  library,
  newPort,
  pattern,
  rawServer,
  take,
  temporaryFile,
  turns,
  until,
  withRawPeer,
  type CompletionPort,
} from '../support/harness';
import { Taker } from '../support/taker';

describe('M1', () => {
  test('M1: pool memory is visible to a worker without copying', async () => {
    const port = newPort({ concurrency: 2 });
    const { socket, peer } = await keyedWithRawPeer(port, 1);
    const { log, takers } = await Taker.team(port, 1);
    socket.receive();
    peer.write('received by one, read by the other');
    await until(() => log.length === 1);
    expect(log[0]!.text).toBe('received by one, read by the other');
    takers[0]!.passAll();
  });

  test('M1: when no buffer is free, receiving pauses and resumes; no byte is lost', async () => {
    const port = newPort({ buffers: { size: 1024, count: 8 } });
    const connections = 4;
    const total = 100_000;
    const received: Buffer[][] = [[], [], [], []];
    const bytes = [0, 0, 0, 0];
    const kept: Buffer[] = [];
    const failed: unknown[] = [];
    port.consume((packet) => {
      if (packet.type !== 'received' || packet.code === 'ECANCELED') return;
      if (packet.failed) return void failed.push(packet.error);
      if (packet.data === undefined) return;
      const data = packet.keep();
      kept.push(data);
      received[packet.key]!.push(Buffer.from(data));
      bytes[packet.key]! += data.length;
    });
    const pairs = [];
    for (let key = 0; key < connections; key++) pairs.push(await keyedWithRawPeer(port, key));
    for (const { socket, peer } of pairs) {
      socket.receive({ multishot: true });
      peer.write(pattern(total));
    }
    // Everything is kept until nothing more comes.
    while (bytes.some((count) => count < total)) {
      let before = -1;
      await until(() => {
        const same = kept.length > 0 && before === kept.length;
        before = kept.length;
        return same;
      });
      for (const buffer of kept.splice(0)) port.release(buffer);
    }
    expect(failed).toEqual([]);
    for (const chunks of received) expect(Buffer.concat(chunks).equals(pattern(total))).toBe(true);
  });

  test('M1: single receives pause and resume in the same way', async () => {
    const port = newPort({ buffers: { size: 1024, count: 2 } });
    const collector: Buffer[] = [];
    const pairs = [];
    for (let key = 0; key < 10; key++) pairs.push(await keyedWithRawPeer(port, key));
    let answers = 0;
    port.consume((packet) => {
      if (packet.type !== 'received' || packet.data === undefined) return;
      answers++;
      collector.push(packet.keep());
    });
    for (const { socket, peer } of pairs) {
      socket.receive();
      peer.write('x');
    }
    while (answers < 10) {
      await until(() => collector.length > 0);
      await turns(5);
      for (const buffer of collector.splice(0)) port.release(buffer);
    }
    expect(answers).toBe(10);
  });

  test('M1: a starved port does not spin, and its event loop goes on', async () => {
    const port = newPort({ buffers: { size: 1024, count: 4 } });
    const kept: Buffer[] = [];
    let bytes = 0;
    port.consume((packet) => {
      if (packet.type !== 'received' || packet.data === undefined) return;
      bytes += packet.bytes;
      kept.push(packet.keep());
    });
    const { socket, peer } = await keyedWithRawPeer(port, 1);
    socket.receive({ multishot: true });
    peer.write(pattern(50_000));
    await until(() => kept.length >= 4);
    await turns(100);
    const before = port.stats().systemCalls;
    await turns(500);
    // Each turn of the loop may cost a few; a thread that spins makes tens of thousands.
    expect(port.stats().systemCalls - before).toBeLessThan(5000);
    while (bytes < 50_000) {
      for (const buffer of kept.splice(0)) port.release(buffer);
      await turns(2);
    }
    expect(bytes).toBe(50_000);
  });

  test('M1: awaited receives and loops go through exhaustion too', async () => {
    const port = newPort({ buffers: { size: 1024, count: 1 } });
    const server = await rawServer((socket) => socket.end(pattern(20_000)));
    const all = await Promise.all(
      Array.from({ length: 8 }, async () => {
        const socket = await port.connect({ host: '127.0.0.1', port: server.port });
        const chunks: Buffer[] = [];
        for await (const chunk of socket) chunks.push(Buffer.from(chunk));
        await socket.close();
        return Buffer.concat(chunks);
      }),
    );
    for (const bytes of all) expect(bytes.equals(pattern(20_000))).toBe(true);
  });

  test('M1: a starved receive can be cancelled, timed out and closed', async () => {
    const port = newPort({ buffers: { size: 1024, count: 1 } });
    const kept: Buffer[] = [];
    const greedy = await keyedWithRawPeer(port, 1);
    const collector = new Collector(port, (packet) => {
      if (packet.type === 'received' && packet.key === 1 && packet.data) kept.push(packet.keep());
    });
    greedy.socket.receive({ multishot: true });
    greedy.peer.write(pattern(20_000));
    await until(() => kept.length >= 1 && port.stats().freeBuffers === 0);
    const starved = await keyedWithRawPeer(port, 2);
    starved.peer.write('waits');
    starved.socket.receive({ timeout: 5 });
    const [timedOut] = await until(() => collector.packets.some(({ key }) => key === 2)).then(() =>
      collector.packets.filter(({ key }) => key === 2),
    );
    const code = (timedOut!.error as NodeJS.ErrnoException | undefined)?.code;
    expect(code === 'ETIMEDOUT' || timedOut!.data?.toString() === 'waits').toBe(true);
    starved.socket.receive();
    starved.socket.close();
    await until(() => collector.of('closed').length === 1);
    for (const buffer of kept.splice(0)) port.release(buffer);
  });
});

describe('M2', () => {
  test('M2: releasing twice is ERR_BUFFER_RELEASED', () => {
    const port = newPort();
    const buffer = port.allocate(100);
    port.release(buffer);
    expect(() => port.release(buffer)).toThrow(
      expect.objectContaining({ code: 'ERR_BUFFER_RELEASED' }),
    );
  });

  test('M2: so it is for received bytes that were kept, and by any view of them', async () => {
    const port = newPort();
    const { socket, peer } = await keyedWithRawPeer(port, 1);
    let kept: Buffer | undefined;
    port.consume((packet) => {
      if (packet.type !== 'received' || packet.failed) return;
      kept = packet.keep();
      expect(() => packet.keep()).toThrow(expect.objectContaining({ code: 'ERR_BUFFER_RELEASED' }));
      expect(() => packet.release()).toThrow(
        expect.objectContaining({ code: 'ERR_BUFFER_RELEASED' }),
      );
    });
    socket.receive();
    peer.write('kept');
    await until(() => kept);
    await turns();
    expect(kept!.toString()).toBe('kept');
    port.release(kept!.subarray(2));
    expect(() => port.release(kept!)).toThrow(
      expect.objectContaining({ code: 'ERR_BUFFER_RELEASED' }),
    );
  });

  test('M2: memory that is not the port’s cannot be released', () => {
    const [port, other] = [newPort(), newPort()];
    expect(() => port.release(Buffer.alloc(8))).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
    );
    const foreign = other.allocate(64);
    expect(() => port.release(foreign)).toThrow();
    other.release(foreign);
  });

  test('M2: a view of memory that was released has no bytes, and to use it is ERR_BUFFER_RELEASED', async () => {
    const port = newPort();
    const stale = port.allocate(4096).fill(1);
    const part = stale.subarray(10, 20);
    port.release(stale);
    const next = port.allocate(4096).fill(2);
    expect([stale.length, part.length]).toEqual([0, 0]);
    expect(() => new Uint8Array(stale.buffer)).toThrow(TypeError);
    expect(next.every((byte) => byte === 2)).toBe(true);

    const { socket } = await withRawPeer(port);
    const keyed = await keyedWithRawPeer(port, 1);
    const file = await port.open(temporaryFile('contents'), 'r+');
    const keyedFile = await port.open(temporaryFile('contents'), 'r+', { key: 2 });
    const other = newPort();
    const foreign = await withRawPeer(other);
    const uses = (view: Buffer): (() => unknown)[] => [
      ...[socket, keyed.socket].flatMap((handle) => [
        () => handle.send(view),
        () => handle.send(['text', view]),
        () => handle.send([next, view]),
        () => handle.send(view, { release: true }),
        () => handle.end(view),
      ]),
      () => socket.receive(view),
      () => keyed.socket.receive({ into: view }),
      ...[file, keyedFile as never as typeof file].flatMap((handle) => [
        () => handle.read(view, 0),
        () => handle.readv([next, view], 0),
        () => handle.write(view, 0),
        () => handle.writev([view, Buffer.from('x')], 0),
        () => handle.write(view, 0, { sync: true }),
      ]),
      () => foreign.socket.send(view),
      () => port.release(view),
    ];
    for (const use of [...uses(stale), ...uses(part)]) {
      expect([use.toString(), codeOf(failureNow(use))]).toEqual([
        use.toString(),
        'ERR_BUFFER_RELEASED',
      ]);
    }
    port.release(next);
    await until(() => port.stats().allocatedBytes === 0);
  });

  test('M2: what is lent goes back by itself', async () => {
    const port = newPort();
    const { socket, peer } = await keyedWithRawPeer(port, 1);
    const codes: unknown[] = [];
    let late: Buffer | undefined;
    port.consume((packet) => {
      if (packet.type !== 'received' || packet.failed) return;
      late = packet.data!;
      codes.push(codeOf(failureNow(() => port.release(late!))));
    });
    socket.receive();
    peer.write('lent');
    await until(() => codes.length === 1);
    expect(codes).toEqual(['ERR_INVALID_ARG_VALUE']);
    await turns();
    expect(codeOf(failureNow(() => socket.send(late!)))).toBe('ERR_BUFFER_RELEASED');
    expect(codeOf(failureNow(() => port.release(late!)))).toBe('ERR_BUFFER_RELEASED');
  });

  test('M7: at the limit writes fail at once, and work when there is memory again', async () => {
    const port = newPort({ memoryLimit: 1 << 20 });
    const file = await port.open(temporaryFile('limit'), 'w+');
    const all = port.allocate(1 << 20);
    const codes: unknown[] = [];
    for (const operation of [
      () => file.write(Buffer.alloc(8192), 0),
      () => file.writev([Buffer.alloc(8192), Buffer.alloc(1)], 0),
      () => port.allocate(4096),
    ]) {
      codes.push(codeOf(await failureOf(operation)));
    }
    expect(codes).toEqual(Array.from({ length: 3 }, () => 'ERR_MEMORY_LIMIT'));
    port.release(all);
    expect(await file.write(Buffer.alloc(8192, 'x'), 0)).toBe(8192);
    expect(String(await file.read({ length: 3, position: 0 }))).toBe('xxx');
    expect(port.stats().allocatedBytes).toBe(0);
    await file.close();
  });

  test('M2: views have no bytes when the port is closed, or its thread has left it', async () => {
    for (const end of [
      (port: CompletionPort) => port.close(),
      (port: CompletionPort) => port.detach(),
    ]) {
      const [port, other] = [newPort(), newPort()];
      const { socket } = await withRawPeer(other);
      const buffer = port.allocate(65536).fill(1);
      const lease = port.lease(100);
      await end(port);
      expect([buffer.length, buffer[0]]).toEqual([0, undefined]);
      for (const use of [() => socket.send(buffer), () => lease.bytes, () => port.lease(buffer)]) {
        expect(codeOf(failureNow(use))).toMatch(/ERR_BUFFER_RELEASED|ERR_PORT_CLOSED/);
      }
      expect(codeOf(failureNow(() => port.release(buffer)))).toBe('ERR_PORT_CLOSED');
      await other.close();
    }
  });

  test('M2: also when another thread has closed the port', async () => {
    const port = newPort({ concurrency: 2 });
    const buffer = port.allocate(4096).fill(1);
    const worker = new Worker(
      `const { workerData } = require('node:worker_threads');
       import(workerData.library).then(({ CompletionPort }) =>
         CompletionPort.attach(workerData.token).close());`,
      { eval: true, workerData: { token: port.token, library } },
    );
    await expect(port.packets().next()).rejects.toMatchObject({ code: 'ERR_PORT_CLOSED' });
    expect(buffer).toHaveLength(0);
    await worker.terminate();
  });

  test('M2: memory can be allocated up to the limit, and again after it was released', async () => {
    const port = newPort({ memoryLimit: 1 << 20 });
    const buffers: Buffer[] = [];
    const error = await failureOf(() => {
      for (;;) buffers.push(port.allocate(65536));
    });
    expect(error.code).toBe('ERR_MEMORY_LIMIT');
    expect(buffers).toHaveLength(16);
    expect(port.stats().allocatedBytes).toBe(1 << 20);
    for (const buffer of buffers) port.release(buffer);
    expect(port.stats().allocatedBytes).toBe(0);
    expect(port.allocate(1 << 20)).toHaveLength(1 << 20);
  });
});

describe('M3', () => {
  test.each(['await', 'packet', 'multishot'])(
    'M3: idle connections hold no buffer (%s)',
    async (style) => {
      const port = newPort({ buffers: { size: 4096, count: 16 } });
      const server = await rawServer();
      if (style !== 'await') new Collector(port);
      // One that is active: whatever the thread keeps for itself, it has now.
      const active = await withRawPeer(port);
      const first = active.socket.receive();
      active.peer.write('first');
      await first;
      const before = port.stats().freeBuffers;
      for (let i = 0; i < 200; i++) {
        const target = { host: '127.0.0.1', port: server.port };
        if (style === 'await') {
          const socket = await port.connect(target);
          void socket.receive().catch(() => undefined);
        } else {
          const socket = await port.connect({ ...target, key: i });
          socket.receive({ multishot: style === 'multishot' });
        }
      }
      await turns();
      expect(port.stats().freeBuffers).toBeGreaterThanOrEqual(before);
      const last = active.socket.receive();
      active.peer.write('still served');
      expect((await last).toString()).toBe('still served');
    },
  );

  test('M3: threads that do not receive hold no buffer, however many there are', async () => {
    const port = newPort({ buffers: { size: 4096, count: 64 } });
    const start = port.stats().freeBuffers;
    for (let i = 0; i < 6; i++) await Taker.start(port);
    expect(port.stats().freeBuffers).toBeGreaterThanOrEqual(start);
  });

  test('M3: a thread that idles again gives its buffers back; what comes then is received', async () => {
    const port = newPort({ buffers: { size: 4096, count: 64 } });
    const start = port.stats().freeBuffers;
    const pairs = [await withRawPeer(port), await withRawPeer(port), await withRawPeer(port)];
    for (let round = 0; round < 3; round++) {
      for (const { socket, peer } of pairs) {
        const answer = socket.receive();
        peer.write(`now ${round}`);
        expect((await answer).toString()).toBe(`now ${round}`);
      }
      const waiting = pairs.map(({ socket }) => socket.receive());
      await until(() => port.stats().freeBuffers >= start);
      for (const { peer } of pairs) peer.write(`late ${round}`);
      const late = (await Promise.all(waiting)).map(String);
      expect(late).toEqual(pairs.map(() => `late ${round}`));
    }
  });

  test('M3: a connection that was active and idles again holds no buffer', async () => {
    const port = newPort({ buffers: { size: 4096, count: 16 } });
    const { socket, peer } = await withRawPeer(port);
    const answer = socket.receive();
    peer.write('x');
    await answer;
    const before = port.stats().freeBuffers;
    for (let i = 0; i < 50; i++) {
      const next = socket.receive();
      peer.write('x');
      await next;
    }
    const idle = socket.receive().catch(() => undefined);
    await turns();
    expect(port.stats().freeBuffers).toBeGreaterThanOrEqual(before);
    await socket.close();
    await idle;
  });
});

test('allocate: aligned, at least as long as asked for, the same in each thread', async () => {
  const port = newPort();
  for (const size of [1, 100, 4096, 4097, 1 << 20]) {
    const buffer = port.allocate(size);
    expect(buffer).toHaveLength(size);
    expect(buffer.byteOffset % 4096).toBe(0);
    buffer.fill(0xab);
  }
  port.post(1);
  expect(await take(port, 1)).toHaveLength(1);
});

describe('M2: a lease is released when its scope ends', () => {
  test('memory that it takes, and memory that is there', async () => {
    const port = newPort();
    const lease = port.lease(5000);
    expect([lease.bytes.length, port.stats().allocatedBytes > 0]).toEqual([5000, true]);
    lease[Symbol.dispose]();
    expect(codeOf(failureNow(() => lease.bytes))).toBe('ERR_BUFFER_RELEASED');
    expect(JSON.stringify(lease)).toBe('{"bytes":0}');
    expect(port.stats().allocatedBytes).toBe(0);
    lease.release(); // no effect
    const buffer = port.allocate(100);
    const over = port.lease(buffer);
    expect(over.bytes).toBe(buffer);
    port.release(buffer);
    over.release(); // no effect either
    const late = port.lease(1);
    await port.close();
    late[Symbol.dispose]();
  });

  test('not twice, and not what is lent or somebody else’s', () => {
    const port = newPort();
    const released = port.allocate(10);
    port.release(released);
    expect(codeOf(failureNow(() => port.lease(released)))).toBe('ERR_BUFFER_RELEASED');
    expect(codeOf(failureNow(() => port.lease(Buffer.alloc(5))))).toBe('ERR_INVALID_ARG_VALUE');
    expect(codeOf(failureNow(() => port.lease('5' as never)))).toBe('ERR_INVALID_ARG_TYPE');
    expect(codeOf(failureNow(() => port.lease(0)))).toBe('ERR_OUT_OF_RANGE');
  });
});

describe('a lent Buffer', () => {
  test('M5: what a program keeps under it is never said of other bytes', async () => {
    const port = newPort();
    const told = new WeakMap<object, string>();
    const seen: string[] = [];
    const wrong: unknown[] = [];
    port.consume((packet) => {
      if (packet.type !== 'received' || packet.data === undefined) return;
      const { data } = packet;
      expect(packet.data).toBe(data);
      const text = String(data);
      if (told.has(data) || Object.hasOwn(data, 'text')) wrong.push([text, told.get(data)]);
      told.set(data, text);
      Object.assign(data, { text });
      seen.push(text);
    });
    const pairs = [];
    for (let key = 0; key < 3; key++) pairs.push(await keyedWithRawPeer(port, key));
    for (const { socket } of pairs) socket.receive({ multishot: true });
    for (let i = 0; i < 60; i++) {
      pairs[i % 3]!.peer.write(String(i).padStart(4));
      await until(() => seen.join('').length === 4 * (i + 1));
    }
    expect(wrong).toEqual([]);
  });

  test('O3: a view whose own `buffer` is something else is sent, or refused with a code', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    let text = '';
    peer.on('data', (bytes) => (text += bytes));
    for (const value of [null, undefined, 1, {}]) {
      const view = Object.defineProperty(Buffer.from('x'), 'buffer', { value });
      await socket.send(view);
      expect(failureNow(() => port.release(view)).code).toBe('ERR_INVALID_ARG_VALUE');
    }
    await until(() => text === 'xxxx');
  });
});
