/** completion-port/node/net: what Node's own tests (test/node-core) do not look at, or not on each driver. */
import { AsyncLocalStorage } from 'node:async_hooks';
import diagnostics from 'node:diagnostics_channel';
import dns from 'node:dns';
import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import http from 'node:http';
import nodeNet from 'node:net';
import path from 'node:path';
import { Duplex } from 'node:stream';
import { buffer } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { expect, onTestFinished, test, vi } from 'vitest';
import { listenOver } from '../../dist/node.js';
import net from '../../dist/node-net.js';
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
