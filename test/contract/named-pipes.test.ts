/** Named pipes, as far as they are not what UNIX sockets are. */
import net from 'node:net';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { buffer } from 'node:stream/consumers';
import { Worker } from 'node:worker_threads';
import { describe, expect, onTestFinished, test } from 'vitest';
import * as overPort from '../../dist/node-net.js';
import {
  codeOf,
  failureNow,
  failureOf,
  newPort,
  pattern,
  skipUnderWine,
  temporaryFile,
  windows,
} from '../support/harness';
import { newSocketPath } from '../support/socket-path';

/** A server in a thread of its own, with a loop that nobody blocks. */
const ANSWERING = `
  const net = require('node:net');
  const { parentPort, workerData: { path, answered } } = require('node:worker_threads');
  const tell = () => {
    Atomics.store(answered, 0, 2);
    Atomics.notify(answered, 0);
  };
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    socket.on('error', () => undefined).once('data', () => {
      Atomics.wait(answered, 0, 0);
      socket.write('an answer', tell);
    });
  });
  server.listen(path, () => parentPort.postMessage('listening'));
`;

describe.runIf(windows)('named pipes', () => {
  test('addresses and options', async () => {
    const port = newPort();
    const path = newSocketPath();
    const listener = await port.listen({ path, recvBufferSize: 10_000, sendBufferSize: 20_000 });
    expect(listener.address()).toEqual({ address: path, port: 0, family: 'unix' });
    const accepting = listener.accept();
    const client = await port.connect({ path });
    const server = await accepting;
    expect([client.localAddress, client.remoteAddress]).toEqual([undefined, undefined]);
    expect(client.setNoDelay().setKeepAlive(true)).toBe(client);
    expect(server.type).toBe('stream');
    expect(failureNow(() => client.setOptions({ recvBufferSize: 1 })).code).toBe('ENOTSUP');
    const sized = await failureOf(() => port.connect({ path, recvBufferSize: 1 }));
    expect(sized.code).toBe('ENOTSUP');
    expect(await failureOf(() => server.sendHandle([0], 'x'))).toMatchObject({ code: 'ENOTSUP' });
  });

  test('names', async () => {
    const port = newPort();
    const codeFor = async (path: string): Promise<unknown> => [
      codeOf(await failureOf(() => port.listen({ path }))),
      codeOf(await failureOf(() => port.connect({ path }))),
    ];
    const file = temporaryFile();
    for (const wrong of [
      'C:\\pipe',
      '/tmp/socket',
      '\\\\.\\pipe\\',
      '\0abstract',
      `\\\\.\\pipe\\..\\${file}`,
      `//./pipe/../${file}`,
      `\\\\?\\pipe\\..\\${file}`,
      '\\\\.\\pipe\\a\\..\\b',
      '\\\\.\\pipe\\dot.',
    ]) {
      expect(await codeFor(wrong)).toEqual(['EINVAL', 'EINVAL']);
    }
    const long = `\\\\.\\pipe\\${'x'.repeat(300)}`;
    expect(await codeFor(long)).toEqual(['ENAMETOOLONG', 'ENAMETOOLONG']);
    const seqpacket = { path: newSocketPath(), type: 'seqpacket' } as const;
    expect(failureNow(() => void port.listen(seqpacket)).code).toBe('ENOTSUP');
    expect(failureNow(() => void port.connect(seqpacket)).code).toBe('ENOTSUP');
    const path = newSocketPath().replace('\\\\.\\', '\\\\?\\');
    const listener = await port.listen({ path });
    const client = await port.connect({ path });
    await client.send('by the other prefix');
    const server = await listener.accept();
    expect(String(await server.receive())).toBe('by the other prefix');
  });

  test('a name with slashes is the one that Windows makes of it', async () => {
    const port = newPort();
    const path = `${newSocketPath()}\\a/b`;
    const server = net.createServer((socket) => void socket.end('found')).listen(path);
    await once(server, 'listening');
    const client = await port.connect({ path });
    expect(String(await client.receive())).toBe('found');
    await client.close();
    server.close();
    await once(server, 'close');
  });

  test('a name that somebody has', async (context) => {
    skipUnderWine(context, 'FILE_FLAG_FIRST_PIPE_INSTANCE has no effect');
    const port = newPort();
    const path = newSocketPath();
    const listener = await port.listen({ path });
    const taken = { code: 'EADDRINUSE', syscall: 'listen', address: path };
    expect(await failureOf(() => port.listen({ path }))).toMatchObject(taken);
    const byNode = net.createServer().listen(path);
    expect(codeOf((await once(byNode, 'error'))[0])).toBe('EADDRINUSE');
    await listener.close();
    const server = net.createServer().listen(path);
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    expect(await failureOf(() => port.listen({ path }))).toMatchObject(taken);
  });

  test('a name that nobody has', async () => {
    const port = newPort();
    const path = newSocketPath();
    const nobody = { code: 'ENOENT', syscall: 'connect', address: path };
    expect(await failureOf(() => port.connect({ path }))).toMatchObject(nobody);
    const listener = await port.listen({ path });
    await listener.close();
    expect(await failureOf(() => port.connect({ path }))).toMatchObject(nobody);
  });

  test('who finds no instance waits for one, and can give up', async () => {
    const port = newPort();
    const path = newSocketPath();
    const listener = await port.listen({ path });
    const first = await port.connect({ path });
    expect(codeOf(await failureOf(() => port.connect({ path, timeout: 100 })))).toBe('ETIMEDOUT');
    const second = port.connect({ path });
    const third = port.connect({ path });
    third.cancel();
    expect(codeOf(await failureOf(() => third))).toBe('ECANCELED');
    await first.send('1');
    expect(String(await (await listener.accept()).receive())).toBe('1');
    await (await second).send('2');
    expect(String(await (await listener.accept()).receive())).toBe('2');
  });

  test('readableAll and writableAll', async () => {
    const port = newPort();
    const path = newSocketPath();
    const listener = await port.listen({ path, readableAll: true, writableAll: true });
    const client = await port.connect({ path });
    await client.send('let in');
    expect(String(await (await listener.accept()).receive())).toBe('let in');
  });

  test('O12 the peer hears of an end when the pipe is closed', async () => {
    const port = newPort();
    const path = newSocketPath();
    const listener = await port.listen({ path });
    const client = await port.connect({ path });
    const server = await listener.accept();
    await client.end('a question');
    expect(codeOf(await failureOf(() => client.send('more')))).toBe('EPIPE');
    expect(String(await server.receive())).toBe('a question');
    const receiving = server.receive();
    await server.send('an answer');
    expect(String(await client.receive())).toBe('an answer');
    await client.close();
    expect(await receiving).toHaveLength(0);
  });

  test('O12 a client hears of a reset, and a server of an end', async () => {
    const port = newPort();
    const path = newSocketPath();
    const listener = await port.listen({ path });
    const [one, other] = [await port.connect({ path }), await listener.accept()];
    const cut = failureOf(() => one.receive());
    await other.reset();
    expect(codeOf(await cut)).toBe('ECONNRESET');
    const [client, server] = [await port.connect({ path }), await listener.accept()];
    await client.reset();
    expect(await server.receive()).toHaveLength(0);
  });

  test('O12 a client hears that a stream was cut off', async () => {
    const port = newPort();
    const path = newSocketPath();
    const listener = await port.listen({ path });
    const [client, server] = [await port.connect({ path }), await listener.accept()];
    const sending = server.send(pattern(4_000_000));
    await sleep(100);
    sending.cancel();
    expect(codeOf(await failureOf(() => sending))).toBe('ECANCELED');
    await server.end().catch(() => undefined);
    expect(codeOf(await failureOf(() => server.send('more')))).toBe('ECONNABORTED');
    await server.close();
    const heard = async (): Promise<void> => {
      while ((await client.receive()).length > 0);
    };
    expect(codeOf(await failureOf(heard))).toBe('ECONNRESET');
  });

  test('net over a port: what is in the pipe is read as slowly as the program likes', async () => {
    const port = newPort();
    const path = newSocketPath();
    // All of it has room in the pipe, and is there before the end.
    const listener = await port.listen({ path, sendBufferSize: 2_000_000 });
    const client = overPort.connect({ path });
    const server = await listener.accept();
    const bytes = pattern(1_000_000);
    await server.send(bytes);
    client.end();
    const parts: Buffer[] = [];
    for await (const part of client) {
      parts.push(part as Buffer);
      if (parts.length < 8) await sleep(100); // longer than a pipe may be silent
    }
    expect(Buffer.concat(parts).equals(bytes)).toBe(true);
  });

  test('net over a port: an answer that comes while the loop is blocked is received', async () => {
    const path = newSocketPath();
    const answered = new Int32Array(new SharedArrayBuffer(4));
    const workerData = { path, answered };
    const worker = new Worker(ANSWERING, { eval: true, workerData });
    onTestFinished(async () => void (await worker.terminate()));
    await once(worker, 'message');
    const client = overPort.connect({ path });
    await once(client, 'connect');
    expect(client).toHaveProperty('_handle.fd', -1);
    const received = buffer(client);
    await new Promise((done) => client.write('a question', done));
    client.end();
    await new Promise<void>((done) => process.nextTick(done));
    Atomics.store(answered, 0, 1); // go on
    Atomics.notify(answered, 0);
    expect(Atomics.wait(answered, 0, 1, 20_000)).not.toBe('timed-out');
    for (const until = Date.now() + 100; Date.now() < until;);
    expect(String(await received)).toBe('an answer');
  });

  test('O12 nothing follows a send that was cancelled on its way', async () => {
    const port = newPort();
    const path = newSocketPath();
    const listener = await port.listen({ path });
    const client = await port.connect({ path });
    const server = await listener.accept();
    const sending = client.send(pattern(4_000_000));
    await sleep(100);
    sending.cancel();
    expect(codeOf(await failureOf(() => sending))).toBe('ECANCELED');
    expect(codeOf(await failureOf(() => client.send('more')))).toBe('ECONNABORTED');
    await client.close();
    await server.close();
  });
});
