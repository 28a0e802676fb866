/**
 * The servers that are attacked, one in a process of its own; written as the guide says, without
 * any care that it does not ask for:
 *
 *     node test/adversary/server.mjs STYLE
 *
 * All send back what they receive. The first message to the parent is the port; afterwards each
 * message of the parent is answered with what the server holds: memory that each of its ports has
 * given out, in the order of the stages.
 */
import { once } from 'node:events';
import { createServer } from 'node:net';
import { fileURLToPath } from 'node:url';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { CompletionPort } from '../../dist/esm.mjs';
import { frames, Pipeline } from '../../dist/stages-esm.mjs';
import { start } from './processes.mjs';

const listening = { host: '127.0.0.1', port: 0, backlog: 4096 };
const file = fileURLToPath(import.meta.url);
const WORKERS = 3;

// ---- handlers

/** What one connection's end or error does stays with that connection. */
async function keepTo(socket, work) {
  try {
    await work();
  } catch (error) {
    if (error.code === undefined) throw error;
  } finally {
    await socket.close();
  }
}

async function accept(listener, serve) {
  for await (const socket of listener) void keepTo(socket, () => serve(socket));
}

async function echo(socket) {
  for await (const bytes of socket) await socket.send(bytes);
}

/** Sends what is lent, and does not wait. */
async function echoLent(socket) {
  for await (const bytes of socket.chunks({ lend: true })) void socket.send(bytes).catch(() => {});
}

function step(packet) {
  const { handle, type } = packet;
  if (type === 'accepted') packet.accepted?.receive({ multishot: true });
  else if (packet.failed) handle?.close();
  else if (type !== 'received' || handle.closed) return;
  else if (packet.bytes > 0) {
    packet.sendTo(handle);
    if (!packet.more) handle.receive({ multishot: true });
  } else handle.close();
}

async function pass(from, to) {
  for await (const bytes of from.chunks({ lend: true })) await to.send(bytes);
  await to.end();
}

async function proxy(port, client, target) {
  const server = await port.connect(target);
  // Each direction ends by itself; the first failure ends both.
  await keepTo(server, () => Promise.all([pass(client, server), pass(server, client)]));
}

// ---- servers: each resolves to its port and its ports' stats

const onePort = async (port, options = {}) => {
  const listener = await port.listen({ ...listening, ...options });
  return { listener, number: listener.address().port, stats: () => [port.stats()] };
};

async function awaiting(serve) {
  const server = await onePort(new CompletionPort());
  void accept(server.listener, serve);
  return server;
}

const pipeline = async (first, stages, options) => {
  const made = new Pipeline(stages, options);
  const { port: number } = await made.listen(first, listening);
  await made.ready();
  const stats = () => Object.values(made.stats().stages).map((stage) => stage.port);
  return { number, stats };
};

const documents = (options) =>
  pipeline(
    'spool',
    {
      spool: { native: frames({ length: 'u32be', maxLength: '1MiB', ...options }), next: 'work' },
      work: { stage: new URL('./document.stage.mjs', import.meta.url), threads: 2 },
    },
    { memoryLimit: 64 * 2 ** 20 },
  );

const servers = {
  await: () => awaiting(echo),
  lending: () => awaiting(echoLent),
  packets() {
    const port = new CompletionPort();
    port.consume(step);
    return onePort(port, { key: 1 });
  },
  threads() {
    const port = new CompletionPort({ concurrency: 2 });
    for (let i = 0; i < WORKERS; i++) new Worker(file, { workerData: port.token });
    return onePort(port, { key: 1 });
  },
  async proxy() {
    const target = await start('server.mjs', ['await']);
    const port = new CompletionPort();
    const server = await onePort(port);
    void accept(server.listener, (client) =>
      proxy(port, client, { host: '127.0.0.1', port: target.ready }),
    );
    return server;
  },
  stage: () =>
    pipeline('echo', {
      echo: { stage: new URL('./echo.stage.mjs', import.meta.url), threads: 2 },
    }),
  frames: () => documents({}),
  pipelined: () => documents({ pipelined: 64 }),

  /** Node.js's own, to compare. */
  async net() {
    let handles = 0;
    const server = createServer({ noDelay: true }, (socket) => {
      handles++;
      socket.on('error', () => undefined).on('close', () => handles--);
      socket.pipe(socket);
    });
    await once(server.listen(listening), 'listening');
    const stats = () => [{ allocatedBytes: 0, freeBuffers: Infinity, handles }];
    return { number: server.address().port, stats };
  },
};

async function main() {
  const { number, stats } = await servers[process.argv[2]]();
  process.on('message', () => {
    const all = stats();
    process.send({
      resident: process.memoryUsage.rss(),
      allocated: all.map((each) => each.allocatedBytes),
      free: Math.min(...all.map((each) => each.freeBuffers)),
      handles: all.reduce((sum, each) => sum + each.handles, 0),
    });
  });
  process.on('disconnect', () => process.exit());
  process.send(number);
}

function work() {
  const port = CompletionPort.attach(workerData);
  for (;;) for (const packet of port.get(64)) step(packet);
}

if (isMainThread) await main();
else work();
