/**
 * What one client can take is bounded: `highWaterMark`, `drain`, and receiving that waits (rule M4).
 */
import net from 'node:net';
import { Worker } from 'node:worker_threads';
import { execFileSync } from 'node:child_process';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  Collector,
  failureOf,
  keyedWithRawPeer,
  newPort,
  pattern,
  rawClient,
  rawServer,
  skipInWorld,
  temporaryFile,
  turns,
  until,
  withRawPeer,
  type CompletionPort,
  type KeyedSocket,
  type SocketHandle,
} from '../support/harness';
import { newPipeline } from '../support/stages';
import { defineStage } from '../../dist/stages.js';

const MiB = 1 << 20;
/** More than the kernel keeps for a connection in both directions. */
const much = pattern(64 * MiB);
const buffers = { size: 32768, count: 256 };

interface Server {
  readonly port: number;
  /** Receive buffers that are free, of all. */
  free(): number;
  /** Bytes of memory given out. */
  allocated(): number;
}

type Serve = () => Promise<Server>;

function told(port: CompletionPort, number: number): Server {
  return {
    port: number,
    free: () => port.stats().freeBuffers,
    allocated: () => port.stats().allocatedBytes,
  };
}

/** Serves the packets of one port. */
async function packets(handler: Parameters<CompletionPort['consume']>[0]): Promise<Server> {
  const port = newPort({ buffers });
  port.consume(handler);
  const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 1 });
  return told(port, listener.address()!.port);
}

async function awaited(handler: (socket: SocketHandle) => Promise<void>): Promise<Server> {
  const port = newPort({ buffers });
  const listener = await port.listen({ host: '127.0.0.1', port: 0 });
  void (async () => {
    for await (const socket of listener) void handler(socket).catch(() => undefined);
  })().catch(() => undefined);
  return told(port, listener.address()!.port);
}

const echo = defineStage({
  states: {
    open: {
      received(c, bytes) {
        c.send(bytes);
      },
    },
  },
});

const servers: Record<string, Serve> = {
  'await, each send awaited': () =>
    awaited(async (socket) => {
      for await (const bytes of socket) await socket.send(bytes);
    }),
  'await, no send awaited': () =>
    awaited(async (socket) => {
      for await (const bytes of socket) void socket.send(bytes).catch(() => undefined);
    }),
  'await, no send of lent bytes awaited': () =>
    awaited(async (socket) => {
      const chunks = socket.chunks({ lend: true });
      for await (const bytes of chunks) void socket.send(bytes).catch(() => undefined);
    }),
  'packets, one receive after another': () =>
    packets((packet) => {
      if (packet.type === 'accepted') packet.accepted!.receive();
      if (packet.type !== 'received' || packet.data === undefined) return;
      const socket = packet.handle as KeyedSocket;
      socket.send(Buffer.from(packet.data));
      socket.receive();
    }),
  'packets, multishot': () =>
    packets((packet) => {
      if (packet.type === 'accepted') packet.accepted!.receive({ multishot: true });
      if (packet.type !== 'received' || packet.data === undefined) return;
      (packet.handle as KeyedSocket).send(Buffer.from(packet.data));
    }),
  'packets, sendTo': () =>
    packets((packet) => {
      if (packet.type === 'accepted') packet.accepted!.receive({ multishot: true });
      if (packet.type !== 'received' || packet.data === undefined) return;
      packet.sendTo(packet.handle as KeyedSocket);
    }),
  'packets, three threads': async () => {
    const port = newPort({ buffers, concurrency: 2 });
    for (let i = 0; i < 3; i++) {
      const script = new URL('../support/workers/echo.mjs', import.meta.url);
      const worker = new Worker(script, { workerData: port.token, execArgv: [] });
      onTestFinished(async () => void (await worker.terminate()));
    }
    const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 1 });
    return told(port, listener.address()!.port);
  },
  'a stage': async () => {
    const pipeline = newPipeline({ echo: { stage: echo, threads: 0 } }, { buffers });
    const { port } = await pipeline.listen('echo', { host: '127.0.0.1', port: 0 });
    const stats = () => pipeline.stats().stages['echo']!.port;
    return {
      port,
      free: () => stats().freeBuffers,
      allocated: () => stats().allocatedBytes,
    };
  },
};

interface Flood {
  readonly client: net.Socket;
  /** Bytes that the kernel took so far. */
  readonly written: () => number;
}

/** A client that writes all of `much` and reads nothing until it is resumed. */
async function flood(port: number): Promise<Flood> {
  const client = await rawClient(port);
  client.pause();
  let written = 0;
  const next = (): void => {
    if (written === much.length || client.destroyed) return;
    client.write(much.subarray(written, written + 65536), (error) => {
      if (error) return;
      written += 65536;
      next();
    });
  };
  next();
  return { client, written: () => written };
}

/** Waits until a client can write no more: `round` is what others do meanwhile. */
async function stalled(it: Flood, round: () => Promise<void>): Promise<void> {
  for (let before = -1, same = 0; same < 20;) {
    await round();
    await turns(5);
    same = it.written() === before ? same + 1 : 0;
    before = it.written();
  }
  expect(it.written()).toBeGreaterThan(0);
  expect(it.written()).toBeLessThan(much.length);
}

async function roundTrip(client: net.Socket, bytes: Buffer): Promise<void> {
  const parts: Buffer[] = [];
  const take = (chunk: Buffer): number => parts.push(chunk);
  client.on('data', take);
  client.write(bytes);
  await until(() => parts.reduce((sum, part) => sum + part.length, 0) >= bytes.length);
  client.off('data', take);
  expect(Buffer.concat(parts).equals(bytes)).toBe(true);
}

function gather(client: net.Socket, length: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let left = length;
  return new Promise((resolve, reject) => {
    client.on('data', (chunk) => {
      parts.push(chunk);
      if ((left -= chunk.length) <= 0) resolve(Buffer.concat(parts));
    });
    client.once('close', () => reject(new Error(`closed with ${left} bytes to come`)));
  });
}

describe('M4: a client that writes and never reads costs its bound, and nothing else', () => {
  for (const [style, serve] of Object.entries(servers)) {
    test(`M4: others are served, and it gets all when it reads (${style})`, async () => {
      const server = await serve();
      const other = await rawClient(server.port);
      const floods = await Promise.all([flood(server.port), flood(server.port)]);
      for (const it of floods) await stalled(it, () => roundTrip(other, pattern(10_000)));
      const [first, second] = floods.map(({ client }) => client);
      // At the mark, or a batch of receives of each thread beyond it.
      expect(server.allocated()).toBeLessThan(32 * MiB);
      expect(server.free()).toBeGreaterThan(32);
      const late = await rawClient(server.port);
      await roundTrip(late, pattern(100_000));
      const answer = gather(first!, much.length);
      first!.resume();
      expect((await answer).equals(much)).toBe(true);
      first!.destroy();
      second!.destroy();
      await roundTrip(late, pattern(100_000));
      await until(() => server.allocated() === 0);
    });
  }

  test('M4: a proxy receives no more than its other side takes', async () => {
    const target = await rawServer((socket) => void socket.pause());
    const peers = new Map<number, KeyedSocket>();
    let port: CompletionPort | undefined = undefined;
    const server = await packets((packet) => {
      port = packet.handle?.port ?? port;
      if (packet.type === 'accepted') {
        const near = packet.accepted!;
        void port!.connect({ port: target.port, host: '127.0.0.1', key: 'unique' }).then((far) => {
          peers.set(near.key, far).set(far.key, near);
          near.receive({ multishot: true });
          far.receive({ multishot: true });
        });
      }
      if (packet.type === 'received' && packet.bytes > 0) packet.sendTo(peers.get(packet.key)!);
    });
    await stalled(await flood(server.port), () => turns(5));
    expect(server.allocated()).toBeLessThan(16 * MiB);
    expect(server.free()).toBeGreaterThan(64);
    const arrived = gather(target.sockets[0]!, much.length);
    target.sockets[0]!.resume();
    expect((await arrived).equals(much)).toBe(true);
    // Both ends of the proxy are gone while one of them waits for the other.
    await stalled(await flood(server.port), () => turns(5));
    for (const socket of peers.values()) if (!socket.closed) socket.close();
    await until(() => server.allocated() === 0);
  });
});

describe('M4: a loop that does not await what it sends', () => {
  interface Crossing {
    readonly port: CompletionPort;
    /** What the loops receive from, and their clients. */
    readonly from: SocketHandle[];
    readonly clients: net.Socket[];
    readonly to: SocketHandle;
    readonly reader: net.Socket;
    /** What became of each loop. */
    readonly ends: Promise<string>[];
  }

  /** Several connections whose bytes go to one other. */
  async function crossing(lend: boolean, feeders: number, head = ''): Promise<Crossing> {
    const port = newPort({ buffers });
    const { socket: to, peer: reader } = await withRawPeer(port);
    reader.pause();
    const from: SocketHandle[] = [];
    const clients: net.Socket[] = [];
    const ends: Promise<string>[] = [];
    for (let i = 0; i < feeders; i++) {
      const { socket, peer } = await withRawPeer(port);
      peer.on('error', () => undefined);
      from.push(socket);
      clients.push(peer);
      const loop = async (): Promise<string> => {
        const chunks = lend ? socket.chunks({ lend }) : socket;
        for await (const bytes of chunks) {
          const sent = to.send(head === '' ? bytes : [head, bytes]);
          void sent.catch(() => undefined);
        }
        return 'ended';
      };
      ends.push(loop().catch((error: NodeJS.ErrnoException) => error.code ?? error.message));
    }
    return { port, from, clients, to, reader, ends };
  }

  for (const lend of [true, false]) {
    test(`M4: nothing is received while that waits, whatever is drained meanwhile (lend: ${lend})`, async () => {
      const { clients, to, reader } = await crossing(lend, 3);
      const each = much.subarray(0, 24 * MiB);
      for (const client of clients) client.end(each);
      let arrived = 0;
      let sum = 0;
      reader.on('data', (bytes: Buffer) => {
        arrived += bytes.length;
        for (const byte of bytes.subarray(0, 16)) sum += byte;
        // Slower than they send: it reads a part, and then lets them go on for a while.
        reader.pause();
        if (arrived < clients.length * each.length) setImmediate(() => reader.resume());
      });
      reader.resume();
      let most = 0;
      await until(() => {
        most = Math.max(most, to.bufferedAmount);
        return arrived === clients.length * each.length;
      });
      expect(sum).toBeGreaterThan(0);
      // The mark, and a receive or two of each.
      expect(most).toBeLessThan(3 * MiB);
      await until(() => to.bufferedAmount === 0);
    });
  }

  for (const [lend, head] of [
    [true, ''],
    [false, ''],
    [false, 'a head'],
  ] as const) {
    test(`M4: nothing is received either where many loops are answered at once (lend: ${lend}${head && ', behind '}${head})`, async () => {
      const { clients, to } = await crossing(lend, 16, head);
      for (const client of clients) client.end(much.subarray(0, 4 * MiB));
      let [most, still] = [0, 0];
      // Until nothing has come for a while: nobody reads what they send.
      await until(() => {
        still = to.bufferedAmount > most || most === 0 ? 0 : still + 1;
        most = Math.max(most, to.bufferedAmount);
        return still === 50;
      });
      // The mark, and a receive or two of each.
      expect(most).toBeLessThan(3 * MiB);
    });
  }

  test('M4: bytes of one connection arrive whole and in order', async () => {
    const { clients, reader } = await crossing(true, 1);
    const all = gather(reader, much.length);
    clients[0]!.end(much);
    reader.resume();
    expect((await all).equals(much)).toBe(true);
  });

  test.each(['close', 'cancel'] as const)(
    'M4 O4 O5: %s of its socket ends it, although it waits',
    async (how) => {
      const { port, from, clients, to, ends } = await crossing(true, 1);
      clients[0]!.write(much);
      await until(() => to.bufferedAmount >= MiB);
      void from[0]![how]();
      expect(await ends[0]).toBe(how === 'cancel' ? 'ECANCELED' : 'ended');
      await to.close();
      if (how === 'cancel') await from[0]!.close();
      await until(() => port.stats().allocatedBytes === 0);
    },
  );

  test('M4: what it sends to goes away, and it goes on', async () => {
    const { from, clients, to, ends } = await crossing(true, 1);
    clients[0]!.end(much);
    await until(() => to.bufferedAmount >= MiB);
    await to.close();
    // Each further send throws, which ends the loop.
    expect(await ends[0]).toBe('ERR_HANDLE_CLOSED');
    await from[0]!.close();
  });
});

describe('M4: enough to send', () => {
  test('M4: bufferedAmount counts what is not with the kernel', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    peer.pause();
    expect(socket.bufferedAmount).toBe(0);
    const sending = socket.send(much);
    expect(socket.bufferedAmount).toBe(much.length);
    const waiting = socket.send('ten bytes.');
    expect(socket.bufferedAmount).toBe(much.length + 10);
    peer.resume();
    expect(await sending).toBe(much.length);
    expect(await waiting).toBe(10);
    await until(() => socket.bufferedAmount === 0);
  });

  test('M4: send, sendTo, sendFile and end tell whether there is less than highWaterMark', async () => {
    const port = newPort();
    const { socket, peer } = await keyedWithRawPeer(port, 1);
    peer.pause();
    expect(socket.highWaterMark).toBe(MiB);
    expect(socket.send('x')).toBe(true);
    expect(socket.send(Buffer.alloc(MiB))).toBe(false);
    const file = await port.open(temporaryFile('contents'));
    socket.highWaterMark = 1000;
    expect(socket.send(Buffer.alloc(32 * MiB))).toBe(false);
    expect(socket.sendFile(file)).toBe(false);
    expect(socket.end('end')).toBe(false);
    peer.resume();
  });

  test('M4: a drain packet follows when most of it is out, once', async () => {
    const port = newPort();
    const collector = new Collector(port);
    const { socket, peer } = await keyedWithRawPeer(port, 7);
    peer.pause();
    const drains = () => collector.packets.filter((packet) => packet.type === 'drain');
    for (let i = 0; i < 4; i++) expect(socket.send(Buffer.alloc(16 * MiB))).toBe(false);
    await turns();
    expect(drains()).toHaveLength(0);
    peer.resume();
    await until(() => drains().length > 0);
    expect(drains()[0]!.key).toBe(7);
    expect(socket.bufferedAmount).toBeLessThanOrEqual(MiB / 2);
    expect(socket.send('x')).toBe(true);
    await until(() => collector.packets.filter((packet) => packet.type === 'sent').length === 5);
    expect(drains()).toHaveLength(1);
  });

  test('M4: one that fits tells so, and no drain packet follows', async () => {
    const port = newPort();
    const collector = new Collector(port);
    const { socket, peer } = await keyedWithRawPeer(port, 7);
    peer.resume();
    for (let i = 0; i < 10; i++) {
      expect(socket.send('x')).toBe(true);
      await collector.count(i + 1);
    }
    expect(collector.packets.every((packet) => packet.type === 'sent')).toBe(true);
  });

  test('M4: highWaterMark is an option of listen and connect', async () => {
    const port = newPort();
    const listener = await port.listen({ host: '127.0.0.1', port: 0, highWaterMark: 5000 });
    const accepting = listener.accept();
    const client = await port.connect({
      host: '127.0.0.1',
      port: listener.address()!.port,
      highWaterMark: 7000,
    });
    expect((await accepting).highWaterMark).toBe(5000);
    expect(client.highWaterMark).toBe(7000);
    client.highWaterMark = 1;
    expect(client.highWaterMark).toBe(1);
    for (const wrong of [0, -1, 1.5, 2 ** 32, '1', NaN]) {
      const highWaterMark = wrong as number;
      const failure = () => port.connect({ port: 1, highWaterMark });
      expect(failure).toThrow(/highWaterMark/);
      expect(() => (client.highWaterMark = highWaterMark)).toThrow(/highWaterMark/);
    }
  });

  test('M4: a stage hears of it as its event drain', async () => {
    const events: string[] = [];
    const stage = defineStage({
      states: {
        open: {
          entered(c) {
            events.push(`send ${c.send(Buffer.alloc(32 * MiB))}`);
          },
          received() {
            // Nothing.
          },
          drain(c) {
            events.push(`drain ${c.bufferedAmount}`);
            return c.close();
          },
        },
      },
    });
    const pipeline = newPipeline({ one: { stage, threads: 0 } });
    const { port } = await pipeline.listen('one', { host: '127.0.0.1', port: 0 });
    const client = await rawClient(port);
    const all = gather(client, 32 * MiB);
    expect(await all).toHaveLength(32 * MiB);
    await until(() => events.length === 2);
    expect(events).toEqual(['send false', 'drain 0']);
  });
});

describe('M4: sends of await style that are begun above the mark', () => {
  test('M4: they go out in order, whatever the program does with its memory', async () => {
    const port = newPort({ memoryLimit: 16 * MiB });
    const { socket, peer } = await withRawPeer(port);
    peer.pause();
    const own = Buffer.alloc(MiB);
    const sends: Promise<number>[] = [];
    for (let i = 0; i < 64; i++) sends.push(socket.send(own.fill(i)).then());
    const ending = socket.end('the end');
    own.fill(255);
    expect(socket.bufferedAmount).toBe(64 * MiB + 7);
    expect(port.stats().allocatedBytes).toBeLessThan(4 * MiB);
    const all = gather(peer, 64 * MiB + 7);
    peer.resume();
    expect(await Promise.all(sends)).toEqual(sends.map(() => MiB));
    await ending;
    const received = await all;
    for (let i = 0; i < 64; i++) expect(received[i * MiB + 17]).toBe(i);
    expect(received.subarray(64 * MiB).toString()).toBe('the end');
    expect(socket.bufferedAmount).toBe(0);
  });

  test('M4: very many of them go out in order, some ended before their turn', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    peer.pause();
    void socket.send(much).catch(() => undefined);
    const count = 20_000;
    const expected: string[] = [];
    const ended: Promise<unknown>[] = [];
    for (let i = 0; i < count; i++) {
      const text = `${i}\n`;
      const send = socket.send(text);
      if (i % 5 === 0) {
        send.cancel();
        ended.push(failureOf(() => send));
      } else {
        expected.push(text);
        send.catch(() => undefined);
      }
    }
    const rest = expected.join('');
    expect(socket.bufferedAmount).toBeGreaterThanOrEqual(rest.length);
    const all = gather(peer, much.length + rest.length);
    peer.resume();
    expect((await all).subarray(much.length).toString()).toBe(rest);
    await Promise.all(ended);
    await until(() => socket.bufferedAmount === 0);
  });

  test('M4: a program that ignores its promises is warned, one that awaits them is not', () => {
    skipInWorld('the peers of its program are the system’s');
    const code = `
      const net = require('node:net');
      const { CompletionPort } = require('./dist/index.js');
      process.on('warning', ({ name, message }) => console.log(name, message));
      (async () => {
        const port = new CompletionPort();
        const peers = [];
        const server = net.createServer((peer) => peers.push(peer.on('error', () => {})));
        await new Promise((resolve) => server.listen(0, '127.0.0.1', resolve));
        const target = { host: '127.0.0.1', port: server.address().port, highWaterMark: 65_536 };
        const [good, bad] = [await port.connect(target), await port.connect(target)];
        while (peers.length < 2) await new Promise(setImmediate);
        const reader = peers.find((peer) => peer.remotePort === good.localPort);
        reader.resume();
        for (let i = 0; i < 64; i++) await good.send(Buffer.alloc(1 << 20));
        console.log('awaited');
        for (let i = 0; i < 64; i++) bad.send(Buffer.alloc(1 << 20)).catch(() => {});
        await new Promise(setImmediate);
        for (const peer of peers) peer.destroy();
        server.close();
        await port.close();
      })();
    `;
    const lines = execFileSync(process.execPath, ['--no-warnings', '-e', code], {
      encoding: 'utf8',
    });
    expect(lines).toMatch(/^awaited\nUnawaitedSendsWarning \d+ sends with \d+ bytes wait .*\n$/);
  });

  test('M4 O4 O6: cancel, a signal, a timeout and a close reach them', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    peer.pause();
    void socket.send(much).catch(() => undefined);
    const cancelled = socket.send('one');
    const failing = failureOf(() => cancelled);
    cancelled.cancel();
    expect((await failing).code).toBe('ECANCELED');
    const controller = new AbortController();
    const aborted = failureOf(() => socket.send('two', { signal: controller.signal }));
    controller.abort();
    expect((await aborted).code).toBe('ABORT_ERR');
    expect((await failureOf(() => socket.send('three', { timeout: 1 }))).code).toBe('ETIMEDOUT');
    const [linked] = socket.link(() => [socket.receive()]);
    linked.catch(() => undefined);
    const left = failureOf(() => socket.send('four'));
    expect(() => socket.link(() => socket.receive())).toThrow(/wait for their turn/);
    await socket.close();
    expect((await left).code).toBe('ECANCELED');
  });
});
