import net from 'node:net';
import { describe, expect, test } from 'vitest';
import {
  codeOf,
  Collector,
  errnoOf,
  connectedPair,
  failureOf,
  keyedWithRawPeer,
  newPort,
  newSeed,
  pattern,
  Random,
  rawClient,
  rawServer,
  skipUnderWine,
  sleep,
  take,
  temporaryDirectory,
  temporaryFile,
  turns,
  until,
  withRawPeer,
  type FileHandle,
  type SendFileOptions,
  type KeyedSocket,
  type SocketHandle,
} from '../support/harness';

const LOSES_RESETS =
  'a reset soon after the connection was accepted reads as its end, with node:net too';

async function receiveAll(socket: SocketHandle): Promise<Buffer> {
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk);
  return Buffer.concat(chunks);
}

describe('O1', () => {
  test('O1: a handler is never called from inside of send or receive', async () => {
    const port = newPort();
    let inside = false;
    let calls = 0;
    let received = 0;
    const { socket, peer } = await keyedWithRawPeer(port, 1);
    port.consume((packet) => {
      expect(inside).toBe(false);
      calls++;
      if (packet.type !== 'received' || packet.failed) return;
      received += packet.bytes;
      inside = true;
      socket.send('answer');
      if (packet.bytes > 0) socket.receive();
      inside = false;
    });
    socket.receive();
    for (let i = 0; i < 100; i++) {
      peer.write('question');
      await turns(1);
    }
    await until(() => received === 800);
    expect(calls).toBeGreaterThan(1);
  });

  test('O1: a multishot receive has one final packet, all before it carry `more`', async () => {
    const port = newPort();
    const { socket, peer } = await keyedWithRawPeer(port, 1);
    const collector = new Collector(port);
    socket.receive({ multishot: true });
    for (let i = 0; i < 20; i++) {
      peer.write(`part ${i} `);
      await turns(3);
    }
    peer.end();
    await until(() => collector.packets.some(({ more }) => !more));
    await turns();
    const last = collector.packets.pop()!;
    expect(last).toMatchObject({ type: 'received', bytes: 0, more: false, error: undefined });
    expect(collector.packets.every(({ type, more }) => type === 'received' && more)).toBe(true);
    const text = Buffer.concat(collector.packets.map(({ data }) => data!)).toString();
    expect(text).toBe(Array.from({ length: 20 }, (_, i) => `part ${i} `).join(''));
  });

  test('O1: a multishot accept has one final packet, all before it carry `more`', async () => {
    const port = newPort();
    const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 1 });
    const collector = new Collector(port);
    for (let i = 0; i < 10; i++) await rawClient(listener.address()!.port);
    await until(() => collector.of('accepted').length === 10);
    listener.close();
    await collector.first('closed');
    const accepted = collector.of('accepted');
    expect(accepted).toHaveLength(11);
    expect(accepted.filter(({ more }) => !more)).toEqual([accepted[10]]);
    expect(accepted[10]!.error).toMatchObject({ code: 'ECANCELED' });
    expect(collector.packets.at(-1)!.type).toBe('closed');
  });

  test('O1: each of many random operations ends with exactly one packet', async () => {
    const port = newPort();
    const random = new Random(newSeed('O1 sockets'));
    const collector = new Collector(port);
    const server = await rawServer((peer) => peer.on('data', () => undefined));
    const submitted = { sent: 0, received: 0 };
    const sockets: KeyedSocket[] = [];
    for (let i = 0; i < 5; i++) {
      sockets.push(await port.connect({ host: '127.0.0.1', port: server.port, key: i }));
    }
    await until(() => server.sockets.length === 5);
    for (let round = 0; round < 300; round++) {
      const socket = sockets[random.below(5)]!;
      switch (random.below(5)) {
        case 0:
          socket.send(random.bytes(1 + random.below(5000)));
          submitted.sent++;
          break;
        case 1:
          socket.receive({ timeout: random.below(2) * random.below(10) });
          submitted.received++;
          break;
        case 2:
          socket.cancel();
          break;
        case 3:
          server.sockets[random.below(5)]!.write('some bytes');
          break;
        default:
          await turns(1);
      }
    }
    for (const socket of sockets) socket.close();
    await until(() => collector.of('closed').length === 5);
    await turns();
    expect(collector.of('sent')).toHaveLength(submitted.sent);
    expect(collector.of('received')).toHaveLength(submitted.received);
  });
});

describe('O2', () => {
  test('O2: memory released while it is sent goes out unchanged', async () => {
    const port = newPort({ memoryLimit: 2 ** 24 });
    const { socket, peer } = await withRawPeer(port);
    peer.pause();
    const size = 2 ** 22;
    const memory = port.allocate(size);
    pattern(size).copy(memory);
    const sending = socket.send(memory);
    await turns();
    port.release(memory);
    // Whoever gets this memory writes to it at once.
    const other = port.allocate(size).fill(0xff);
    const chunks: Buffer[] = [];
    peer.on('data', (chunk) => chunks.push(chunk));
    peer.resume();
    expect(await sending).toBe(size);
    await until(() => chunks.reduce((sum, chunk) => sum + chunk.length, 0) === size);
    expect(Buffer.concat(chunks).equals(pattern(size))).toBe(true);
    expect(other.byteLength).toBe(size);
  });

  test('O2: the descriptor outlives close until the operations on it have ended', async () => {
    const port = newPort();
    for (let round = 0; round < 50; round++) {
      const { socket, peer } = await withRawPeer(port);
      const receiving = failureOf(() => socket.receive());
      if (round % 2) await turns(2);
      void socket.close();
      // The next connection gets the number as soon as it is free.
      const next = await withRawPeer(port);
      const greeting = next.socket.receive();
      next.peer.write('for the second');
      peer.write('for the first');
      expect((await greeting).toString()).toBe('for the second');
      expect((await receiving).code).toBe('ECANCELED');
      await next.socket.close();
    }
  });
});

describe('O3', () => {
  test('O3: a refused connection is told as node:net tells it', async () => {
    const port = newPort();
    const server = net.createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const target = { host: '127.0.0.1', port: (server.address() as net.AddressInfo).port };
    await new Promise((resolve) => server.close(resolve));
    const theirs = await new Promise<NodeJS.ErrnoException>((resolve) =>
      net.connect(target).once('error', resolve),
    );
    const ours = await failureOf(() => port.connect(target));
    for (const key of ['code', 'errno', 'syscall', 'message', 'address', 'port'] as const) {
      expect((ours as never)[key]).toBe((theirs as never)[key]);
    }
  });

  test('O3: a broken connection is told in the packet', async (context) => {
    skipUnderWine(context, LOSES_RESETS);
    const port = newPort();
    const { socket, peer } = await keyedWithRawPeer(port, 1);
    socket.receive();
    peer.resetAndDestroy();
    const [packet] = await take(port, 1);
    expect(packet).toMatchObject({
      type: 'received',
      error: { code: 'ECONNRESET', errno: errnoOf('ECONNRESET'), syscall: 'read' },
    });
  });
});

describe('O4', () => {
  test('O4: cancelling receives at random loses no byte', async () => {
    const port = newPort();
    const random = new Random(newSeed('O4'));
    const { socket, peer } = await withRawPeer(port);
    const total = 200_000;
    const all = pattern(total);
    const received: Buffer[] = [];
    let bytes = 0;
    const writing = (async () => {
      for (let at = 0; at < total;) {
        const end = Math.min(total, at + 1 + random.below(500));
        peer.write(all.subarray(at, end));
        at = end;
        if (random.below(2)) await turns(1);
      }
    })();
    let cancelled = 0;
    while (bytes < total) {
      const operation = socket.receive();
      if (random.below(2)) await turns(random.below(3));
      if (random.below(2)) operation.cancel();
      try {
        const chunk = await operation;
        received.push(chunk);
        bytes += chunk.length;
      } catch (error) {
        expect((error as NodeJS.ErrnoException).code).toBe('ECANCELED');
        cancelled++;
      }
    }
    await writing;
    expect(cancelled).toBeGreaterThan(0);
    expect(Buffer.concat(received).equals(all)).toBe(true);
  });

  test('O4: cancelling a handle ends all that is in flight, once', async () => {
    const port = newPort();
    const { socket } = await keyedWithRawPeer(port, 1);
    const collector = new Collector(port);
    for (let i = 0; i < 10; i++) socket.receive();
    await turns();
    socket.cancel();
    await collector.count(10);
    socket.cancel();
    await turns();
    expect(collector.packets).toHaveLength(10);
    expect(
      collector.packets.every(({ error }) => (error as NodeJS.ErrnoException).code === 'ECANCELED'),
    ).toBe(true);
  });

  test('O4: a cancelled multishot receive loses no byte', async () => {
    const port = newPort();
    const { socket, peer } = await keyedWithRawPeer(port, 1);
    const all = pattern(100_000);
    const received: Buffer[] = [];
    let bytes = 0;
    const collector = new Collector(port, (packet) => {
      if (packet.type !== 'received') return;
      if (packet.data) received.push(Buffer.from(packet.data));
      bytes += packet.data?.length ?? 0;
      if (!packet.more) socket.receive({ multishot: true });
    });
    socket.receive({ multishot: true });
    for (let at = 0; at < all.length; at += 1000) {
      peer.write(all.subarray(at, at + 1000));
      if (at % 3000 === 0) socket.cancel();
      await turns(1);
    }
    await until(() => bytes === all.length);
    expect(Buffer.concat(received).equals(all)).toBe(true);
    expect(collector.packets.some(({ more }) => !more)).toBe(true);
  });

  test('O4: a cancelled accept leaves the next connection to the next accept', async () => {
    const port = newPort();
    const listener = await port.listen({ host: '127.0.0.1', port: 0 });
    for (let round = 0; round < 30; round++) {
      const first = listener.accept();
      if (round % 2) await turns(2);
      const connecting = round % 3 === 0 ? rawClient(listener.address()!.port) : undefined;
      first.cancel();
      const early = await first.catch((error: unknown) => {
        expect(codeOf(error)).toBe('ECANCELED');
        return undefined;
      });
      const client = await (connecting ?? rawClient(listener.address()!.port));
      const socket = early ?? (await listener.accept());
      expect(socket.remotePort).toBe(client.localPort);
      await socket.close();
    }
  });
});

describe('O5', () => {
  test('O5: closing a handle cancels what is in flight and delivers the closed packet last', async () => {
    const port = newPort();
    const { socket, peer } = await keyedWithRawPeer(port, 1);
    peer.pause();
    const collector = new Collector(port);
    socket.receive({ multishot: true });
    for (let i = 0; i < 20; i++) socket.send(pattern(1_000_000));
    await turns();
    socket.close();
    await collector.count(22);
    await turns();
    const types = collector.packets.map(({ type }) => type);
    expect(types.filter((type) => type === 'sent')).toHaveLength(20);
    expect(types.filter((type) => type === 'received')).toHaveLength(1);
    expect(types).toHaveLength(22);
    expect(types.at(-1)).toBe('closed');
  });

  test('O5: the peer sees FIN while the closed packet is on its way, not later', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    const receiving = failureOf(() => socket.receive());
    peer.resume();
    const ended = new Promise<void>((resolve) => peer.once('end', resolve));
    await turns();
    const closing = socket.close();
    await ended;
    await closing;
    expect((await receiving).code).toBe('ECANCELED');
  });

  test('O5: closing in packet style with a blocking get lets the peer see FIN', async () => {
    const port = newPort();
    const { socket, peer } = await keyedWithRawPeer(port, 1);
    socket.receive();
    peer.resume();
    const ended = new Promise<void>((resolve) => peer.once('end', resolve));
    socket.close();
    const packets = await take(port, 2);
    expect(packets.map(({ type }) => type)).toEqual(['received', 'closed']);
    await ended;
  });

  test('O5: a second close is the same close', async () => {
    const port = newPort();
    const { socket } = await withRawPeer(port);
    const [first, second] = [socket.close(), socket.close()];
    await Promise.all([first, second]);
    await socket.close();
    const keyed = await keyedWithRawPeer(port, 1);
    keyed.socket.close();
    keyed.socket.close();
    const [packet] = await take(port, 1);
    expect(packet!.type).toBe('closed');
    await turns();
    expect([...port.get(8, 0)]).toEqual([]);
  });
});

describe('O6', () => {
  test('O6: receive, accept and connect end with ETIMEDOUT', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    expect(await failureOf(() => socket.receive({ timeout: 5 }))).toMatchObject({
      code: 'ETIMEDOUT',
      syscall: 'read',
    });
    peer.write('later');
    expect((await socket.receive({ timeout: 2 ** 31 })).toString()).toBe('later');
    const listener = await port.listen({ host: '127.0.0.1', port: 0 });
    expect((await failureOf(() => listener.accept({ timeout: 5 }))).code).toBe('ETIMEDOUT');
  });

  test('O6: a connect that nobody answers ends with ETIMEDOUT', async () => {
    const port = newPort();
    const listener = await port.listen({ host: '127.0.0.1', port: 0, backlog: 1 });
    const target = { host: '127.0.0.1', port: listener.address()!.port };
    // The backlog is full after a few; then the system drops what is asked.
    let error: NodeJS.ErrnoException | undefined;
    for (let i = 0; i < 8 && error === undefined; i++) {
      try {
        await port.connect({ ...target, timeout: 200 });
      } catch (failure) {
        error = failure as NodeJS.ErrnoException;
      }
    }
    expect(error).toMatchObject({ code: 'ETIMEDOUT', syscall: 'connect' });
  });

  test('O6: a send that the peer does not take ends with ETIMEDOUT', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    peer.pause();
    const error = await failureOf(() => socket.send(Buffer.alloc(2 ** 25), { timeout: 50 }));
    expect(error).toMatchObject({ code: 'ETIMEDOUT', syscall: 'write' });
  });

  test('O6: packets carry ETIMEDOUT too, multishot included', async () => {
    const port = newPort();
    const { socket } = await keyedWithRawPeer(port, 1);
    socket.receive({ timeout: 5 });
    expect((await take(port, 1))[0]).toMatchObject({
      type: 'received',
      error: { code: 'ETIMEDOUT' },
    });
    socket.receive({ multishot: true, timeout: 5 });
    const [packet] = await take(port, 1);
    expect(packet).toMatchObject({ more: false, error: { code: 'ETIMEDOUT' } });
  });

  test.each([
    { how: 'a timeout', code: 'ETIMEDOUT', options: { timeout: 200 }, end: () => undefined },
    { how: 'a cancel', code: 'ECANCELED', options: {}, end: (of: KeyedSocket) => of.cancel() },
  ])('O4, O6: $how ends a multishot receive while bytes come without end', async (given) => {
    const port = newPort();
    const { socket, peer } = await keyedWithRawPeer(port, 1);
    const bytes = Buffer.alloc(1 << 18);
    const flood = () => {
      while (peer.write(bytes));
      peer.once('drain', flood);
    };
    flood();
    socket.receive({ multishot: true, ...given.options });
    for (let count = 0; ; count++) {
      const [packet] = await take(port, 1);
      if (count === 100) given.end(socket);
      if (packet!.more) continue;
      expect(packet).toMatchObject({ type: 'received', error: { code: given.code } });
      break;
    }
    peer.destroy();
  });
});

describe('O7', () => {
  test('O7: sends go out in order, none between another’s bytes, and end when all is with the kernel', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    peer.pause();
    const all = pattern(8_000_000);
    const order: number[] = [];
    const sends: Promise<unknown>[] = [];
    for (let at = 0, i = 0; at < all.length; i++) {
      const end = Math.min(all.length, at + 4 * (1 + ((i * 7919) % 100_000)));
      const piece = all.subarray(at, end);
      const length = piece.length;
      const number = i;
      sends.push(
        socket.send(i % 2 ? piece : [piece.subarray(0, 8), piece.subarray(8)]).then((sent) => {
          expect(sent).toBe(length);
          order.push(number);
        }),
      );
      at = end;
    }
    const chunks: Buffer[] = [];
    let bytes = 0;
    await turns();
    peer.on('data', (chunk) => {
      chunks.push(chunk);
      bytes += chunk.length;
      peer.pause();
      setImmediate(() => peer.resume());
    });
    peer.resume();
    await Promise.all(sends);
    await until(() => bytes === all.length);
    expect(Buffer.concat(chunks).equals(all)).toBe(true);
    expect(order).toEqual(order.map((_, i) => i));
  });

  test('O7: end() follows the sends before it', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    const chunks: Buffer[] = [];
    peer.on('data', (chunk) => chunks.push(chunk));
    const ended = new Promise<void>((resolve) => peer.once('end', resolve));
    void socket.send(pattern(3_000_000));
    void socket.end(' the end');
    await ended;
    const all = Buffer.concat(chunks);
    expect(all.subarray(0, 3_000_000).equals(pattern(3_000_000))).toBe(true);
    expect(all.subarray(3_000_000).toString()).toBe(' the end');
    // The other direction is still open.
    peer.end('answer');
    expect((await receiveAll(socket)).toString()).toBe('answer');
  });

  test('O7: a cancelled send tells how things stand: all is sent, or ECANCELED', async () => {
    const port = newPort();
    for (let round = 0; round < 20; round++) {
      const { client, server } = await connectedPair(port);
      const sending = client.send(pattern(500_000));
      if (round % 2) await turns(1);
      sending.cancel();
      const receiving = receiveAll(server);
      try {
        expect(await sending).toBe(500_000);
        await client.close();
        expect((await receiving).equals(pattern(500_000))).toBe(true);
      } catch (error) {
        expect((error as NodeJS.ErrnoException).code).toBe('ECANCELED');
        await client.close();
        const got = await receiving;
        expect(got.length).toBeLessThan(500_000);
        expect(got.equals(pattern(500_000).subarray(0, got.length))).toBe(true);
      }
      await server.close();
    }
  });
});

describe('O8', () => {
  test('O8: an orderly shutdown is a receive of 0, after all bytes', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    peer.end('last words');
    expect((await socket.receive()).toString()).toBe('last words');
    expect(await socket.receive()).toHaveLength(0);
    expect(await socket.receive()).toHaveLength(0);
    expect(await socket.receive(new Uint8Array(8))).toBe(0);
  });

  test.for(['receive', 'loop'])('O8: a reset is ECONNRESET (%s)', async (how, context) => {
    skipUnderWine(context, LOSES_RESETS);
    const port = newPort();
    for (let round = 0; round < 20; round++) {
      const { socket, peer } = await withRawPeer(port);
      const failing = failureOf(() => (how === 'loop' ? receiveAll(socket) : socket.receive()));
      if (round % 2) await turns(2);
      peer.resetAndDestroy();
      expect((await failing).code).toBe('ECONNRESET');
      await socket.close();
    }
  });

  test('O8: a reset is never an orderly end, also when a send hears of it first', async () => {
    const port = newPort();
    for (let round = 0; round < 20; round++) {
      const { socket, peer } = await withRawPeer(port);
      peer.resetAndDestroy();
      const codes: (string | undefined)[] = [];
      for (let i = 0; i < 20; i++) {
        const error = await socket.send('x').catch((e: unknown) => e as NodeJS.ErrnoException);
        if (typeof error === 'object') codes.push(error.code);
        if (codes.length > 0) break;
        await sleep(1);
      }
      expect(['ECONNRESET', 'EPIPE']).toContain(codes[0]);
      expect((await failureOf(() => receiveAll(socket))).code).toBe('ECONNRESET');
      await socket.close();
    }
  });

  test('O8: a reset ends a multishot receive with ECONNRESET', async () => {
    const port = newPort();
    const { socket, peer } = await keyedWithRawPeer(port, 1);
    const collector = new Collector(port);
    socket.receive({ multishot: true });
    peer.write('before');
    await collector.count(1);
    peer.resetAndDestroy();
    await collector.count(2);
    expect(collector.packets[1]).toMatchObject({ more: false, error: { code: 'ECONNRESET' } });
  });
});

/** All that comes, up to the end. */
function gather(peer: net.Socket): Promise<Buffer> {
  const chunks: Buffer[] = [];
  peer.on('data', (chunk) => chunks.push(chunk));
  return new Promise((resolve) => peer.once('end', () => resolve(Buffer.concat(chunks))));
}

describe('O9', () => {
  test('O9: linked sends and receives run in order', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    peer.on('data', (chunk) => peer.write(chunk.toString().toUpperCase()));
    const [sent, answer] = socket.link(() => [socket.send('question'), socket.receive()] as const);
    expect(await sent).toBe(8);
    expect((await answer).toString()).toBe('QUESTION');
  });

  test('O9 O7: linked sends go out before what is sent after them', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    const sent = pattern(8_000_000);
    const part = (i: number): Buffer => sent.subarray(i * 2_000_000, (i + 1) * 2_000_000);
    const received = gather(peer);
    void socket.link(() => [socket.send(part(0)), socket.send(part(1)), socket.send(part(2))]);
    await socket.send(part(3));
    await socket.end();
    expect((await received).equals(sent)).toBe(true);
  });

  test('O9: a failed receive cancels the send behind it', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    const chunks: Buffer[] = [];
    peer.on('data', (chunk) => chunks.push(chunk));
    const [first, second] = socket.link(
      () => [socket.receive({ timeout: 5 }), socket.send('never')] as const,
    );
    const results = await Promise.allSettled([first, second]);
    expect(results.map((result) => (result as PromiseRejectedResult).reason.code)).toEqual([
      'ETIMEDOUT',
      'ECANCELED',
    ]);
    await socket.send('only this');
    await until(() => chunks.length > 0);
    expect(Buffer.concat(chunks).toString()).toBe('only this');
  });
});

describe('sendFile', () => {
  test('to a peer that has ended its side and does not read: the thread goes on with others', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile(Buffer.alloc(30_000_000, 'f')));
    const { socket, peer } = await withRawPeer(port);
    peer.pause();
    peer.end();
    await socket.receive();
    const sending = socket.sendFile(file);
    const timer = await port.timer();
    for (let i = 0; i < 5; i++) await timer.wait(1);
    expect(sending.pending).toBe(true);
    let received = 0;
    peer.on('data', (bytes: Buffer) => (received += bytes.length)).resume();
    expect(await sending).toBe(30_000_000);
    await until(() => received === 30_000_000);
    await socket.close();
    await file.close();
  });

  const contents = pattern(3_000_000);

  test('O3: what is not an open regular file, and a wrong position or length, throw at once', async () => {
    const port = newPort();
    const { socket } = await withRawPeer(port);
    const file = await port.open(temporaryFile('contents'));
    const folder = await port.open(temporaryDirectory());
    const closed = await port.open(temporaryFile());
    await closed.close();
    const wrong: [unknown, SendFileOptions | undefined, string][] = [
      [undefined, undefined, 'ERR_INVALID_ARG_TYPE'],
      ['/etc/hosts', undefined, 'ERR_INVALID_ARG_TYPE'],
      [socket, undefined, 'ERR_INVALID_ARG_TYPE'],
      [folder, undefined, 'ERR_INVALID_ARG_VALUE'],
      [closed, undefined, 'ERR_HANDLE_CLOSED'],
      [file, { position: -1 }, 'ERR_OUT_OF_RANGE'],
      [file, { position: 0.5 }, 'ERR_OUT_OF_RANGE'],
      [file, { position: '1' as never }, 'ERR_INVALID_ARG_TYPE'],
      [file, { length: -1 }, 'ERR_OUT_OF_RANGE'],
      [file, { length: Infinity }, 'ERR_OUT_OF_RANGE'],
      [file, { timeout: -1 }, 'ERR_OUT_OF_RANGE'],
      [file, 5 as never, 'ERR_INVALID_ARG_TYPE'],
    ];
    for (const [what, options, code] of wrong) {
      expect(() => socket.sendFile(what as FileHandle, options)).toThrow(
        expect.objectContaining({ code }) as Error,
      );
    }
    const aborted = socket.sendFile(file, { signal: AbortSignal.abort() });
    await expect(aborted).rejects.toMatchObject({ code: 'ABORT_ERR' });
    await socket.close();
    expect(() => socket.sendFile(file)).toThrow(
      expect.objectContaining({ code: 'ERR_HANDLE_CLOSED' }) as Error,
    );
  });

  const READS_ANYTHING = 'does not look whether the file is open for reading';

  test('O3: a file that is not open for reading is told with its errno', async (context) => {
    skipUnderWine(context, READS_ANYTHING);
    const port = newPort();
    const { socket } = await withRawPeer(port);
    const file = await port.open(temporaryFile('contents'), 'a');
    const error = await failureOf(() => socket.sendFile(file));
    expect(error).toMatchObject({ code: 'EBADF', syscall: 'sendfile' });
  });

  test('O7: files go out among the sends, in the order submitted, and tell what was sent', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    const file = await port.open(temporaryFile(contents));
    const received = gather(peer);
    const sent = await Promise.all([
      socket.send('before'),
      socket.sendFile(file),
      socket.send('between'),
      socket.sendFile(file, { position: 1_000_001, length: 500_000 }),
      socket.sendFile(file, { position: 2_999_990n, length: 1_000_000 }), // more than there is
      socket.sendFile(file, { position: 3_000_000 }), // nothing
      socket.sendFile(file, { position: 4_000_000, length: 10 }),
      socket.sendFile(file, { length: 0 }),
      socket.end('the end'),
    ]);
    expect(sent).toEqual([6, 3_000_000, 7, 500_000, 10, 0, 0, 0, undefined]);
    const expected = Buffer.concat([
      Buffer.from('before'),
      contents,
      Buffer.from('between'),
      contents.subarray(1_000_001, 1_500_001),
      contents.subarray(-10),
      Buffer.from('the end'),
    ]);
    expect((await received).equals(expected)).toBe(true);
  });

  test('O5: a file may be closed as soon as it was submitted', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    peer.pause();
    const file = await port.open(temporaryFile(contents));
    const sends = Array.from({ length: 10 }, () => socket.sendFile(file));
    await file.close();
    await turns();
    const received = gather(peer);
    peer.resume();
    void socket.send('behind');
    const ended = socket.end();
    expect(await Promise.all(sends)).toEqual(Array.from({ length: 10 }, () => 3_000_000));
    await ended;
    const all = await received;
    expect(all.length).toBe(30_000_006);
    for (let i = 0; i < 10; i++) {
      expect(all.subarray(i * 3_000_000, (i + 1) * 3_000_000).equals(contents)).toBe(true);
    }
    expect(all.subarray(-6).toString()).toBe('behind');
  });

  test('O1: packet style answers with one `sent` packet each, under its tag, or only failures', async () => {
    const port = newPort();
    const { socket, peer } = await keyedWithRawPeer(port, 1);
    const file = await port.open(temporaryFile(contents), 'r', { key: 2 });
    const received = gather(peer);
    socket.sendFile(file, { tag: 7 });
    socket.sendFile(file, { length: 100, quiet: true });
    socket.sendFile(file, { position: 10, length: 1000, tag: 8 });
    const [first, second] = await take(port, 2);
    expect(first).toMatchObject({ type: 'sent', key: 1, bytes: 3_000_000, tag: 7 });
    expect(first!.handle).toBe(socket);
    expect(second).toMatchObject({ type: 'sent', key: 1, bytes: 1000, tag: 8 });
    const options: object = { signal: new AbortController().signal };
    expect(() => socket.sendFile(file, options)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }) as Error,
    );
    socket.end();
    expect((await received).length).toBe(3_001_100);
  });

  test('O4, O6: one that the peer does not take can be cancelled, and ends with ETIMEDOUT', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile(contents));
    for (const timeout of [undefined, 20]) {
      const { socket, peer } = await withRawPeer(port);
      peer.pause();
      const sends = Array.from({ length: 10 }, () => socket.sendFile(file, { timeout }));
      const settled = Promise.allSettled(sends);
      await turns();
      if (timeout === undefined) for (const send of sends) send.cancel();
      const results = await settled;
      const last = results.at(-1) as PromiseRejectedResult;
      const code = timeout === undefined ? 'ECANCELED' : 'ETIMEDOUT';
      expect(last.reason).toMatchObject({ code, syscall: 'sendfile' });
      await socket.close();
      peer.destroy();
    }
  });

  test('O8: a peer that has gone is told as for a send', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    const file = await port.open(temporaryFile(contents));
    peer.resetAndDestroy();
    const error = await failureOf(async () => {
      for (;;) await socket.sendFile(file);
    });
    expect(['ECONNRESET', 'EPIPE', 'ECONNABORTED']).toContain(error.code);
    await socket.close();
  });

  test('O9: linked to what follows, it runs in order, and a failure cancels the rest', async (context) => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    const file = await port.open(temporaryFile(contents));
    const unreadable = await port.open(temporaryFile('contents'), 'a');
    const received = gather(peer);
    const [sent] = socket.link(() => [socket.sendFile(file), socket.send('behind')]);
    expect(await sent).toBe(3_000_000);
    skipUnderWine(context, READS_ANYTHING);
    const [failed, cancelled] = socket.link(() => [
      socket.sendFile(unreadable),
      socket.send('never'),
    ]);
    const codes = await Promise.allSettled([failed, cancelled]);
    expect(codes.map((it) => codeOf((it as PromiseRejectedResult).reason))).toEqual([
      'EBADF',
      'ECANCELED',
    ]);
    await socket.end();
    expect((await received).equals(Buffer.concat([contents, Buffer.from('behind')]))).toBe(true);
  });
});
