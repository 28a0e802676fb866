/**
 * A server in await style: each of its threads accepts connections of its own.
 */
import { parentPort, workerData } from 'node:worker_threads';
import { CompletionPort } from 'completion-port';
import { isClosed } from './program.mjs';
import { reservePort, serveUntilSignal, startWorkers } from './server.mjs';

/** Accepts connections until the port is closed, and calls `serve` for each. */
async function acceptAll(listener, serve) {
  try {
    for await (const socket of listener) void serve(socket);
  } catch (error) {
    if (!isClosed(error)) throw error;
  }
}

/**
 * Runs the server: `serve(port, settings)` gives what is called for each connection. With one thread
 * that is the main thread; otherwise the program `url` is started again in that many workers, and
 * the kernel spreads the connections over their listeners. `atEnd` runs before the port is closed.
 */
export async function serveConnections(url, port, settings, serve, atEnd) {
  const { host, threads } = settings;
  if (threads === 1) {
    const listener = await port.listen({ host, port: settings.port, backlog: 4096 });
    void acceptAll(listener, serve(port, settings));
    await serveUntilSignal(port, { address: listener.address(), threads, atEnd });
    return;
  }
  const reserved = await reservePort(port, settings);
  const address = reserved.address();
  const workers = await startWorkers(url, threads, port, { ...settings, port: address.port });
  await reserved.close();
  await serveUntilSignal(port, { address, threads, workers, atEnd });
}

/** The same server in a worker. */
export async function serveInWorker(serve) {
  const { token, settings } = workerData;
  const port = CompletionPort.attach(token);
  const listener = await port.listen({
    host: settings.host,
    port: settings.port,
    backlog: 4096,
    reusePort: true,
  });
  parentPort.postMessage('ready');
  await acceptAll(listener, serve(port, settings));
}
