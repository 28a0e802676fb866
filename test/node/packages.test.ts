/** Packages of Node.js and of npm over a port, each with a client or a server that is not ours. */
import express from 'express';
import fastify from 'fastify';
import { Redis } from 'ioredis';
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import nodeNet from 'node:net';
import path from 'node:path';
import { text } from 'node:stream/consumers';
import tls from 'node:tls';
import { Client } from 'pg';
import { Agent, request } from 'undici';
import { expect, onTestFinished, test } from 'vitest';
import { WebSocket, WebSocketServer } from 'ws';
import { listenOver, over, sendFile } from '../../dist/node.js';
import net from '../../dist/node-net.js';
import {
  driver,
  failureOf,
  newPort,
  temporaryDirectory,
  until,
  type CompletionPort,
} from '../support/harness';

const host = '127.0.0.1';

function port(): CompletionPort {
  return newPort(driver ? { driver: driver as 'epoll' } : {});
}

/** Its number, once it listens. */
async function listening(server: nodeNet.Server): Promise<number> {
  server.listen(0, host);
  await once(server, 'listening');
  onTestFinished(() => void server.close());
  return (server.address() as nodeNet.AddressInfo).port;
}

let made: { key: string; cert: string } | undefined;
/** A certificate of our own. */
function certificate(): { key: string; cert: string } {
  if (made !== undefined) return made;
  const directory = temporaryDirectory();
  const [key, cert] = ['key.pem', 'cert.pem'].map((name) => path.join(directory, name));
  const what = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:prime256v1', '-nodes'];
  const files = ['-keyout', key!, '-out', cert!];
  const whose = ['-subj', '/CN=localhost', '-addext', 'subjectAltName=IP:127.0.0.1,DNS:localhost'];
  execFileSync('openssl', ['req', '-x509', ...what, ...files, ...whose, '-days', '2'], {
    stdio: 'ignore',
  });
  return (made = { key: readFileSync(key!, 'utf8'), cert: readFileSync(cert!, 'utf8') });
}

async function get(options: http.RequestOptions, module: { get: typeof http.get } = http) {
  const response = await new Promise<http.IncomingMessage>((resolve, reject) => {
    module.get({ host, ...options }, resolve).on('error', reject);
  });
  return { status: response.statusCode, body: await text(response) };
}

test('http: a server over the port, and a client that keeps its connection', async () => {
  const server = over(port()).createServer((request, response) => {
    response.end(`${request.method} ${request.url}`);
  });
  const number = await listening(server);
  const agent = new http.Agent({ keepAlive: true });
  onTestFinished(() => void agent.destroy());
  let connections = 0;
  server.on('connection', () => connections++);
  for (const name of ['/a', '/b', '/c']) {
    expect(await get({ port: number, path: name, agent })).toEqual({
      status: 200,
      body: `GET ${name}`,
    });
  }
  expect(connections).toBe(1);
});

test('http: a body of 1 MiB both ways, and a client over the port', async () => {
  const doors = over(port());
  const number = await listening(
    http.createServer((request, response) => void request.pipe(response)),
  );
  const sent = 'x'.repeat(1024 * 1024);
  const { createConnection } = doors;
  const received = await new Promise<string>((resolve, reject) => {
    http
      .request({ host, port: number, method: 'POST', createConnection }, (response) => {
        text(response).then(resolve, reject);
      })
      .on('error', reject)
      .end(sent);
  });
  expect(received === sent).toBe(true);
});

test('http: closing waits for requests, and lets idle connections go', async () => {
  const server = over(port()).createServer((_request, response) => response.end('done'));
  const number = await listening(server);
  const agent = new http.Agent({ keepAlive: true });
  await get({ port: number, agent });
  const closed = once(server, 'close');
  server.close();
  expect([server.listening, server.address()]).toEqual([false, null]);
  await closed;
  agent.destroy();
});

test('http: a file goes to a response past the streams, and the connection goes on', async () => {
  const shared = port();
  const name = path.join(temporaryDirectory(), 'file');
  const bytes = 'abcdefghij'.repeat(50_000);
  writeFileSync(name, bytes);
  const file = await shared.open(name);
  const sent: unknown[] = [];
  const server = over(shared).createServer((request, response) => {
    const part = request.url === '/part' ? { position: 5, length: 10 } : {};
    sendFile(response, file, part).then(
      (count) => sent.push(count),
      (error) => sent.push(error),
    );
  });
  const number = await listening(server);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => void agent.destroy());
  let connections = 0;
  server.on('connection', () => connections++);
  const asked = { port: number, agent };
  expect((await get({ ...asked, path: '/part' })).body).toBe('fghijabcde');
  expect((await get({ ...asked, path: '/' })).body === bytes).toBe(true);
  expect((await get({ ...asked, method: 'HEAD', path: '/' })).body).toBe('');
  expect((await get({ ...asked, path: '/part' })).body).toBe('fghijabcde');
  expect([sent, connections]).toEqual([[10, 500_000, 0, 10], 1]);
  await file.close();
});

test('http: a client that leaves in the middle of a file is told as stream.pipeline tells it', async () => {
  const shared = port();
  const name = path.join(temporaryDirectory(), 'file');
  writeFileSync(name, Buffer.alloc(50_000_000));
  const file = await shared.open(name);
  const server = over(shared).createServer();
  const failed = new Promise<unknown>((resolve) => {
    server.on('request', (_, response) => sendFile(response, file).then(resolve, resolve));
  });
  const asked = http.get({ host, port: await listening(server), agent: false });
  asked.on('error', () => undefined);
  const [response] = (await once(asked, 'response')) as [http.IncomingMessage];
  await once(response, 'readable');
  asked.destroy();
  expect(await failed).toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE' });
  await file.close();
});

test('http: a client that leaves while its file waits for another answer is told of', async () => {
  const shared = port();
  const file = await shared.open(new URL(import.meta.url));
  const server = over(shared).createServer();
  const client = nodeNet.connect(await listening(server), host);
  const responses: http.ServerResponse[] = [];
  server.on('request', (_, response) => responses.push(response));
  client.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(3));
  await until(() => responses.length === 3);
  const early = sendFile(responses[1]!, file);
  client.destroy();
  await expect(early).rejects.toMatchObject({ code: 'ERR_STREAM_PREMATURE_CLOSE' });
  // From Node.js 24 on the response has ended then.
  const { code } = await failureOf(() => sendFile(responses[2]!, file));
  expect(['ERR_STREAM_PREMATURE_CLOSE', 'ERR_INVALID_STATE']).toContain(code);
  await file.close();
});

test('http: files that wait for another answer leave nothing at the connection', async () => {
  const shared = port();
  const file = await shared.open(new URL(import.meta.url));
  const { size } = await file.stat();
  const server = over(shared).createServer();
  const client = nodeNet.connect(await listening(server), host);
  onTestFinished(() => void client.destroy());
  client.resume();
  const responses: http.ServerResponse[] = [];
  server.on('request', (_, response) => responses.push(response));
  client.write('GET / HTTP/1.1\r\nhost: x\r\n\r\n'.repeat(20));
  await until(() => responses.length === 20);
  const [first, ...others] = responses as [http.ServerResponse, ...http.ServerResponse[]];
  const { socket } = first.req;
  const listeners = socket.listenerCount('close');
  const sent = others.map((response) => sendFile(response, file));
  expect(socket.listenerCount('close')).toBe(listeners + 1);
  first.end();
  expect(await Promise.all(sent)).toEqual(others.map(() => size));
  await until(() => others.at(-1)!.writableFinished);
  await file.close();
});

test('http: a file is all that a response is answered with, and as long as its head says', async () => {
  const shared = port();
  const file = await shared.open(new URL(import.meta.url));
  const { size } = await file.stat();
  const codes: unknown[] = [];
  const server = over(shared).createServer(async (request, response) => {
    const code = (error: NodeJS.ErrnoException) => codes.push(error.code);
    if (request.url === '/wrong') {
      response.setHeader('content-length', size + 1);
      await sendFile(response, file).catch(code);
      response.removeHeader('content-length');
    }
    if (request.url === '/none') response.statusCode = 204;
    const first = sendFile(response, file);
    await sendFile(response, file).catch(code);
    await first;
    await sendFile(response, file).catch(code);
  });
  const number = await listening(server);
  const agent = new http.Agent({ keepAlive: true, maxSockets: 1 });
  onTestFinished(() => void agent.destroy());
  for (const url of ['/', '/wrong']) {
    expect((await get({ port: number, agent, path: url })).body).toHaveLength(size);
  }
  const asked = http.get({ host, port: number, agent, path: '/none' });
  const [none] = (await once(asked, 'response')) as [http.IncomingMessage];
  expect([await text(none), none.headers['content-length']]).toEqual(['', undefined]);
  await until(() => codes.length === 7);
  expect(new Set(codes)).toEqual(new Set(['ERR_INVALID_STATE']));
  await file.close();
});

test('http: a response elsewhere is no place for sendFile', async () => {
  const file = await port().open(new URL(import.meta.url));
  const refused = new Promise<unknown>((resolve) => {
    const server = http.createServer((_request, response) => {
      sendFile(response, file).catch((error: unknown) => {
        resolve(error);
        response.end();
      });
    });
    void listening(server).then((number) => get({ port: number, agent: false }));
  });
  expect(await refused).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
});

test('https: server and client', async () => {
  const doors = over(port());
  const { key, cert } = certificate();
  const server = doors.createSecureServer({ key, cert }, (_q, response) => response.end('secret'));
  const number = await listening(server);
  const theirs = await get(
    { port: number, ca: cert, servername: 'localhost', agent: false } as never,
    https,
  );
  expect(theirs.body).toBe('secret');
  const createConnection = doors.createSecureConnection as never;
  const more = { ca: cert, servername: 'localhost', createConnection };
  expect((await get({ port: number, ...more } as never, https)).body).toBe('secret');
});

test('tls: over a socket, and a server of TLSSockets', async () => {
  const { key, cert } = certificate();
  const server = net.createServer((socket) => {
    const secure = new tls.TLSSocket(socket, { isServer: true, key, cert });
    secure.on('error', () => undefined);
    secure.pipe(secure);
  });
  const number = await listening(server);
  const socket = net.connect({ port: number, host });
  const client = tls.connect({ socket, ca: cert, servername: 'localhost' });
  await once(client, 'secureConnect');
  client.end('whispered');
  expect(await text(client)).toBe('whispered');
});

test('http2: a server and a client', async () => {
  const server = listenOver(http2.createServer(), port());
  server.on('stream', (stream) => {
    stream.respond({ ':status': 200 });
    stream.end('two');
  });
  const number = await listening(server);
  const session = http2.connect(`http://${host}:${number}`, {
    createConnection: () => net.connect({ port: number, host }),
  });
  onTestFinished(() => session.destroy());
  const stream = session.request({ ':path': '/' });
  expect(await text(stream)).toBe('two');
  session.close();
  await once(session, 'close');
});

test('ws: messages both ways', async () => {
  const doors = over(port());
  const server = doors.createServer();
  const sockets = new WebSocketServer({ server });
  sockets.on('connection', (socket) => socket.on('message', (data) => socket.send(data)));
  const number = await listening(server);
  for (const createConnection of [undefined, doors.createConnection]) {
    const client = new WebSocket(`ws://${host}:${number}`, { createConnection } as never);
    await once(client, 'open');
    client.send('a message');
    const [data] = (await once(client, 'message')) as [Buffer];
    expect(String(data)).toBe('a message');
    client.close();
    await once(client, 'close');
  }
  sockets.close();
});

test('undici: http and https', async () => {
  const { key, cert } = certificate();
  const plain = await listening(http.createServer((_q, response) => response.end('plain')));
  const secure = await listening(
    https.createServer({ key, cert }, (_q, response) => response.end('secure')),
  );
  const doors = over(port());
  const agent = new Agent({
    connect: (options, callback) =>
      doors.connect({ ...options, ca: cert } as never, callback as never),
  });
  onTestFinished(() => agent.close());
  const body = async (url: string) => (await request(url, { dispatcher: agent })).body.text();
  expect(await body(`http://${host}:${plain}/`)).toBe('plain');
  expect(await body(`https://localhost:${secure}/`)).toBe('secure');
});

test('Express', async () => {
  const app = express();
  app.get(
    '/hello/:name',
    (request, response) => void response.json({ hello: request.params.name }),
  );
  const number = await listening(over(port()).createServer(app));
  const { body } = await get({ port: number, path: '/hello/port' });
  expect(JSON.parse(body)).toEqual({ hello: 'port' });
});

test('Fastify', async () => {
  const app = fastify({ serverFactory: over(port()).serverFactory as never });
  app.post('/sum', (request) => ({ sum: (request.body as number[]).reduce((a, b) => a + b, 0) }));
  await app.listen({ port: 0, host });
  const { port: number } = app.server.address() as nodeNet.AddressInfo;
  const answer = await fetch(`http://${host}:${number}/sum`, {
    method: 'POST',
    headers: { 'content-type': 'application/json', connection: 'close' },
    body: '[1,2,3]',
  });
  expect(await answer.json()).toEqual({ sum: 6 });
  await app.close();
  expect(app.server.listening).toBe(false);
});

test('ioredis', async () => {
  const stored = new Map<string, string>();
  // As much of the protocol as a client says: arrays of strings.
  const number = await listening(
    nodeNet.createServer((socket) => {
      socket.setEncoding('utf8').on('data', (data) => {
        for (const command of String(data).split(/(?=\*\d+\r\n\$)/)) {
          const [name, key = '', value = ''] = command
            .split('\r\n')
            .filter((_, i) => i % 2 === 0)
            .slice(1);
          if (name === 'set') socket.write((stored.set(key, value), '+OK\r\n'));
          else if (name === 'get')
            socket.write(`$${stored.get(key)!.length}\r\n${stored.get(key)}\r\n`);
          else socket.write(name === 'info' ? '$0\r\n\r\n' : '+OK\r\n');
        }
      });
    }),
  );
  const { Connector } = over(port());
  const redis = new Redis({
    host,
    port: number,
    Connector: Connector as never,
    enableReadyCheck: false,
  });
  expect(await redis.set('key', 'value')).toBe('OK');
  expect(await redis.get('key')).toBe('value');
  redis.disconnect();
  await once(redis, 'end');
});

test('pg', async () => {
  const number = await listening(nodeNet.createServer(postgres));
  const { stream } = over(port());
  const client = new Client({
    host,
    port: number,
    user: 'u',
    database: 'd',
    stream: stream as never,
  });
  await client.connect();
  const { rows } = await client.query('SELECT 42 AS answer');
  expect(rows).toEqual([{ answer: '42' }]);
  await client.end();
});

/** Lets anybody in, and answers each query with one row. */
function postgres(socket: nodeNet.Socket): void {
  const message = (type: string, ...parts: (string | Buffer)[]): Buffer => {
    const body = Buffer.concat(parts.map((part) => Buffer.from(part as string)));
    const length = Buffer.alloc(4);
    length.writeInt32BE(body.length + 4);
    return Buffer.concat([Buffer.from(type), length, body]);
  };
  const ready = message('Z', 'I');
  const column = Buffer.from([0, 0, 0, 0, 0, 0, 0, 0, 0, 25, 255, 255, 255, 255, 255, 255, 0, 0]);
  let begun = false;
  socket.on('error', () => undefined);
  socket.on('data', (data) => {
    if (!begun) {
      begun = true;
      socket.write(Buffer.concat([message('R', Buffer.alloc(4)), ready]));
    } else if (data[0] === 0x51) {
      const one = Buffer.from([0, 1]);
      const row = message('D', one, Buffer.from([0, 0, 0, 2]), '42');
      const described = message('T', one, 'answer\0', column);
      socket.write(Buffer.concat([described, row, message('C', 'SELECT 1\0'), ready]));
    }
  });
}
