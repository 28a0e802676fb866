import { fstatSync, statSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { describe, expect, onTestFinished, test } from 'vitest';
import { writtenFifo } from './support/fifo';
import {
  codeOf,
  connectedPair,
  drivers,
  failureOf,
  keyedWithRawPeer,
  library,
  newPort,
  newSeed,
  pattern,
  Random,
  rawClient,
  rawServer,
  temporaryFile,
  turns,
  until,
  windows,
  withRawPeer,
  type CompletionPort,
  type KeyedSocket,
  type SocketHandle,
} from './support/harness';

describe.each(drivers)('%s', (driver) => {
  const open = (): CompletionPort | undefined => {
    try {
      return newPort({ driver });
    } catch {
      return undefined;
    }
  };

  test('a raw client that reads, writes, half-closes and resets at random: every byte counts', async ({
    skip,
  }) => {
    const port = open();
    if (!port) return skip(`${driver} is not here`);
    const random = new Random(newSeed(`sockets ${driver}`));
    const listener = await port.listen({ host: '127.0.0.1', port: 0 });
    const served: Promise<unknown>[] = [];
    const echo = (async () => {
      for await (const socket of listener) {
        served.push(
          (async () => {
            try {
              for await (const bytes of socket) await socket.send(bytes);
              await socket.end();
              return 'ended';
            } catch (error) {
              return (error as NodeJS.ErrnoException).code;
            } finally {
              await socket.close();
            }
          })(),
        );
      }
    })().catch(() => undefined);
    for (let round = 0; round < 40; round++) {
      const client = await rawClient(listener.address()!.port);
      const sent = random.bytes(1 + random.below(60_000));
      const chunks: Buffer[] = [];
      client.on('data', (chunk) => chunks.push(chunk));
      const closed = new Promise((resolve) => client.once('close', resolve));
      const ended = new Promise((resolve) => client.once('end', resolve));
      const resets = random.below(4) === 0;
      for (let at = 0; at < sent.length;) {
        const end = Math.min(sent.length, at + 1 + random.below(9000));
        client.write(sent.subarray(at, end));
        at = end;
        if (random.below(3) === 0) await turns(1);
        if (random.below(8) === 0) client.pause();
        if (random.below(3) === 0) client.resume();
      }
      client.resume();
      if (resets) client.resetAndDestroy();
      else client.end();
      await (resets ? closed : ended);
      const got = Buffer.concat(chunks);
      expect(got.equals(resets ? sent.subarray(0, got.length) : sent)).toBe(true);
    }
    await until(() => served.length === 40);
    const results = await Promise.all(served);
    expect(
      results.every((result) => ['ended', 'ECONNRESET', 'EPIPE'].includes(String(result))),
    ).toBe(true);
    expect(results).toContain('ended');
    await listener.close();
    await echo;
    expect(port.stats()).toMatchObject({ handles: 0, allocatedBytes: 0 });
  });

  test('many connections at once', async ({ skip }) => {
    const port = open();
    if (!port) return skip(`${driver} is not here`);
    const server = await rawServer((socket) => socket.pipe(socket));
    await Promise.all(
      Array.from({ length: 300 }, async (_, i) => {
        const socket = await port.connect({ host: '127.0.0.1', port: server.port });
        const sent = pattern(1000 + i);
        await socket.end(sent);
        const chunks: Buffer[] = [];
        for await (const chunk of socket) chunks.push(chunk);
        expect(Buffer.concat(chunks).equals(sent)).toBe(true);
        await socket.close();
      }),
    );
    expect(port.stats().handles).toBe(0);
  });
});

test('receive into own memory and into pool memory', async () => {
  const port = newPort();
  const { socket, peer } = await withRawPeer(port);
  peer.write('0123456789');
  const own = new Uint8Array(4);
  expect(await socket.receive(own)).toBe(4);
  expect(Buffer.from(own).toString()).toBe('0123');
  const pool = port.allocate(4096);
  expect(await socket.receive({ into: pool.subarray(2, 5) })).toBe(3);
  expect(pool.toString('utf8', 2, 5)).toBe('456');
  const moved = new Uint8Array(16);
  const receiving = socket.receive(moved);
  structuredClone(moved, { transfer: [moved.buffer] });
  expect(codeOf(await failureOf(() => receiving))).toBe('ERR_INVALID_STATE');
});

test('send: strings, views, arrays, nothing, pool memory with release', async () => {
  const port = newPort();
  const { socket, peer } = await withRawPeer(port);
  const chunks: Buffer[] = [];
  peer.on('data', (chunk) => chunks.push(chunk));
  const pool = port.allocate(5);
  pool.write('pool ');
  expect(await socket.send('größer ')).toBe(9);
  expect(await socket.send(['a', Buffer.from('b'), new Uint16Array([0x6463]), ' '])).toBe(5);
  expect(await socket.send([])).toBe(0);
  expect(await socket.send('')).toBe(0);
  expect(await socket.send(pool, { release: true })).toBe(5);
  expect(() => port.release(pool)).toThrow(
    expect.objectContaining({ code: 'ERR_BUFFER_RELEASED' }),
  );
  await socket.end('end');
  await until(() => Buffer.concat(chunks).toString() === 'größer abcd pool end');
  expect((await failureOf(() => socket.send('more'))).code).toBe('EPIPE');
});

test('addresses and options', async () => {
  const port = newPort();
  const { listener, client, server } = await connectedPair(port);
  expect(client.remotePort).toBe(listener.address()!.port);
  expect(client.localPort).toBe(server.remotePort);
  expect([client.localAddress, server.remoteAddress]).toEqual(['127.0.0.1', '127.0.0.1']);
  expect(client.setNoDelay().setNoDelay(false).setKeepAlive(true, 1000).setKeepAlive(false)).toBe(
    client,
  );
  const target = {
    port: listener.address()!.port,
    noDelay: true,
    keepAlive: true,
    keepAliveInitialDelay: 5000,
  };
  const second = await port.connect({ host: '127.0.0.1', ...target });
  await second.close();
  expect(second.localAddress).toBeUndefined();
});

describe('addresses', () => {
  const addresses = (socket: SocketHandle | KeyedSocket): unknown[] => [
    ...[socket.address(), socket.localAddress, socket.localPort, socket.localFamily],
    ...[socket.remoteAddress, socket.remotePort, socket.remoteFamily],
  ];
  const none = Array(7).fill(undefined);

  test('are gone with the connection, whether they were asked for before or not', async () => {
    const port = newPort();
    for (const asked of [true, false]) {
      const { listener, client, server } = await connectedPair(port);
      if (asked) {
        expect(addresses(client)).not.toContain(undefined);
        expect(listener.address()).toBeDefined();
      }
      const closing = [client.close(), server.close(), listener.close()];
      expect([...addresses(client), listener.address()]).toEqual([...none, undefined]);
      await Promise.all(closing);
      expect([...addresses(client), listener.address()]).toEqual([...none, undefined]);
    }
  });

  test('also where it was handed off, or another thread has closed it', async () => {
    const [port, target] = [newPort({ concurrency: 2 }), newPort()];
    const { socket: handed } = await keyedWithRawPeer(port, 1);
    expect(addresses(handed)).not.toContain(undefined);
    handed.handOff(target);
    expect(addresses(handed)).toEqual(none);

    const { socket } = await keyedWithRawPeer(port, 2);
    expect(addresses(socket)).not.toContain(undefined);
    const worker = new Worker(
      `const { workerData } = require('node:worker_threads');
       import(workerData.library).then(({ CompletionPort }) => {
         const port = CompletionPort.attach(workerData.token);
         port.consume(({ handle }) => handle?.close());
       });`,
      { eval: true, workerData: { token: port.token, library } },
    );
    socket.cancel();
    socket.receive({ timeout: 1 });
    await until(() => addresses(socket).every((address) => address === undefined));
    await worker.terminate();
  });
});

test('a loop over a socket that is left early closes it; closeOnReturn: false does not', async () => {
  const port = newPort();
  const { client, server } = await connectedPair(port);
  await client.send('first');
  for await (const bytes of server.chunks({ closeOnReturn: false })) {
    expect(bytes.toString()).toBe('first');
    break;
  }
  expect(server.closed).toBe(false);
  await client.send('second');
  const error = await failureOf(async () => {
    for await (const bytes of server) throw new Error(bytes.toString());
  });
  expect([error.message, server.closed]).toEqual(['second', true]);
  const again = await connectedPair(port);
  await again.client.send('third');
  const loop = again.server.chunks();
  await loop.next();
  await loop[Symbol.asyncDispose]();
  expect(again.server.closed).toBe(true);
});

test('a loop that has come to the end of the stream leaves the socket open', async () => {
  const port = newPort();
  const { client, server } = await connectedPair(port);
  await client.end('all');
  const chunks: string[] = [];
  for await (const bytes of server) chunks.push(bytes.toString());
  expect([chunks.join(''), server.closed]).toEqual(['all', false]);
  await server.send('answer');
  expect((await client.receive()).toString()).toBe('answer');
});

test('loops end when the program itself closes what they go over', async () => {
  const port = newPort();
  const { client, server } = await connectedPair(port);
  const received = (async () => {
    for await (const bytes of server) expect(bytes).toBeUndefined();
  })();
  await turns(2);
  await server.close();
  await received;
  // Also where it is closed in the middle of a turn.
  const echoed = (async () => {
    for await (const bytes of client) expect(bytes).toBeUndefined();
  })();
  await client.close();
  await echoed;
  const timer = port.timer();
  let ticks = 0;
  for await (const count of timer.every(1)) {
    ticks += count;
    await timer.close();
  }
  expect(ticks).toBeGreaterThan(0);
});

test('loops end when the program itself leaves the port, and closes it, but not when another does', async () => {
  for (const end of ['detach', 'close'] as const) {
    const port = newPort();
    const { server } = await connectedPair(port);
    const listener = await port.listen({ host: '127.0.0.1', port: 0 });
    const fifo = await port.open((await writtenFifo()).name);
    const [timer, other] = [port.timer(), port.timer()];
    const loops: AsyncIterable<unknown>[] = [
      server,
      listener,
      fifo.chunks(),
      timer.every(3_600_000),
      port.packets(),
    ];
    const waiting = loops.map(async (loop) => {
      for await (const turn of loop) expect(turn).toBeUndefined();
    });
    // One that is in a turn meanwhile ends with the next, or after what had come by then.
    const late = other.every(1);
    expect((await late.next()).done).toBe(false);
    await turns(2);
    await port[end]();
    await Promise.all(waiting);
    const [last, next] = [await late.next(), await late.next()];
    expect([last.done, next.done]).toContain(true);
  }
  const port = newPort();
  const { client, server } = await connectedPair(port);
  const late = server.chunks();
  await client.send('x');
  expect((await late.next()).done).toBe(false);
  // Its peer is none of the port's, whose end could come first.
  const { socket: alone } = await withRawPeer(port);
  const waiting = (async () => {
    for await (const bytes of alone) expect(bytes).toBeUndefined();
  })();
  await turns(2);
  const code = `import(${JSON.stringify(library)}).then(({ CompletionPort }) =>
    CompletionPort.attach(require('node:worker_threads').workerData).close());`;
  const worker = new Worker(code, { eval: true, workerData: port.token, execArgv: [] });
  onTestFinished(async () => void (await worker.terminate()));
  // Whoever closes a port closes its handles first.
  expect(['ECANCELED', 'ERR_PORT_CLOSED']).toContain(codeOf(await failureOf(() => waiting)));
  await until(() => port.closed);
  expect(codeOf(await failureOf(() => late.next()))).toBe('ERR_PORT_CLOSED');
});

test('reset() closes with a reset, and throws away what was not sent', async () => {
  const port = newPort();
  const { client, server } = await connectedPair(port);
  const reading = failureOf(() => client.receive());
  await turns(1);
  await server.reset();
  expect(codeOf(await reading)).toBe('ECONNRESET');
  expect(server.closed).toBe(true);
  await server.reset();
  // What was closed otherwise, or is another port's, can't be reset any more.
  const { socket: handed } = await keyedWithRawPeer(port, 8);
  handed.handOff(newPort());
  const orderly = await connectedPair(port);
  void orderly.client.close();
  for (const socket of [handed, orderly.client]) {
    expect((await failureOf(() => socket.reset() as Promise<void>)).code).toBe('ERR_HANDLE_CLOSED');
  }
  const keyed = await connectedPair(port);
  const { port: number } = (await port.listen({ host: '127.0.0.1', port: 0, key: 9 })).address()!;
  const peer = await port.connect({ host: '127.0.0.1', port: number });
  const receiving = failureOf(() => peer.receive());
  const types: string[] = [];
  while (!types.includes('closed')) {
    for (const packet of port.get(8)) {
      types.push(packet.type);
      if (packet.type === 'accepted') packet.accepted!.reset();
    }
  }
  expect(codeOf(await receiving)).toBe('ECONNRESET');
  await keyed.client.close();
});

test('fd: the descriptor, until it is closed', async () => {
  const port = newPort();
  const { client, server } = await connectedPair(port);
  const name = temporaryFile('some bytes');
  const file = await port.open(name);
  const listener = await port.listen({ host: '127.0.0.1', port: 0 });
  const handles = [client, server, file, listener];
  if (windows) {
    expect(handles.map(({ fd }) => fd)).toEqual([-1, -1, -1, -1]);
    return;
  }
  expect(new Set(handles.map(({ fd }) => fd)).size).toBe(4);
  expect(fstatSync(file.fd).ino).toBe(statSync(name).ino);
  expect(fstatSync(server.fd).isSocket()).toBe(true);
  for (const handle of handles) {
    const closing = handle.close();
    expect(handle.fd).toBe(-1);
    await closing;
  }
});

test('families of both ends', async () => {
  const port = newPort();
  const { client, server } = await connectedPair(port);
  const { localAddress: address, localPort } = client;
  expect(client.address()).toEqual({ address, port: localPort, family: 'IPv4' });
  expect([client.localFamily, client.remoteFamily, server.remoteFamily]).toEqual([
    'IPv4',
    'IPv4',
    'IPv4',
  ]);
  await client.close();
  await server.close();
  expect(server.localFamily).toBe(undefined);
  expect(server.address()).toBe(undefined);
});

test("a timeout of the program's own says so; the system's does not", async () => {
  const port = newPort();
  const { client } = await connectedPair(port);
  const error = await failureOf(() => client.receive({ timeout: 1 }));
  expect(error).toMatchObject({ code: 'ETIMEDOUT', syscall: 'read', timeout: true });
  expect((error as NodeJS.ErrnoException).errno).toBeLessThan(0);
  const timer = port.timer();
  const late = await failureOf(() => timer.wait(3_600_000, { timeout: 1 }));
  expect(late).toMatchObject({ code: 'ETIMEDOUT', timeout: true });
  const refused = await failureOf(() => port.connect({ host: '127.0.0.1', port: 1 }));
  expect('timeout' in refused).toBe(false);
});

test.each([
  ['lends', true],
  ['timout', 5],
])('chunks({ %s }) is unknown', async (name, value) => {
  const port = newPort();
  const { server } = await connectedPair(port);
  const file = await port.open(temporaryFile('x'));
  const unknown = expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }) as Error;
  expect(() => server.chunks({ [name]: value })).toThrow(unknown);
  expect(() => file.chunks({ [name]: value })).toThrow(unknown);
});

test('a signal given to listen() closes the listener, and a loop over it ends', async () => {
  const port = newPort();
  const controller = new AbortController();
  const { signal } = controller;
  const listener = await port.listen({ host: '127.0.0.1', port: 0, signal });
  const keyed = await port.listen({ host: '127.0.0.1', port: 0, key: 7, signal });
  const loop = (async () => {
    for await (const socket of listener) await socket.close();
  })();
  await turns(2);
  controller.abort();
  await loop;
  expect([listener.closed, keyed.closed]).toEqual([true, true]);
  const types: string[] = [];
  while (!types.includes('closed')) for (const { type } of port.get(8)) types.push(type);
  await until(() => port.stats().handles === 0);
  const late = await failureOf(() => port.listen({ host: '127.0.0.1', port: 0, signal }));
  expect(late.name).toBe('AbortError');
});

test('keepAlive of listen() is checked, and taken by its connections', async () => {
  const port = newPort();
  const where = { host: '127.0.0.1', port: 0 };
  expect(() => port.listen({ ...where, keepAliveInitialDelay: -1 })).toThrow(RangeError);
  expect(() => port.listen({ ...where, keepAlive: 1000 as never })).toThrow(TypeError);
  const listener = await port.listen({ ...where, keepAlive: true, keepAliveInitialDelay: 1000 });
  const [server] = await Promise.all([listener.accept(), rawClient(listener.address()!.port)]);
  expect(server.remoteAddress).toBe('127.0.0.1');
});

test('a loop over a listener ends when it is closed, and closes those it leaves behind', async () => {
  const port = newPort();
  const listener = await port.listen({ host: '127.0.0.1', port: 0 });
  const clients = await Promise.all(
    Array.from({ length: 100 }, () => rawClient(listener.address()!.port)),
  );
  let ended = 0;
  for (const client of clients) client.resume().once('end', () => ended++);
  let taken = 0;
  for await (const socket of listener) {
    void socket.close();
    if (++taken === 10) break;
  }
  await listener.close();
  await until(() => port.stats().handles === 0);
  expect(ended).toBeGreaterThanOrEqual(0);
});

test('a local address that cannot be had is an error of it, not of the peer', async () => {
  const port = newPort();
  const server = await rawServer();
  const from = (options: object) =>
    failureOf(() => port.connect({ host: '127.0.0.1', port: server.port, ...options }));
  expect(await from({ localAddress: '203.0.113.7' })).toMatchObject({
    ...{ code: 'EADDRNOTAVAIL', syscall: 'bind', address: '203.0.113.7', port: 0 },
  });
  if (windows) return; // which lets two sockets have one address
  expect(await from({ localAddress: '127.0.0.1', localPort: server.port })).toMatchObject({
    ...{ syscall: 'bind', address: '127.0.0.1', port: server.port },
  });
});
