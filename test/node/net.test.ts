/** completion-port/node/net: what Node's own tests (test/node-core) do not look at, or not on each driver. */
import { AsyncLocalStorage } from 'node:async_hooks';
import diagnostics from 'node:diagnostics_channel';
import dns from 'node:dns';
import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import http from 'node:http';
import nodeNet from 'node:net';
import path from 'node:path';
import { PerformanceObserver } from 'node:perf_hooks';
import { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { expect, onTestFinished, test, vi } from 'vitest';
import type { SocketHandle } from '../../dist/index.js';
import { listenOver, over } from '../../dist/node.js';
import net from '../../dist/node-net.js';
import { TcpSocket } from '../../dist/handles/socket.js';
import { driver, library, newPort, outputOf, temporaryDirectory, until } from '../support/harness';

const host = '127.0.0.1';

/** A server of ours that is closed after the test. */
async function serving(server: net.Server): Promise<number> {
  server.listen(0, host);
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return (server.address() as nodeNet.AddressInfo).port;
}

function echo(options: net.ServerOptions = {}): Promise<number> {
  return serving(
    net.createServer(options, (socket) => {
      socket.on('error', () => undefined);
      socket.pipe(socket);
    }),
  );
}

function connecting(port: number, options: Partial<net.ConnectOptions> = {}): net.Socket {
  const socket = net.connect({ port, host, ...options } as net.ConnectOptions);
  onTestFinished(() => void socket.destroy());
  return socket;
}

test('a socket is a Duplex, and carries bytes both ways', async () => {
  const socket = connecting(await echo());
  expect(socket).toBeInstanceOf(Duplex);
  expect(socket).toBeInstanceOf(net.Socket);
  socket.end('hello');
  const closed = once(socket, 'close');
  expect((await buffer(socket)).toString()).toBe('hello');
  await closed;
  expect([socket.bytesRead, socket.bytesWritten]).toEqual([5, 5]);
});

test('clients and servers of node:net are at the other end', async () => {
  const theirs = nodeNet.connect(await echo(), host);
  theirs.end('from node:net');
  expect((await buffer(theirs)).toString()).toBe('from node:net');
  const server = nodeNet.createServer((socket) => void socket.pipe(socket)).listen(0, host);
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  const ours = connecting((server.address() as nodeNet.AddressInfo).port);
  ours.end('to node:net');
  expect((await buffer(ours)).toString()).toBe('to node:net');
});

test('4 MiB come back as they were sent, whoever is slow', async () => {
  const sent = Buffer.alloc(4 * 1024 * 1024, 'abcdefghijklmnopqrstuvw');
  const socket = connecting(await echo());
  socket.end(sent);
  // The echo stands until somebody reads: nothing is lost, and nothing piles up here.
  await until(() => socket.bytesRead >= socket.readableHighWaterMark);
  const received = await buffer(socket);
  expect(received.equals(sent)).toBe(true);
});

test('a stream that is not read receives no more than its mark, and a buffer of the port', async () => {
  const port = await serving(
    net.createServer((socket) => {
      socket.on('error', () => undefined);
      socket.end(Buffer.alloc(4 * 1024 * 1024));
    }),
  );
  const socket = connecting(port);
  await until(() => socket.readableLength >= socket.readableHighWaterMark);
  for (let i = 0; i < 20; i++) await new Promise(setImmediate);
  expect(socket.readableLength).toBeLessThan(socket.readableHighWaterMark + 128 * 1024);
});

test('bytes of a write are the program’s again at once', async () => {
  const socket = connecting(await echo());
  const bytes = Buffer.from('before');
  socket.end(bytes);
  await once(socket, 'connect');
  bytes.fill('x');
  // It waited for the connection, as in node:net: from then on its bytes are the socket's.
  const again = connecting(await echo());
  await once(again, 'connect');
  const later = Buffer.from('before');
  again.end(later);
  later.fill('x');
  expect((await buffer(again)).toString()).toBe('before');
});

test('what was pushed is the program’s for good', async () => {
  const socket = connecting(await echo());
  const chunks: Buffer[] = [];
  socket.on('data', (chunk: Buffer) => {
    chunks.push(chunk);
    if (chunks.length < 100) socket.write(`message ${chunks.length}`);
    else socket.end();
  });
  socket.write('message 0');
  await once(socket, 'close');
  expect(chunks.map(String)).toEqual(Array.from({ length: 100 }, (_, i) => `message ${i}`));
  expect(new Set(chunks.map(({ buffer }) => buffer)).size).toBe(100);
});

test('corked writes of all encodings are one send', async () => {
  const port = newPort(driver ? { driver: driver as 'epoll' } : {});
  const socket = connecting(await echo(), { over: port });
  await once(socket, 'connect');
  const before = port.stats().submitted;
  socket.cork();
  socket.write('ä');
  socket.write('c3a4', 'hex');
  socket.write('w6Q=', 'base64');
  socket.write(new Uint8Array([0xc3, 0xa4]));
  socket.uncork();
  socket.end();
  expect((await buffer(socket)).toString()).toBe('ääää');
  // One send; a shutdown; and receives of what came back and of its end.
  expect(port.stats().submitted - before).toBeLessThanOrEqual(5);
});

test('half open: who has ended may still receive', async () => {
  const port = await serving(
    net.createServer({ allowHalfOpen: true }, (socket) => {
      socket.resume().on('end', () => socket.end('after your end'));
    }),
  );
  const socket = connecting(port, { allowHalfOpen: true });
  socket.end();
  expect((await buffer(socket)).toString()).toBe('after your end');
});

test('a reset is ECONNRESET at the other end', async () => {
  const port = await serving(net.createServer((one) => void one.resetAndDestroy()));
  const [error] = (await once(connecting(port).resume(), 'error')) as [NodeJS.ErrnoException];
  expect([error.code, error.syscall]).toEqual(['ECONNRESET', 'read']);
});

test('nobody listens: ECONNREFUSED with the address', async () => {
  const server = nodeNet.createServer().listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as nodeNet.AddressInfo;
  server.close();
  await once(server, 'close');
  const socket = connecting(port);
  const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
  expect(error).toMatchObject({ code: 'ECONNREFUSED', syscall: 'connect', address: host, port });
  expect(error.message).toBe(`connect ECONNREFUSED ${host}:${port}`);
});

test('of several addresses all failures are told', async () => {
  const server = nodeNet.createServer().listen(0, host);
  await once(server, 'listening');
  const { port } = server.address() as nodeNet.AddressInfo;
  server.close();
  await once(server, 'close');
  const addresses = ['127.0.0.1', '127.0.0.2'].map((address) => ({ address, family: 4 }));
  const socket = connecting(port, {
    host: 'two.test',
    lookup: ((_name: string, _options: object, answer: (...args: unknown[]) => void) =>
      answer(null, addresses)) as never,
    autoSelectFamily: true,
  });
  const [error] = (await once(socket, 'error')) as [AggregateError & { code: string }];
  expect(error).toBeInstanceOf(AggregateError);
  expect(error.code).toBe('ECONNREFUSED');
  expect(error.errors.map((one: { address: string }) => one.address)).toEqual([
    '127.0.0.1',
    '127.0.0.2',
  ]);
  expect(socket.autoSelectFamilyAttemptedAddresses).toEqual([
    `127.0.0.1:${port}`,
    `127.0.0.2:${port}`,
  ]);
});

test('a name that is no longer wanted connects to nothing', async () => {
  let answer: (...args: unknown[]) => void = () => undefined;
  vi.spyOn(dns, 'lookup').mockImplementation(((_n: string, _o: object, done: never) => {
    answer = done;
  }) as never);
  onTestFinished(() => void vi.restoreAllMocks());
  let connections = 0;
  const port = await serving(net.createServer(() => connections++));
  const socket = connecting(port, { host: 'late.test' });
  socket.destroy();
  answer(null, [{ address: host, family: 4 }]);
  await once(socket, 'close');
  const other = connecting(port);
  await once(other, 'connect');
  await until(() => connections > 0);
  expect(connections).toBe(1);
});

test('an idle socket says so, and one that is spoken to does not', async () => {
  const socket = connecting(await echo());
  await once(socket, 'connect');
  socket.setTimeout(40);
  await once(socket, 'timeout');
  expect(socket.timeout).toBe(40);
  expect(() => socket.setTimeout(-1)).toThrow(
    expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
  );
});

test('a signal destroys it', async () => {
  const stop = new AbortController();
  const socket = connecting(await echo(), { signal: stop.signal });
  const failed = once(socket, 'error');
  stop.abort();
  const [error] = (await failed) as [Error];
  expect(error.name).toBe('AbortError');
});

test('connections beyond the limit are dropped, and told', async () => {
  const server = net.createServer();
  const port = await serving(server);
  server.maxConnections = 1;
  const dropped = once(server, 'drop');
  const first = connecting(port);
  await once(server, 'connection');
  const second = connecting(port)
    .on('error', () => undefined)
    .resume();
  const closed = once(second, 'close');
  const [ends] = (await dropped) as [nodeNet.DropArgument];
  expect(ends).toMatchObject({ localPort: port, remoteFamily: 'IPv4' });
  await closed;
  first.destroy();
});

test('a server closes when its connections have', async () => {
  const server = net.createServer((socket) => void socket.resume());
  const port = await serving(server);
  const socket = connecting(port);
  await once(server, 'connection');
  let closed = false;
  server.close(() => (closed = true));
  await new Promise(setImmediate);
  expect([closed, server.listening]).toEqual([false, false]);
  socket.end();
  await until(() => closed);
  server.close((error) => expect(error).toMatchObject({ code: 'ERR_SERVER_NOT_RUNNING' }));
});

test('what a listener throws is an uncaught exception, and no end of the socket', async () => {
  const output = await outputOf(
    `
    import { createRequire } from 'node:module';
    const net = createRequire(${JSON.stringify(library)})('./node-net.js');
    process.on('uncaughtException', (error) => console.log(error.message));
    const server = net.createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1', () => {
      const socket = net.connect(server.address().port, '127.0.0.1');
      let count = 0;
      socket.on('data', () => {
        if (++count === 1) { socket.write('b'); throw new Error('thrown'); }
        console.log('went on');
        socket.end();
        server.close();
      });
      socket.write('a');
    });`,
    { bare: true },
  );
  expect(output).toBe('thrown\nwent on');
});

test('the program ends when its sockets have, or are not its business', async () => {
  const output = await outputOf(
    `
    import { createRequire } from 'node:module';
    const net = createRequire(${JSON.stringify(library)})('./node-net.js');
    const server = net.createServer((socket) => socket.unref().resume()).unref();
    server.listen(0, '127.0.0.1', () => {
      const socket = net.connect(server.address().port, '127.0.0.1', () => {
        socket.unref();
        console.log('connected');
      });
    });`,
    { bare: true },
  );
  expect(output).toBe('connected');
});

test('listeners run in the context in which the socket was made', async () => {
  const storage = new AsyncLocalStorage<string>();
  const port = await echo();
  const seen: (string | undefined)[] = [];
  const done = storage.run('client', () => {
    const socket = connecting(port);
    socket.on('data', () => seen.push(storage.getStore()));
    socket.on('close', () => seen.push(storage.getStore()));
    socket.write('x', () => socket.end());
    return once(socket, 'close');
  });
  await done;
  expect(seen).toEqual(['client', 'client']);
});

test('a connection of a port becomes a stream', async () => {
  const port = newPort(driver ? { driver: driver as 'epoll' } : {});
  const handle = await port.connect({ host, port: await echo() });
  const socket = new net.Socket({ handle });
  socket.end('through a handle');
  expect((await buffer(socket)).toString()).toBe('through a handle');
  await until(() => socket.closed);
  expect(handle.closed).toBe(true);
});

test('sockets end with their port', async () => {
  const port = newPort(driver ? { driver: driver as 'epoll' } : {});
  const socket = connecting(await echo(), { over: port });
  await once(socket, 'connect');
  const closed = once(socket.resume(), 'close').catch(() => undefined);
  socket.on('error', () => undefined);
  await port.close();
  await closed;
  expect(socket.destroyed).toBe(true);
});

test('diagnostics channels tell of sockets', async () => {
  const seen: string[] = [];
  const watch = (name: string): void => {
    const tell = (): number => seen.push(name);
    diagnostics.subscribe(name, tell);
    onTestFinished(() => void diagnostics.unsubscribe(name, tell));
  };
  watch('net.client.socket');
  watch('net.server.socket');
  const socket = connecting(await echo());
  socket.end('x');
  await buffer(socket);
  expect(seen).toEqual(['net.client.socket', 'net.server.socket']);
});

test('the tracing channel of listening tells of success and of failure, as that of node:net', async () => {
  const seen: unknown[] = [];
  const channel = diagnostics.tracingChannel('net.server.listen');
  const subscribers = {
    start: () => seen.push('start'),
    end: () => seen.push('end'),
    asyncStart: ({ server, options }: { server: unknown; options: { host: string } }) =>
      seen.push(['asyncStart', server, options.host]),
    asyncEnd: ({ server }: { server: unknown }) => seen.push(['asyncEnd', server]),
    error: ({ server, error }: { server: unknown; error: NodeJS.ErrnoException }) =>
      seen.push(['error', server, error.code]),
  };
  channel.subscribe(subscribers as never);
  onTestFinished(() => void channel.unsubscribe(subscribers as never));
  for (const { createServer } of [nodeNet, net]) {
    seen.length = 0;
    const first = createServer().listen({ port: 0, host });
    onTestFinished(() => void first.close());
    await once(first, 'listening');
    const { port } = first.address() as nodeNet.AddressInfo;
    const second = createServer().listen({ port, host });
    const [failure] = (await once(second, 'error')) as [NodeJS.ErrnoException];
    expect(failure.code).toBe('EADDRINUSE');
    expect(seen).toEqual([
      ['asyncStart', first, host],
      ['asyncEnd', first],
      ['asyncStart', second, host],
      ['error', second, 'EADDRINUSE'],
    ]);
  }
});

test('perf_hooks has the entries of http over these sockets, those of node:net aside', async () => {
  const seen: string[] = [];
  const observer = new PerformanceObserver((list) => {
    for (const { entryType, name } of list.getEntries()) seen.push(`${entryType} ${name}`);
  });
  observer.observe({ entryTypes: ['http', 'net'] });
  onTestFinished(() => observer.disconnect());
  const doors = over();
  const server = doors.createServer((_request, response) => void response.end('hello'));
  server.listen(0, host);
  onTestFinished(() => void server.close());
  await once(server, 'listening');
  const { port } = server.address() as nodeNet.AddressInfo;
  const request = http.get({ port, host, createConnection: doors.createConnection as never });
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  expect((await buffer(response)).toString()).toBe('hello');
  await until(() => seen.length === 2);
  expect(seen.sort()).toEqual(['http HttpClient', 'http HttpRequest']);
});

test('a pipeline through two sockets', async () => {
  const far = await echo();
  const near = await serving(
    net.createServer({ allowHalfOpen: true }, (client) => {
      const upstream = connecting(far, { allowHalfOpen: true });
      void Promise.all([pipeline(client, upstream), pipeline(upstream, client)]).catch(
        () => undefined,
      );
    }),
  );
  const socket = connecting(near, { allowHalfOpen: true });
  socket.end(Buffer.alloc(300_000, 'p'));
  expect(await buffer(socket)).toHaveLength(300_000);
});

test('wrong arguments throw at once, with the codes of node:net', () => {
  const socket = new net.Socket();
  expect(() => socket.connect({} as never)).toThrow(
    expect.objectContaining({ code: 'ERR_MISSING_ARGS' }),
  );
  expect(() => socket.connect({ port: 70_000 })).toThrow(
    expect.objectContaining({ code: 'ERR_SOCKET_BAD_PORT' }),
  );
  expect(() => new net.Socket({ over: {} as never }).connect(1)).toThrow(
    expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }),
  );
  expect(() => new net.Socket({ handle: {} as never })).toThrow(
    expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }),
  );
  expect(() => net.createServer().listen({ port: -1 })).toThrow(
    expect.objectContaining({ code: 'ERR_SOCKET_BAD_PORT' }),
  );
});

test('paths: sockets of files and abstract names, with the modes, errors and addresses of node:net', async () => {
  const place = path.join(temporaryDirectory(), 'socket');
  for (const at of [place, `\0completion-port ${process.pid} ${driver}`]) {
    const server = net.createServer((socket) => void socket.pipe(socket));
    server.listen({ path: at, readableAll: true, writableAll: true });
    await once(server, 'listening');
    expect(server.address()).toBe(at);
    if (at === place) expect(statSync(at).mode & 0o666).toBe(0o666);
    const again = net.createServer().listen(at);
    const [taken] = (await once(again, 'error')) as [NodeJS.ErrnoException & { address: string }];
    expect(taken).toMatchObject({ code: 'EADDRINUSE', syscall: 'listen', address: at });
    const socket = net.connect(at);
    socket.end('hello');
    expect((await buffer(socket)).toString()).toBe('hello');
    expect([socket.remoteAddress, socket.remotePort]).toEqual([undefined, undefined]);
    server.close();
    await once(server, 'close');
  }
  expect(existsSync(place)).toBe(false);
  const failing = net.connect(place);
  const [error] = (await once(failing, 'error')) as [NodeJS.ErrnoException];
  expect(error).toMatchObject({ code: 'ENOENT', syscall: 'connect', address: place });
  expect(error.message).toBe(`connect ENOENT ${place}`);
});

test('a server of node:http listens at a path', async () => {
  const at = path.join(temporaryDirectory(), 'http');
  const server = listenOver(http.createServer((_request, response) => response.end('from a path')));
  server.listen(at);
  await once(server, 'listening');
  expect(server.address()).toBe(at);
  const request = http.get({ socketPath: at });
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  expect((await buffer(response)).toString()).toBe('from a path');
  server.close();
  await once(server, 'close');
  expect(existsSync(at)).toBe(false);
});

test('a server of Node.js that listens over a port turns away whom its block list names', async () => {
  const blockList = new nodeNet.BlockList();
  blockList.addAddress('127.0.0.1');
  const blocks = Object.assign(nodeNet.createServer(), { blockList }); // an option since Node.js 22.13
  const server = listenOver(blocks);
  const connections = vi.fn();
  server.on('connection', connections);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const socket = connecting((server.address() as nodeNet.AddressInfo).port);
  socket.on('error', () => undefined); // it may be a reset
  await once(socket, 'close');
  expect(connections).not.toHaveBeenCalled();
  server.close();
  await once(server, 'close');
});

/** What a server receives of one connection, whole. */
async function receiving(): Promise<{ port: number; received: Promise<Buffer> }> {
  let arrived!: (bytes: Promise<Buffer>) => void;
  const received = new Promise<Buffer>((resolve) => (arrived = resolve));
  const port = await serving(net.createServer((socket) => arrived(buffer(socket))));
  return { port, received };
}

test('long writes go out whole and in order, among short ones and corked', async () => {
  const { port, received } = await receiving();
  const socket = connecting(port);
  const parts = [100, 3_000_001, 10, 262_144, 0, 262_145, 700_000, 1].map((size, i) =>
    Buffer.alloc(size, `part ${i} `),
  );
  socket.write(parts[0]!);
  socket.write(parts[1]!);
  socket.cork();
  for (const part of parts.slice(2)) socket.write(part);
  socket.write('ü'.repeat(200_000));
  socket.uncork();
  socket.end('end');
  const expected = Buffer.concat([...parts, Buffer.from('ü'.repeat(200_000)), Buffer.from('end')]);
  expect((await received).equals(expected)).toBe(true);
  expect(socket.bytesWritten).toBe(expected.length);
});

test('memory of a port may be released after a write, however long that is', async () => {
  const { port: number, received } = await receiving();
  const port = newPort();
  const socket = connecting(number, { over: port });
  await once(socket, 'connect');
  const write = (size: number, fill: number): Buffer => {
    const bytes = port.allocate(size).fill(fill);
    socket.write(bytes);
    return bytes;
  };
  port.release(write(8 << 20, 7));
  const flushed = new Promise((resolve) => socket.write('between', resolve));
  await flushed;
  socket.cork();
  const pieces = [write(3 << 20, 8), write(1 << 20, 9)];
  socket.write(Buffer.alloc(1 << 20, 10));
  socket.uncork();
  for (const piece of pieces) port.release(piece);
  const others = [port.allocate(3 << 20), port.allocate(1 << 20)];
  for (const other of others) other.fill(0);
  socket.end();
  const expected = Buffer.concat([
    Buffer.alloc(8 << 20, 7),
    Buffer.from('between'),
    ...[Buffer.alloc(3 << 20, 8), Buffer.alloc(1 << 20, 9), Buffer.alloc(1 << 20, 10)],
  ]);
  expect((await received).equals(expected)).toBe(true);
  socket.destroy();
  await once(socket, 'close');
  await port.close();
});

test('what a socket does while the chain of another handle is described is no part of that', async () => {
  const { port: number, received } = await receiving();
  const port = newPort();
  const listener = await port.listen({ port: 0, host });
  const a = await port.connect({ port: listener.address()!.port, host });
  const peer = await listener.accept();
  const one = (): net.Socket => connecting(number, { over: port });
  const sockets = [one(), one(), one(), one(), one()] as const;
  await Promise.all(sockets.map((socket) => once(socket, 'connect')));
  const [writes, ends, reads, leaves, ruined] = sockets;
  const refused = [writes, ruined].map((socket) => once(socket, 'error') as Promise<[Error]>);
  const left = once(leaves, 'close');
  const [sent] = a.link(() => {
    const first = a.send('x');
    writes.write('secret');
    ends._final(() => undefined);
    ruined._final((error) => void ruined.destroy(error!));
    reads.resume();
    leaves.destroy();
    expect(() => net.createServer().listen({ port: 0, host, over: port } as never)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_STATE' }),
    );
    return [first, a.send('y')];
  });
  expect(await sent).toBe(1);
  expect((await refused[0])![0]).toMatchObject({ code: 'ERR_INVALID_STATE' });
  await left;
  await a.end();
  expect(await buffer(peer)).toEqual(Buffer.from('xy'));
  ends.destroy();
  reads.destroy();
  expect((await received).length).toBe(0);
  await port.close();
});

test('a long write is over when the socket is destroyed', async () => {
  const silent = net.createServer((socket) => void socket.pause().on('error', () => undefined));
  const socket = connecting(await serving(silent));
  await once(socket, 'connect');
  const over = new Promise((resolve) => socket.write(Buffer.alloc(64 << 20), resolve));
  await new Promise(setImmediate);
  socket.destroy();
  await over;
  expect(socket.bytesWritten).toBe(64 << 20);
});

test('a long write whose memory is given away fails, and sends nothing else in its place', async () => {
  const { port, received } = await receiving();
  const socket = connecting(port);
  await once(socket, 'connect');
  const memory = new ArrayBuffer(64 << 20);
  new Uint8Array(memory).fill(1);
  socket.write(Buffer.from(memory));
  const failed = once(socket, 'error');
  structuredClone(memory, { transfer: [memory] });
  expect(((await failed) as [Error])[0]).toMatchObject({ code: 'ERR_INVALID_STATE' });
  const bytes = await received;
  expect(bytes.length).toBeLessThan(64 << 20);
  expect(bytes.every((byte) => byte === 1)).toBe(true);
});

test('options of the system are those of the connection', async () => {
  const server = net.createServer({ keepAlive: true, keepAliveInterval: 4000, keepAliveCount: 5 });
  const accepted = once(server, 'connection') as Promise<[net.Socket]>;
  const port = await serving(server);
  const client = connecting(port, { localAddress: '127.0.0.7', typeOfService: 0x10 });
  await once(client, 'connect');
  expect(client.localAddress).toBe('127.0.0.7');
  expect(client.getTypeOfService()).toBe(0x10);
  client.setKeepAlive({ enable: true, initialDelay: 9000, interval: 3000, count: 2 });
  const [socket] = await accepted;
  expect(socket.remoteAddress).toBe('127.0.0.7');
  const probes = { keepAliveInterval: 3000, keepAliveCount: 2, keepAliveInitialDelay: 9000 };
  expect(optionsOf(client)).toMatchObject({ keepAlive: true, ...probes });
  const inherited = { keepAlive: true, keepAliveInterval: 4000, keepAliveCount: 5 };
  expect(optionsOf(socket)).toMatchObject(inherited);
  client.destroy();
  socket.destroy();

  const [error] = (await once(connecting(port, { localAddress: '192.0.2.254' }), 'error')) as [
    Error,
  ];
  const about = { code: 'EADDRNOTAVAIL', syscall: 'bind', address: '192.0.2.254' };
  expect(error).toMatchObject(about);
});

test('numbers for keepAlive that are out of range are the nearest that is in it', async () => {
  const wild = { keepAlive: true, keepAliveInitialDelay: 1e12, keepAliveInterval: -1 };
  const server = net.createServer({ ...wild, keepAliveCount: 200 });
  const port = await serving(server);
  const usual = connecting(port, { keepAlive: true });
  const [[plain]] = (await Promise.all([once(server, 'connection'), once(usual, 'connect')])) as [
    [net.Socket],
    unknown,
  ];
  const { keepAliveInterval } = optionsOf(usual) as { keepAliveInterval: number };
  const longest = { keepAlive: true, keepAliveInitialDelay: 32_767_000, keepAliveCount: 127 };
  expect(optionsOf(plain)).toMatchObject({ ...longest, keepAliveInterval });
  usual.setKeepAlive({ enable: true, initialDelay: -5, interval: Infinity, count: NaN });
  expect(optionsOf(usual)).toMatchObject({ keepAlive: true, keepAliveInterval: 32_767_000 });
  const again = connecting(port, { keepAlive: true, keepAliveCount: 1e9 } as object);
  await once(again, 'connect');
  expect(optionsOf(again)).toMatchObject({ keepAliveCount: 127 });
  expect(() => net.createServer({ keepAliveCount: Symbol('many') as never })).toThrow(TypeError);
  plain.destroy();
});

test('a connection whose options the system refuses is destroyed, and the server goes on', async () => {
  const refusal = Object.assign(new Error('refused'), { code: 'EINVAL' });
  const failing = vi.spyOn(TcpSocket.prototype, 'setKeepAlive');
  onTestFinished(() => failing.mockRestore());
  const server = net.createServer({ keepAlive: true });
  const errors: unknown[] = [];
  server.on('connection', (socket) => socket.on('error', (error) => errors.push(error)));
  const port = await serving(server);
  failing.mockImplementationOnce(() => {
    throw refusal;
  });
  const first = connecting(port);
  await once(first.resume(), 'close');
  expect(errors).toEqual([refusal]);
  const [socket] = await Promise.all([
    once(server, 'connection'),
    once(connecting(port), 'connect'),
  ]);
  (socket[0] as net.Socket).destroy();
  const count = (): Promise<number> =>
    new Promise((resolve) => server.getConnections((_error, found) => resolve(found)));
  while ((await count()) > 0) await new Promise(setImmediate);
  const plain = await echo();
  failing.mockImplementationOnce(() => {
    throw refusal;
  });
  const third = connecting(plain, { keepAlive: true });
  const connected = vi.fn();
  third.on('connect', connected);
  expect(await once(third, 'error')).toEqual([refusal]);
  expect(connected).not.toHaveBeenCalled();
});

/** What the system says of the connection below. */
function optionsOf(socket: net.Socket): object {
  const { _handle } = socket as unknown as { _handle: { handle: SocketHandle } };
  return _handle.handle.getOptions();
}
