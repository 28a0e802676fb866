/** Rule A4: sockets that leave their port, and sockets of Node.js that come to one. */
import { closeSync, openSync, readdirSync } from 'node:fs';
import dgram from 'node:dgram';
import { once } from 'node:events';
import net from 'node:net';
import tls from 'node:tls';
import { Worker } from 'node:worker_threads';
import { describe, expect, onTestFinished, test } from 'vitest';
import { adoptServer, adoptSocket, detach } from '../../dist/node.js';
import {
  Collector,
  codeOf,
  connectedPair,
  failureNow,
  failureOf,
  keyedWithRawPeer,
  library,
  newPort,
  pattern,
  rawServer,
  turns,
  until,
  windows,
  withRawPeer,
} from '../support/harness';

/** A socket of Node.js's of a descriptor, destroyed after the test. */
function socketOf(fd: number): net.Socket {
  const socket = new net.Socket({ fd, readable: true, writable: true, allowHalfOpen: true });
  socket.on('error', () => undefined);
  onTestFinished(() => void socket.destroy());
  return socket;
}

async function bytesOf(socket: net.Socket, length: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  socket.on('data', (part: Buffer) => parts.push(part));
  await until(() => parts.reduce((sum, part) => sum + part.length, 0) >= length);
  return Buffer.concat(parts);
}

describe.skipIf(windows)('A4', () => {
  test('A4: an awaited socket becomes one of Node.js, and the peer notices nothing', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    await socket.send('from the port, ');
    const waiting = failureOf(() => socket.receive());
    await turns();
    const fd = await detach(socket);
    expect(await waiting).toMatchObject({ code: 'ECANCELED' });
    expect(socket.closed).toBe(true);
    expect(failureNow(() => void detach(socket)).code).toBe('ERR_HANDLE_CLOSED');
    const own = socketOf(fd);
    own.write('from Node.js');
    expect(String(await bytesOf(peer, 27))).toBe('from the port, from Node.js');
    peer.write('and back');
    expect(String(await bytesOf(own, 8))).toBe('and back');
    expect(peer.readableEnded).toBe(false);
    await until(() => port.stats().handles === 0);
  });

  test('A4: what the port had received comes in packets, and nothing is lost or twice', async () => {
    const port = newPort();
    const collected: Buffer[] = [];
    const collector = new Collector(port, (packet) => {
      if (packet.type === 'received' && packet.bytes > 0) collected.push(Buffer.from(packet.data!));
    });
    const { socket, peer } = await keyedWithRawPeer(port, 3);
    socket.receive({ multishot: true });
    const bytes = pattern(4_000_000);
    peer.write(bytes);
    await until(() => collected.length > 2);
    const fd = await detach(socket);
    const before = Buffer.concat(collected);
    const own = socketOf(fd);
    const rest = await bytesOf(own, bytes.length - before.length);
    expect(Buffer.concat([before, rest]).equals(bytes)).toBe(true);
    await turns();
    expect(Buffer.concat(collected)).toHaveLength(before.length);
    expect(collector.of('closed')).toEqual([]);
  });

  test('A4: a listener goes on elsewhere', async () => {
    const port = newPort();
    const listener = await port.listen({ host: '127.0.0.1', port: 0 });
    const { port: number } = listener.address()!;
    const other = newPort();
    const again = await other.listen({ fd: listener.fd });
    const fd = await detach(listener);
    closeSync(fd);
    const accepting = again.accept();
    const client = await port.connect({ host: '127.0.0.1', port: number });
    const server = await accepting;
    await client.send('x');
    expect(String(await server.receive())).toBe('x');
  });

  test('A4: sends that are under way are cancelled, and the descriptor is left', async () => {
    const port = newPort();
    const { socket } = await withRawPeer(port);
    const sending = failureOf(() => socket.send(Buffer.alloc(50_000_000)));
    await turns();
    const fd = await detach(socket);
    expect((await sending).code).toBe('ECANCELED');
    closeSync(fd);
  });

  test('A4: a socket of Node.js comes with what was read of it already', async () => {
    const port = newPort();
    const before = readdirSync('/proc/self/fd').length;
    const server = await rawServer();
    const peer = net.connect({ host: '127.0.0.1', port: server.port });
    peer.write('read already, ');
    await until(() => server.sockets.length === 1 && server.sockets[0]!.readableLength > 0);
    const { handle, head } = adoptSocket(port, server.sockets[0]!);
    expect(String(head)).toBe('read already, ');
    expect(server.sockets[0]!.destroyed).toBe(true);
    peer.write('and later');
    expect(String(await handle.receive())).toBe('and later');
    await handle.send('answer');
    expect(String(await bytesOf(peer, 6))).toBe('answer');
    await handle.close();
    peer.destroy();
    await until(() => readdirSync('/proc/self/fd').length <= before + 2);
  });

  test('A4: with a key packets come', async () => {
    const port = newPort();
    const collector = new Collector(port);
    const server = await rawServer();
    const peer = net.connect({ host: '127.0.0.1', port: server.port });
    await until(() => server.sockets.length === 1);
    const { handle } = adoptSocket(port, server.sockets[0]!, { key: 'unique' });
    handle.receive();
    peer.end('x');
    const { key, data } = await collector.first('received');
    expect([key, String(data)]).toEqual([handle.key, 'x']);
    handle.close();
    await collector.first('closed');
  });

  test('A4: a server gives its listening socket, and keeps its connections', async () => {
    const port = newPort();
    const server = net.createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port: number } = server.address() as net.AddressInfo;
    const first = net.connect(number, '127.0.0.1');
    onTestFinished(() => void first.destroy());
    first.write('1');
    await once(first, 'data');
    const collector = new Collector(port);
    adoptServer(port, server, { key: 1 });
    expect(server.listening).toBe(false);
    const second = net.connect(number, '127.0.0.1');
    onTestFinished(() => void second.destroy());
    expect(await collector.first('accepted')).toMatchObject({ key: 1 });
    first.write('2');
    expect(String((await once(first, 'data'))[0])).toBe('2');
  });

  test('A4: what is no socket, or not to be had, is refused and left as it is', async () => {
    const port = newPort();
    const { client, listener } = await connectedPair(port);
    const code = (what: unknown): string | undefined =>
      codeOf(failureNow(() => void adoptSocket(port, what as net.Socket)));
    const file = openSync('/dev/null', 'r');
    onTestFinished(() => closeSync(file));
    expect(code(file)).toBe('ENOTSOCK');
    expect(code(0x7fffffff)).toBe('EBADF');
    expect(code(listener.fd)).toBe('EINVAL');
    expect(code(-1)).toBe('ERR_OUT_OF_RANGE');
    expect(code({})).toBe('ERR_INVALID_ARG_TYPE');
    expect(code(new net.Socket())).toBe('ERR_INVALID_STATE');
    expect(code(new tls.TLSSocket(new net.Socket()))).toBe('ERR_INVALID_STATE');
    const udp = dgram.createSocket('udp4').bind(0);
    await once(udp, 'listening');
    const { _handle } = udp as unknown as Record<string, { fd: number } | undefined>;
    if (_handle !== undefined) expect(code(_handle.fd)).toBe('ENOTSUP');
    expect(code(udp)).toBe('ENOTSUP');
    udp.close();
    const server = await rawServer();
    const busy = net.connect(server.port, '127.0.0.1');
    onTestFinished(() => void busy.destroy());
    expect(code(busy)).toBe('ERR_INVALID_STATE');
    await once(busy, 'connect');
    busy.on('data', () => undefined);
    expect(code(busy)).toBe('ERR_INVALID_STATE');
    expect(busy.destroyed).toBe(false);
    const notOpen = failureNow(() => void adoptServer(port, net.createServer()));
    expect(notOpen.code).toBe('ERR_INVALID_STATE');
    const file2 = await port.open('/dev/null');
    const noSocket = failureNow(() => void detach(file2 as never));
    expect(noSocket.code).toBe('ERR_INVALID_ARG_TYPE');
    await client.send('x');
  });

  test('A4: a descriptor that a worker was to have and never reads is closed', async () => {
    const port = newPort();
    const listener = await port.listen({ port: 0, host: '127.0.0.1' });
    const before = readdirSync('/proc/self/fd').length;
    const source = `
      const { workerData } = require('node:worker_threads');
      Promise.all([import(workerData.library), import(workerData.doors)]).then(
        async ([{ CompletionPort }, { detach }]) => {
          const port = new CompletionPort();
          const socket = await port.connect({ port: workerData.port, host: '127.0.0.1' });
          detach(socket).then(() => undefined, () => undefined);
          process.nextTick(() => {
            // The packet is on its way, or here, and nobody looks at it.
            Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 20);
            process.exit();
          });
        });`;
    for (let i = 0; i < 10; i++) {
      const doors = new URL('node.js', library).href;
      const workerData = { library, doors, port: listener.address()!.port };
      const worker = new Worker(source, { eval: true, workerData });
      const [accepted] = await Promise.all([listener.accept(), once(worker, 'exit')]);
      // Whoever has the other end open would keep it so.
      expect((await accepted.receive()).length).toBe(0);
      await accepted.close();
    }
    await until(() => readdirSync('/proc/self/fd').length <= before);
  });

  test('A4: listen({ fd }) refuses what does not listen', async () => {
    const port = newPort();
    const { client } = await connectedPair(port);
    expect(await failureOf(() => port.listen({ fd: client.fd }))).toMatchObject({ code: 'EINVAL' });
    expect(await failureOf(() => port.listen({ fd: 0x7fffffff }))).toMatchObject({ code: 'EBADF' });
    await client.send('x');
  });
});
