/**
 * A TCP proxy: what comes from the client goes to the target, and the other way round.
 *
 *     node examples/programs/proxy.mjs --target localhost:6379 --port 7001
 */
import { isMainThread } from 'node:worker_threads';
import { CompletionPort } from 'completion-port';
import {
  duration,
  hostAndPort,
  option,
  readArguments,
  serverOptions,
} from './support/arguments.mjs';
import { serveConnections, serveInWorker } from './support/connections.mjs';
import { runProgram } from './support/program.mjs';

/** Probes connections on which nothing was said for a minute, so that none stays for a dead peer. */
const KEEP_ALIVE = 60_000;
const keepAlive = { keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE };

/**
 * Passes on what `from` sends, and then its end. The next bytes are received only when the last ones
 * are with the kernel, so a slow reader slows the sender down. The bytes stay where they are: they
 * are sent from the buffer they were received into.
 */
async function pass(from, to) {
  for await (const bytes of from.chunks({ lend: true })) await to.send(bytes);
  await to.end();
}

async function serveClient(port, client, { target, timeout }) {
  let server;
  try {
    client.setNoDelay().setKeepAlive(true, KEEP_ALIVE);
    server = await port.connect({ ...target, timeout, noDelay: true, ...keepAlive });
    // Each direction ends by itself; the first failure ends both.
    await Promise.all([pass(client, server), pass(server, client)]);
  } catch (error) {
    if (error.code === undefined) throw error;
  } finally {
    await Promise.allSettled([client.close(), server?.close()]);
  }
}

const serve = (port, settings) => (client) => serveClient(port, client, settings);

async function main() {
  const settings = readArguments('proxy', {
    usage: '--target HOST:PORT [options]',
    about: 'Passes TCP connections on to another server.',
    options: {
      target: option('HOST:PORT', undefined, 'where connections are passed on to', hostAndPort),
      timeout: option('TIME', '10s', 'for connecting to the target', duration),
      ...serverOptions(7001),
    },
    required: ['target'],
  });
  const { driver, threads } = settings;
  const port = new CompletionPort({
    driver,
    concurrency: threads,
    buffers: { size: 65536, count: 2048 },
  });
  await serveConnections(import.meta.url, port, settings, serve);
}

if (isMainThread) await runProgram('proxy', main);
else await serveInWorker(serve);
