/** Connections of a path, UNIX sockets and named pipes alike: under load, cancelled, handed on. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import net from 'node:net';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { Worker } from 'node:worker_threads';
import { expect, onTestFinished, test } from 'vitest';
import * as overPort from '../../dist/node-net.js';
import { spawn as spawnMicro } from '../../dist/micro.js';
import {
  Collector,
  codeOf,
  failureOf,
  library,
  newPort,
  pattern,
  skipInWorld,
  temporaryFile,
  until,
  type CompletionPort,
  type KeyedSocket,
  type SocketHandle,
} from '../support/harness';
import { newSocketPath } from '../support/socket-path';

interface Pair {
  readonly client: SocketHandle;
  readonly server: SocketHandle;
}

async function newPair(
  port: CompletionPort,
  options: { idleTimeout?: number } = {},
): Promise<Pair> {
  const path = newSocketPath();
  const listener = await port.listen({ path, ...options });
  const accepting = listener.accept();
  const client = await port.connect({ path });
  return { client, server: await accepting };
}

/** So many bytes; fewer where they end before. */
async function receiveAll(socket: SocketHandle, length: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  for (let left = length; left > 0;) {
    const part = await socket.receive();
    if (part.length === 0) break;
    parts.push(part);
    left -= part.length;
  }
  return Buffer.concat(parts);
}

/** Sends more than there is room for, to a peer that receives nothing. */
async function fill(socket: SocketHandle): Promise<{ readonly sending: Promise<Error> }> {
  const sending = failureOf(() => socket.send(pattern(8_000_000)));
  await sleep(100);
  return { sending };
}

test('many megabytes, both ways at a time, and into memory of the program', async () => {
  const port = newPort();
  const { client, server } = await newPair(port);
  const [up, down] = [pattern(6_000_000, 1), pattern(4_000_000, 2)];
  const sent = [client.send(up), server.send([down.subarray(0, 1000), down.subarray(1000)])];
  const [atServer, atClient] = await Promise.all([
    receiveAll(server, up.length),
    receiveAll(client, down.length),
  ]);
  expect(await Promise.all(sent)).toEqual([up.length, down.length]);
  expect(atServer.equals(up) && atClient.equals(down)).toBe(true);
  expect([client.bytesWritten, client.bytesRead]).toEqual([up.length, down.length]);

  const into = new Uint8Array(10);
  const receiving = client.receive(into);
  await server.send('0123456789');
  expect(await receiving).toBe(10);
  expect(String(Buffer.from(into))).toBe('0123456789');
});

test('what was sent before a close is received, and then the end', async () => {
  const port = newPort();
  const { client, server } = await newPair(port);
  await client.send('the last words');
  await client.close();
  expect(String(await server.receive())).toBe('the last words');
  expect(await server.receive()).toHaveLength(0);
  const failed = await failureOf(async () => {
    for (let i = 0; i < 50; i++) await server.send('nobody');
  });
  expect(['EPIPE', 'ECONNRESET']).toContain(codeOf(failed));
});

test('who connects, sends and leaves before anybody accepts is heard', async () => {
  const port = newPort();
  const path = newSocketPath();
  const listener = await port.listen({ path });
  const client = await port.connect({ path });
  await client.send('was here');
  await client.close();
  const server = await listener.accept();
  expect(String(await server.receive())).toBe('was here');
  expect(await server.receive()).toHaveLength(0);
});

test('several clients at a time, each of which gets its own bytes', async () => {
  const port = newPort();
  const path = newSocketPath();
  const listener = await port.listen({ path });
  const serving = (async () => {
    for await (const socket of listener) {
      void (async () => {
        for await (const part of socket) await socket.send(part);
        await socket.close();
      })().catch(() => undefined);
    }
  })();
  const answers = Array.from({ length: 16 }, async (_, i) => {
    const bytes = pattern(100_000, i);
    const socket = await port.connect({ path });
    const [, back] = await Promise.all([socket.send(bytes), receiveAll(socket, bytes.length)]);
    await socket.close();
    return back.equals(bytes);
  });
  expect(await Promise.all(answers)).toEqual(Array.from({ length: 16 }, () => true));
  await listener.close();
  await serving;
});

test('packets: accepted, received, sent and closed, of several clients', async () => {
  const port = newPort();
  const path = newSocketPath();
  const collector = new Collector(port, (packet) => {
    if (packet.type === 'accepted') packet.accepted?.receive({ multishot: true });
    if (packet.type === 'received' && packet.bytes > 0) packet.sendTo(packet.handle);
    else if (packet.type === 'received') packet.handle.close();
  });
  const listener = await port.listen({ path, key: 1 });
  for (let i = 0; i < 6; i++) {
    const client = net.connect(path).on('error', () => undefined);
    onTestFinished(() => void client.destroy());
    client.write(`text ${i}`);
    expect(String((await once(client, 'data'))[0])).toBe(`text ${i}`);
    client.destroy();
  }
  await until(() => collector.of('closed').length === 6);
  listener.close();
  await until(() => collector.of('closed').length === 7);
});

test('micro-threads', async () => {
  const port = newPort();
  const path = newSocketPath();
  const listener = await port.listen({ path });
  const serving = spawnMicro(function* () {
    const socket = yield* listener.accept();
    const bytes = yield* socket.receive();
    yield* socket.send(bytes);
    yield* socket.close();
  });
  const asking = spawnMicro(function* () {
    const socket = yield* port.connect({ path });
    yield* socket.send('yielded');
    return String(yield* socket.receive());
  });
  expect(await asking).toBe('yielded');
  await serving;
});

test('a close ends what is in flight in both directions', async () => {
  const port = newPort();
  const { client, server } = await newPair(port);
  const receiving = failureOf(() => client.receive());
  const { sending } = await fill(client);
  await client.close();
  expect(codeOf(await receiving)).toBe('ECANCELED');
  expect(codeOf(await sending)).toBe('ECANCELED');
  await server.close();
});

test('a listener that is closed while it accepts, and while clients wait', async () => {
  const port = newPort();
  for (let i = 0; i < 5; i++) {
    const path = newSocketPath();
    const listener = await port.listen({ path });
    const accepting = failureOf(() => listener.accept());
    await listener.close();
    expect(codeOf(await accepting)).toBe('ECANCELED');
    expect(codeOf(await failureOf(() => port.connect({ path })))).toBe('ENOENT');
    await (await port.listen({ path })).close();
  }
});

test('an accept that is cancelled loses no client', async () => {
  const port = newPort();
  const path = newSocketPath();
  const listener = await port.listen({ path });
  for (let i = 0; i < 5; i++) {
    const accepting = listener.accept();
    const connecting = port.connect({ path });
    accepting.cancel();
    const server = await accepting.catch(() => listener.accept());
    const client = await connecting;
    await client.send(`${i}`);
    expect(String(await server.receive())).toBe(`${i}`);
    await Promise.all([client.close(), server.close()]);
  }
});

test('a connection is handed to another port, and back', async () => {
  const [here, there] = [newPort(), newPort()];
  const path = newSocketPath();
  const serve = (port: CompletionPort, name: string, next: CompletionPort): Collector =>
    new Collector(port, (packet) => {
      if (packet.type === 'accepted') packet.accepted?.receive();
      if (packet.type === 'handedOff') (packet.handle as KeyedSocket).receive();
      if (packet.type !== 'received' || packet.bytes === 0) return;
      packet.handle.send(`${name} ${String(packet.data)}`);
      packet.handle.handOff(next);
    });
  serve(here, 'here', there);
  serve(there, 'there', here);
  await here.listen({ path, key: 1 });
  const client = await newPort().connect({ path });
  for (const name of ['here', 'there', 'here', 'there']) {
    await client.send('at');
    expect(String(await client.receive())).toBe(`${name} at`);
  }
});

test('an idle connection ends in time, and one that is not goes on', async () => {
  skipInWorld('time of its own');
  const port = newPort();
  const { client, server } = await newPair(port, { idleTimeout: 200 });
  for (let i = 0; i < 5; i++) {
    await client.send('x');
    expect(await server.receive()).toHaveLength(1);
    await sleep(20);
  }
  expect(codeOf(await failureOf(() => server.receive()))).toBe('ETIMEDOUT');
  await server.close();
  expect(await client.receive()).toHaveLength(0);
});

test('a file is sent', async () => {
  const port = newPort();
  const { client, server } = await newPair(port);
  const bytes = pattern(300_001);
  const file = await port.open(temporaryFile(bytes), 'r');
  const receiving = receiveAll(client, bytes.length - 10);
  expect(await server.sendFile(file, { position: 10 })).toBe(bytes.length - 10);
  expect((await receiving).equals(bytes.subarray(10))).toBe(true);
});

test('a client that is killed', async () => {
  skipInWorld('processes');
  const port = newPort();
  const path = newSocketPath();
  const listener = await port.listen({ path });
  const text = `require('net').connect(${JSON.stringify(path)}, function () { this.write('here'); })`;
  const child = spawn(process.execPath, ['-e', text], { stdio: 'ignore' });
  const server = await listener.accept();
  expect(String(await server.receive())).toBe('here');
  const receiving = server.receive().catch((error: unknown) => codeOf(error));
  child.kill('SIGKILL');
  const end = await receiving;
  if (typeof end === 'string') expect(end).toBe('ECONNRESET');
  else expect(end).toHaveLength(0);
});

const BUSY = `
  const { parentPort, workerData } = require('node:worker_threads');
  import(workerData.library).then(async ({ CompletionPort }) => {
    const port = new CompletionPort();
    const listener = await port.listen({ path: workerData.path });
    parentPort.postMessage('listening');
    const socket = await listener.accept();
    socket.send(Buffer.alloc(4_000_000)).catch(() => undefined);
    socket.receive().catch(() => undefined);
    listener.accept().catch(() => undefined);
    setTimeout(() => parentPort.postMessage('busy'), 100);
  });
`;

test('a worker that ends with operations under way', async () => {
  skipInWorld('workers have worlds of their own');
  const port = newPort();
  for (let i = 0; i < 3; i++) {
    const path = newSocketPath();
    const worker = new Worker(BUSY, { eval: true, workerData: { library, path } });
    await once(worker, 'message');
    const client = await port.connect({ path });
    await once(worker, 'message');
    await worker.terminate();
    const end = await receiveAll(client, Infinity).catch((error: unknown) => codeOf(error));
    if (typeof end === 'string') expect(end).toBe('ECONNRESET');
    else expect(end!.length).toBeLessThan(4_000_000);
    await client.close();
  }
});

test('net over a port and net of Node.js: each is the other’s server, and both ends end', async () => {
  skipInWorld('peers of Node.js');
  const echo = (socket: net.Socket): void => void socket.pipe(socket);
  for (const [server, connect] of [
    [overPort.createServer(echo as never), net.connect],
    [net.createServer(echo), overPort.connect],
    [overPort.createServer(echo as never), overPort.connect],
  ] as const) {
    const path = newSocketPath();
    server.listen(path);
    await once(server, 'listening');
    expect(server.address()).toBe(path);
    const client = (connect as typeof net.connect)({ path });
    await once(client, 'connect');
    client.write('there and back');
    expect(String((await once(client, 'data'))[0])).toBe('there and back');
    client.end();
    client.resume();
    await once(client, 'close');
    server.close();
    await once(server, 'close');
  }
});

test('net over a port: who is answered and told to close gets all of it', async () => {
  skipInWorld('peers of Node.js');
  const bytes = pattern(500_000);
  const server = overPort.createServer((socket) => void socket.end(bytes));
  const path = newSocketPath();
  server.listen(path);
  await once(server, 'listening');
  const client = net.connect(path);
  expect((await buffer(client)).equals(bytes)).toBe(true);
  server.close();
  await once(server, 'close');
});
