/** A thread of the proxy, until it is ended in the middle of it. */
import { parentPort, workerData } from 'node:worker_threads';
import { CompletionPort } from '../../../dist/esm.mjs';

const { token, host, port: from, target } = workerData;
const port = CompletionPort.attach(token);
const listener = await port.listen({ host, port: from, reusePort: true, backlog: 1024 });

async function pass(source, sink) {
  for await (const bytes of source.chunks({ lend: true })) await sink.send(bytes);
  await sink.end();
}

async function serve(client) {
  let server;
  try {
    server = await port.connect({ host, port: target, timeout: 10_000 });
    await Promise.all([pass(client, server), pass(server, client)]);
  } catch (error) {
    if (error.code === undefined) throw error;
  } finally {
    await Promise.allSettled([client.close(), server?.close()]);
  }
}

parentPort.postMessage('ready');
for (;;) {
  try {
    for await (const client of listener) void serve(client);
    break;
  } catch (error) {
    if (!['EMFILE', 'ENFILE'].includes(error.code)) throw error;
  }
}
