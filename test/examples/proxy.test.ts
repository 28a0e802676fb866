import { createHash, randomBytes } from 'node:crypto';
import http from 'node:http';
import net from 'node:net';
import { describe, expect, onTestFinished, test } from 'vitest';
import { pattern, rawClient, rawServer, sleep, until, windows } from '../support/harness';
import {
  describeDrivers,
  outcome,
  startServer,
  stopped,
  write,
  type Driver,
} from '../support/examples';

const MiB = 2 ** 20;
const proxyTo = (target: number, driver: Driver, threads: number) =>
  startServer('proxy', driver, threads, ['--target', `127.0.0.1:${target}`]);

/** A port on which nobody listens. */
async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** A server that answers with what was asked, and counts its connections. */
async function httpServer(): Promise<{ port: number; connections: () => number }> {
  let connections = 0;
  const server = http.createServer((request, response) => {
    const body: Buffer[] = [];
    request.on('data', (chunk: Buffer) => body.push(chunk));
    request.on('end', () => {
      response.setHeader('x-asked', `${request.method} ${request.url}`);
      response.end(Buffer.concat(body));
    });
  });
  server.on('connection', () => connections++);
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  onTestFinished(() => {
    server.closeAllConnections();
    server.close();
  });
  return { port: (server.address() as net.AddressInfo).port, connections: () => connections };
}

interface Answer {
  readonly asked: string | undefined;
  readonly body: Buffer;
}

function post(agent: http.Agent, port: number, url: string, body: Buffer): Promise<Answer> {
  return new Promise((resolve, reject) => {
    const options = { host: '127.0.0.1', port, path: url, method: 'POST', agent };
    const request = http.request(options, (response) => {
      const chunks: Buffer[] = [];
      response.on('data', (chunk: Buffer) => chunks.push(chunk));
      response.on('end', () =>
        resolve({ asked: response.headers['x-asked'] as string, body: Buffer.concat(chunks) }),
      );
      response.on('error', reject);
    });
    request.on('error', reject);
    request.end(body);
  });
}

/** Sends so many random bytes and the end; resolves to their hash. */
async function sendMuch(socket: net.Socket, bytes: number): Promise<string> {
  const hash = createHash('sha256');
  for (let sent = 0; sent < bytes; sent += MiB) {
    const block = randomBytes(MiB);
    hash.update(block);
    await write(socket, block);
  }
  socket.end();
  return hash.digest('hex');
}

/** Reads to the end, stopping for a moment every 8 MiB. */
async function readSlowly(socket: net.Socket): Promise<{ bytes: number; sha256: string }> {
  const hash = createHash('sha256');
  let bytes = 0;
  let pause = 8 * MiB;
  for await (const chunk of socket as AsyncIterable<Buffer>) {
    hash.update(chunk);
    bytes += chunk.length;
    if (bytes < pause) continue;
    pause += 8 * MiB;
    await sleep(5);
  }
  return { bytes, sha256: hash.digest('hex') };
}

/** Windows can't spread connections over listeners: the proxy has one thread there. */
const threadCounts = windows ? [1] : [1, 2];

describeDrivers('proxy', (driver) => {
  describe.each(threadCounts)('threads: %i', (threads) => {
    test('HTTP requests over connections that are kept', async () => {
      const target = await httpServer();
      const server = await proxyTo(target.port, driver, threads);
      const agent = new http.Agent({ keepAlive: true, maxSockets: 4 });
      onTestFinished(() => agent.destroy());
      const sizes = Array.from({ length: 100 }, (_, i) => [0, 1, 1000, 70_000, 300_000][i % 5]!);
      const answers = sizes.map(async (size, i) => {
        const body = pattern(size, i);
        const answer = await post(agent, server.port, `/${i}`, body);
        expect(answer.asked).toBe(`POST /${i}`);
        expect(answer.body.equals(body), `request ${i}`).toBe(true);
      });
      await Promise.all(answers);
      expect(target.connections()).toBeLessThanOrEqual(4);
      expect(await server.stop()).toMatchObject(stopped);
    });

    test('the client ends first: the answer still comes', async () => {
      const target = await rawServer((socket) => {
        socket.on('data', (chunk: Buffer) => socket.write(`got ${chunk}`));
        socket.on('end', () => setImmediate(() => socket.end(pattern(MiB))));
      });
      const server = await proxyTo(target.port, driver, threads);
      const client = await rawClient(server.port);
      client.end('question ');
      const { bytes, how } = await outcome(client);
      expect(how).toBe('end');
      const expected = Buffer.concat([Buffer.from('got question '), pattern(MiB)]);
      expect(bytes.equals(expected)).toBe(true);
    });

    test('the target ends first: what the client sends still arrives', async () => {
      const received: ReturnType<typeof outcome>[] = [];
      const target = await rawServer((socket) => {
        received.push(outcome(socket));
        socket.end('hello');
      });
      const server = await proxyTo(target.port, driver, threads);
      const client = await rawClient(server.port);
      expect(await outcome(client)).toEqual({ bytes: Buffer.from('hello'), how: 'end' });
      client.end(pattern(MiB));
      const { bytes, how } = await received[0]!;
      expect(how).toBe('end');
      expect(bytes.equals(pattern(MiB))).toBe(true);
      await new Promise<void>((resolve) =>
        client.closed ? resolve() : client.once('close', resolve),
      );
    });

    test('a target that refuses: the client is closed, and the next one served', async () => {
      const port = await freePort();
      const server = await proxyTo(port, driver, threads);
      for (let i = 0; i < 5; i++) {
        const client = await rawClient(server.port);
        const { bytes, how } = await outcome(client);
        expect(bytes.length).toBe(0);
        expect(['end', 'ECONNRESET']).toContain(how);
      }
      expect(await server.stop()).toMatchObject(stopped);
    });

    test('a target that resets the connection: the client is closed', async () => {
      const target = await rawServer((socket) => {
        socket.once('data', () => socket.resetAndDestroy());
      });
      const server = await proxyTo(target.port, driver, threads);
      const client = await rawClient(server.port);
      const end = outcome(client);
      client.write('now');
      expect(['end', 'ECONNRESET']).toContain((await end).how);
      const other = await rawClient(server.port);
      const otherEnd = outcome(other);
      other.write('again');
      await otherEnd;
      expect(await server.stop()).toMatchObject(stopped);
    });

    test('a client that resets the connection: the target is closed', async () => {
      const target = await rawServer();
      const server = await proxyTo(target.port, driver, threads);
      const client = await rawClient(server.port);
      await until(() => target.sockets.length === 1);
      const end = outcome(target.sockets[0]!);
      client.resetAndDestroy();
      expect(['end', 'ECONNRESET']).toContain((await end).how);
    });
  });

  test.each([
    ['to the target', threadCounts.at(0)!],
    ['to the client', threadCounts.at(-1)!],
  ])('200 MB %s, which reads slowly', async (to, threads) => {
    const target = await rawServer();
    const server = await proxyTo(target.port, driver, threads);
    const client = await rawClient(server.port);
    await until(() => target.sockets.length === 1);
    const peer = target.sockets[0]!;
    const [sender, reader] = to === 'to the target' ? [client, peer] : [peer, client];
    const [sent, received] = await Promise.all([sendMuch(sender, 200 * MiB), readSlowly(reader)]);
    expect(received).toEqual({ bytes: 200 * MiB, sha256: sent });
  });

  test('a reader that does not read holds the sender up', async () => {
    const target = await rawServer();
    const server = await proxyTo(target.port, driver, 1);
    const client = await rawClient(server.port);
    await until(() => target.sockets.length === 1);
    const bytes = Buffer.alloc(100 * MiB, 'some text\n');
    let finished = false;
    client.end(bytes, () => (finished = true));
    await sleep(200);
    expect(finished).toBe(false);
    const { bytes: received } = await outcome(target.sockets[0]!);
    expect(received.equals(bytes)).toBe(true);
    expect(finished).toBe(true);
  });
});
