/** Servers of Node.js in several threads, behind one listener. */
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync } from 'node:fs';
import http from 'node:http';
import http2 from 'node:http2';
import https from 'node:https';
import net from 'node:net';
import tls from 'node:tls';
import { promisify } from 'node:util';
import { Worker } from 'node:worker_threads';
import { expect, onTestFinished, test, vi } from 'vitest';
import {
  serve,
  shareListener,
  type SharedListener,
  type SharedListenerOptions,
} from '../../dist/node.js';
import { failureOf, newPort, outputOf, until } from '../support/harness';
import { foreignEnv } from '../support/servers';

const isWindows = process.platform === 'win32';
/** Whether connections are streams over the port of their thread. */
const overPort = isWindows || process.env['COMPLETION_PORT_SERVE'] === 'port';

type Kind = 'http' | 'https' | 'http2' | 'net' | 'tls' | 'throwing';

interface Thread {
  readonly worker: Worker;
  readonly id: string;
  /** What the worker has said. */
  readonly said: unknown[];
  /** It goes on when this is opened. */
  open(): void;
}

async function share(options: SharedListenerOptions = {}): Promise<SharedListener> {
  const shared = await shareListener({ host: '127.0.0.1', port: 0, ...options });
  onTestFinished(() => shared.close());
  return shared;
}

async function start(kind: Kind, listener: object, settings = {}): Promise<Thread> {
  const gate = new Int32Array(new SharedArrayBuffer(4));
  const worker = new Worker(new URL('fixtures/server.mjs', import.meta.url), {
    workerData: { kind, listener, settings, gate },
  });
  const said: unknown[] = [];
  worker.on('message', (message) => said.push(message));
  const open = (): void => {
    Atomics.store(gate, 0, 1);
    Atomics.notify(gate, 0);
  };
  onTestFinished(async () => {
    open();
    await worker.terminate();
  });
  const id = String(worker.threadId);
  await once(worker, 'message');
  return { worker, id, said, open };
}

const threads = (count: number, kind: Kind, listener: object, settings = {}): Promise<Thread[]> =>
  Promise.all(Array.from({ length: count }, () => start(kind, listener, settings)));

const portOf = (shared: SharedListener): number => shared.address()!.port;
const ca = (): Buffer => readFileSync(new URL('fixtures/certificate.pem', import.meta.url));

async function textOf(stream: AsyncIterable<unknown>): Promise<string> {
  let text = '';
  for await (const chunk of stream) text += String(chunk);
  return text;
}

async function get(port: number, agent: http.Agent | false = false): Promise<string> {
  const request = http.get({ host: '127.0.0.1', port, agent });
  const [response] = (await once(request, 'response')) as [http.IncomingMessage];
  return textOf(response);
}

/**
 * How evenly two threads have what came, but for what did not go where the policy says: on a machine
 * that is busy a thread may be late by itself.
 */
function unevenness(ids: string[], threads: Thread[], shared: SharedListener): number {
  const [a = 0, b = 0] = threads.map(({ id }) => ids.filter((other) => other === id).length);
  expect(a + b).toBe(ids.length);
  return Math.abs(a - b) - 2 * shared.stats().moved;
}

/** A connection that stays, and which thread has it. */
async function connect(port: number): Promise<{ socket: net.Socket; thread: string }> {
  const socket = net.connect({ host: '127.0.0.1', port }).setEncoding('utf8');
  onTestFinished(() => void socket.destroy());
  socket.on('error', () => undefined);
  const [greeting] = (await once(socket, 'data')) as [string];
  return { socket, thread: greeting.trim() };
}

async function connectPlain(port: number): Promise<net.Socket> {
  const socket = net.connect({ host: '127.0.0.1', port }).resume();
  socket.on('error', () => undefined); // it may be a reset
  await once(socket, 'connect');
  return socket;
}

function counted(ids: string[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const id of ids) counts[id] = (counts[id] ?? 0) + 1;
  return counts;
}

const clients: Record<string, (port: number) => Promise<string>> = {
  http: (port) => get(port),
  https: async (port) => {
    const to = { host: '127.0.0.1', port, ca: ca(), servername: 'localhost', agent: false };
    const request = https.get(to);
    const [response] = (await once(request, 'response')) as [http.IncomingMessage];
    return textOf(response);
  },
  http2: async (port) => {
    const session = http2.connect(`http://127.0.0.1:${port}`);
    const text = await textOf(session.request({ ':path': '/' }));
    session.close();
    return text;
  },
  net: async (port) => {
    const { socket, thread } = await connect(port);
    socket.destroy();
    return thread;
  },
  tls: async (port) => {
    const socket = tls.connect({ host: '127.0.0.1', port, ca: ca(), servername: 'localhost' });
    const [greeting] = (await once(socket, 'data')) as [Buffer];
    socket.destroy();
    return String(greeting).trim();
  },
};

test.each(Object.entries(clients))('%s servers of two threads answer', async (kind, ask) => {
  const shared = await share({ policy: 'round-robin' });
  const both = await threads(2, kind as Kind, shared.token);
  const answers: string[] = [];
  for (let i = 0; i < 6; i++) answers.push(await ask(portOf(shared)));
  expect(unevenness(answers, both, shared)).toBeLessThanOrEqual(0);
  expect(shared.stats()).toMatchObject({ threads: 2, accepted: 6, waiting: 0 });
});

test('connections that stay are spread evenly', async () => {
  const shared = await share();
  const both = await threads(2, 'net', shared.token);
  const [a] = both;
  const all = await Promise.all(Array.from({ length: 20 }, () => connect(portOf(shared))));
  const ids = all.map(({ thread }) => thread);
  // A thread may be about to count one while the next is given away.
  expect(unevenness(ids, both, shared)).toBeLessThanOrEqual(4);
  // Those of one thread end: the next ones are its.
  const gone = all.filter(({ thread }) => thread === a!.id);
  for (const { socket } of gone) socket.end();
  await until(() => shared.stats().connections === 20 - gone.length);
  const { moved } = shared.stats();
  const few = Math.min(6, all.length - gone.length);
  const more = await Promise.all(Array.from({ length: few }, () => connect(portOf(shared))));
  const others = more.filter(({ thread }) => thread !== a!.id).length;
  expect(others).toBeLessThanOrEqual(1 + shared.stats().moved - moved);
});

test('last in, first out: one thread does what one can', async () => {
  const shared = await share({ policy: 'lifo' });
  await threads(2, 'net', shared.token);
  const all: string[] = [];
  for (let i = 0; i < 8; i++) all.push((await connect(portOf(shared))).thread);
  expect(new Set(all).size).toBeLessThanOrEqual(1 + shared.stats().moved);
});

test('a thread that is busy gets no connection; others serve those that it was given', async () => {
  const shared = await share({ policy: 'round-robin' });
  const [a, b] = await threads(2, 'net', shared.token);
  a!.worker.postMessage('block');
  await until(() => a!.said.includes('blocks'));
  const all = await Promise.all(Array.from({ length: 12 }, () => connect(portOf(shared))));
  expect(counted(all.map(({ thread }) => thread))).toEqual({ [b!.id]: 12 });
  expect(shared.stats().moved).toBeGreaterThan(0);
  a!.open();
  while ((await connect(portOf(shared))).thread !== a!.id);
});

test('while all are busy connections wait, and go to the first that comes', async () => {
  const shared = await share();
  const [a, b] = await threads(2, 'net', shared.token);
  for (const { worker } of [a!, b!]) worker.postMessage('block');
  await until(() => a!.said.includes('blocks') && b!.said.includes('blocks'));
  const all = Promise.all(Array.from({ length: 6 }, () => connect(portOf(shared))));
  await until(() => shared.stats().waiting === 6);
  a!.open();
  expect(counted((await all).map(({ thread }) => thread))).toEqual({ [a!.id]: 6 });
});

test('a thread that ends takes only its own connections along', async () => {
  const shared = await share();
  const [a, b] = await threads(2, 'net', shared.token);
  const all: Awaited<ReturnType<typeof connect>>[] = [];
  while (all.length < 10 || new Set(all.map(({ thread }) => thread)).size < 2) {
    all.push(await connect(portOf(shared)));
  }
  a!.worker.postMessage('block');
  await until(() => a!.said.includes('blocks'));
  const more = Promise.all(Array.from({ length: 4 }, () => connect(portOf(shared))));
  const closed = all
    .filter(({ thread }) => thread === a!.id)
    .map(({ socket }) => new Promise((resolve) => socket.once('close', resolve)));
  a!.open();
  await a!.worker.terminate();
  await Promise.all(closed);
  await more;
  expect(shared.stats()).toMatchObject({ threads: 1, waiting: 0 });
  for (const { socket, thread } of all) {
    if (thread !== b!.id) continue;
    socket.write('still here');
    expect(await once(socket, 'data')).toEqual(['still here']);
  }
  expect((await connect(portOf(shared))).thread).toBe(b!.id);
});

test.skipIf(isWindows)(
  'no descriptor is left of threads that end while connections come',
  async () => {
    const descriptors = (): number => readdirSync('/proc/self/fd').length;
    const shared = await share({ policy: 'round-robin' });
    await start('net', shared.token);
    const before = descriptors();
    for (let round = 0; round < 10; round++) {
      const dying = await start('net', shared.token);
      const sockets = Array.from({ length: 40 }, () =>
        net.connect({ host: '127.0.0.1', port: portOf(shared) }).on('error', () => undefined),
      );
      await once(sockets[0]!, 'connect');
      await dying.worker.terminate();
      await Promise.all(sockets.map((socket) => socket.connecting && once(socket, 'connect')));
      for (const socket of sockets) socket.destroy();
    }
    await until(() => descriptors() <= before);
  },
);

test('close lets connections of the thread end, and leaves the listener to the others', async () => {
  const shared = await share();
  const [a, b] = await threads(2, 'net', shared.token);
  let kept = await connect(portOf(shared));
  while (kept.thread !== a!.id) kept = await connect(portOf(shared));
  a!.worker.postMessage('close');
  await until(() => shared.stats().threads === 1);
  expect((await connect(portOf(shared))).thread).toBe(b!.id);
  kept.socket.write('to the end');
  expect(await once(kept.socket, 'data')).toEqual(['to the end']);
  expect(a!.said).not.toContain('closed');
  kept.socket.end();
  await until(() => a!.said.includes('closed'));
});

/** A server of this thread. */
async function ownServer(): Promise<{ shared: SharedListener; server: http.Server }> {
  const shared = await share();
  const server = await serve(
    http.createServer((_request, response) => response.end('hello')),
    shared,
  );
  onTestFinished(() => void server.close());
  return { shared, server };
}

test('close comes once, where connections end in the same turn', async () => {
  const { shared, server } = await ownServer();
  const closed = vi.fn();
  server.on('close', closed);
  const accepted = once(server, 'connection');
  const client = await connectPlain(portOf(shared));
  const [socket] = (await accepted) as [net.Socket];
  socket.destroy();
  server.close();
  await once(client, 'close');
  await until(() => closed.mock.calls.length > 0);
  for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
  expect(closed).toHaveBeenCalledTimes(1);
});

test('what listened before does not end what the server listens at now', async () => {
  const { shared, server } = await ownServer();
  server.once('connection', (socket: net.Socket) => {
    socket.destroy();
    server.close();
    server.listen(0); // at once: there is no host to look up
  });
  await once(await connectPlain(portOf(shared)), 'close');
  await until(() => server.listening);
  for (let i = 0; i < 10; i++) await new Promise((resolve) => setImmediate(resolve));
  expect(await get((server.address() as net.AddressInfo).port)).toBe('hello');
});

test('a server that was closed serves again', async () => {
  const shared = await share();
  const thread = await start('net', shared.token, { stays: true });
  const { socket } = await connect(portOf(shared));
  thread.worker.postMessage('again');
  socket.end();
  await until(() => thread.said.includes('listens again'));
  expect((await connect(portOf(shared))).thread).toBe(thread.id);
  expect(shared.stats()).toMatchObject({ threads: 1, connections: 1, accepted: 2 });
});

test('threads that end while they begin to serve take no connection along', async () => {
  const shared = await share();
  const { id } = await start('net', shared.token);
  for (let round = 0; round < 12; round++) {
    const dying = new Worker(new URL('fixtures/server.mjs', import.meta.url), {
      workerData: { kind: 'net', listener: shared.token },
    });
    // At another point of its start each time, until it serves.
    const began = Date.now();
    await until(() => Date.now() - began >= round * 10 || shared.stats().threads === 2);
    await dying.terminate();
    expect(shared.stats().threads).toBe(1);
    expect((await connect(portOf(shared))).thread).toBe(id);
  }
});

test('closing the listener closes the servers of all threads, idle connections of http too', async () => {
  const shared = await share();
  const both = await threads(2, 'http', shared.token);
  const port = portOf(shared);
  const agent = new http.Agent({ keepAlive: true });
  onTestFinished(() => agent.destroy());
  await Promise.all(Array.from({ length: 4 }, () => get(port, agent)));
  await shared.close();
  expect(shared.address()).toBeUndefined();
  for (const { said } of both) await until(() => said.includes('closed'));
  expect(await failureOf(() => get(port))).toMatchObject({ code: 'ECONNREFUSED' });
});

test('threads that name the same port find to one another', async () => {
  const free = net.createServer().listen(0, '127.0.0.1');
  await once(free, 'listening');
  const { port } = free.address() as net.AddressInfo;
  const taken = await start('net', { host: '127.0.0.1', port });
  expect(taken.said).toEqual(['EADDRINUSE']);
  await new Promise((resolve) => free.close(resolve));
  const all = await threads(4, 'net', { host: '127.0.0.1', port, policy: 'round-robin' });
  const seen = new Set<string>();
  while (seen.size < 4) seen.add((await connect(port)).thread);
  expect(seen).toEqual(new Set(all.map(({ id }) => id)));
});

test.skipIf(isWindows)('a descriptor that listens already is shared', async () => {
  const listener = await newPort().listen({ host: '127.0.0.1', port: 0 });
  const { port } = listener.address()!;
  const shared = await shareListener({ fd: listener.fd });
  onTestFinished(() => shared.close());
  await listener.close();
  expect(shared.address()).toMatchObject({ port });
  const { id } = await start('net', shared.token);
  expect((await connect(port)).thread).toBe(id);
});

test('the server is told of connections beyond its limit, and knows where it listens', async () => {
  const shared = await share();
  const thread = await start('net', shared.token, { maxConnections: 1 });
  const first = await connect(portOf(shared));
  const second = net.connect({ host: '127.0.0.1', port: portOf(shared) });
  second.on('error', () => undefined).resume();
  await once(second, 'close');
  await until(() => thread.said.includes('drop'));
  thread.worker.postMessage('describe');
  await until(() => typeof thread.said.at(-1) === 'object');
  const about = { address: '127.0.0.1', port: portOf(shared), family: 'IPv4' };
  const own = !overPort;
  expect(thread.said.at(-1)).toEqual({ connections: 1, listening: true, address: about, own });
  first.socket.destroy();
});

test('what a listener of connections throws is uncaught, and the next ones come', async () => {
  const shared = await share();
  const thread = await start('throwing', shared.token);
  for (let i = 1; i <= 3; i++) {
    const socket = net.connect({ host: '127.0.0.1', port: portOf(shared) });
    onTestFinished(() => void socket.destroy());
    await until(() => thread.said.filter((message) => message === 'uncaught').length === i);
  }
});

test('a real client over https and http2', async (context) => {
  const run = promisify(execFile);
  const curl = (...args: string[]) =>
    run('curl', ['-sS', '--max-time', '20', ...args], { env: foreignEnv() });
  const version = await curl('--version').catch(() => context.skip('there is no curl'));
  const safe = await share();
  const thread = await start('https', safe.token);
  const ca = new URL('fixtures/certificate.pem', import.meta.url).pathname;
  const to = `localhost:${portOf(safe)}:127.0.0.1`;
  const url = `https://localhost:${portOf(safe)}/`;
  const { stdout } = await curl('--cacert', ca, '--resolve', to, url, url);
  expect(stdout).toBe(thread.id.repeat(2));
  if (!version.stdout.includes('HTTP2')) return;
  const shared = await share();
  const other = await start('http2', shared.token);
  const plain = `http://127.0.0.1:${portOf(shared)}/`;
  const answer = await curl('--http2-prior-knowledge', '-w', ' %{http_version}', plain);
  expect(answer.stdout).toBe(`${other.id} 2`);
});

test('a server that does not keep the process alive', async () => {
  const output = await outputOf(
    `
    import { createServer } from 'node:net';
    import { createRequire } from 'node:module';
    const { serve } = createRequire(process.cwd() + '/x.js')('./dist/node.js');
    const server = await serve(createServer(), { host: '127.0.0.1', port: 0 });
    setTimeout(() => console.log('still here'), 60_000).unref();
    console.log(server.listening);
    server.unref();`,
    { bare: true },
  );
  expect(output).toBe('true');
});

test('a server of a Node.js that has changed inside is refused, and left alone', async () => {
  for (const name of ['_listen2', '_handle', '_connections']) {
    const server = net.createServer();
    Object.defineProperty(server, name, { value: undefined, configurable: true });
    const refused = serve(server, { port: 0, host: '127.0.0.1' });
    await expect(refused).rejects.toMatchObject({
      code: 'ENOTSUP',
      message: expect.stringContaining(name) as string,
    });
    expect(server.listening).toBe(false);
  }
});

test('wrong arguments are refused', async () => {
  const server = net.createServer();
  const refused = async (server: unknown, listener: unknown): Promise<unknown> =>
    failureOf(() => serve(server as net.Server, listener as SharedListenerOptions));
  const shared = await share();
  const cases: [unknown, unknown, string][] = [
    [{}, shared, 'ERR_INVALID_ARG_TYPE'],
    [server, undefined, 'ERR_INVALID_ARG_TYPE'],
    [server, null, 'ERR_INVALID_ARG_TYPE'],
    [server, { hostname: 'x', port: 1 }, 'ERR_INVALID_ARG_VALUE'],
    [server, { port: 65536 }, 'ERR_OUT_OF_RANGE'],
    [server, { port: 0, policy: 'random' }, 'ERR_INVALID_ARG_VALUE'],
    [server, { fd: -1 }, isWindows ? 'ENOTSUP' : 'ERR_OUT_OF_RANGE'],
    [server, { fd: 0x7fffffff }, isWindows ? 'ENOTSUP' : 'EBADF'],
    [server, { sharedListener: 4e9, instance: shared.token.instance }, 'ERR_HANDLE_CLOSED'],
    [server, { ...shared.token, instance: 'another' }, 'ERR_PORT_FOREIGN'],
  ];
  for (const [server, listener, code] of cases) {
    expect(await refused(server, listener)).toMatchObject({ code });
  }
  await serve(server, shared);
  expect(await refused(server, shared)).toMatchObject({ code: 'ERR_INVALID_STATE' });
  server.close();
  const { token } = shared;
  await shared.close();
  expect(await refused(net.createServer(), token)).toMatchObject({ code: 'ERR_HANDLE_CLOSED' });
});

test.runIf(isWindows)('what Windows has not is refused at once', async () => {
  const path = String.raw`\\.\pipe\shared`;
  for (const options of [{ path }, { port: 0, reusePort: true }]) {
    expect(await failureOf(() => shareListener(options))).toMatchObject({ code: 'ENOTSUP' });
  }
});
