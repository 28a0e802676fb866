// A TCP proxy: both directions at once, and a slow reader slows its sender down.
//   node examples/proxy.mjs 7001 127.0.0.1 6379
import { CompletionPort } from 'completion-port';

const [from, host, to] = process.argv.slice(2);
const port = new CompletionPort();

async function pass(source, sink) {
  for await (const bytes of source.chunks({ lend: true })) await sink.send(bytes);
  await sink.end();
}

async function serve(client) {
  let server;
  try {
    server = await port.connect({ host, port: Number(to), timeout: 10_000 });
    // Each direction ends by itself; the first failure ends both.
    await Promise.all([pass(client, server), pass(server, client)]);
  } catch (error) {
    if (error.code === undefined) throw error;
  } finally {
    await Promise.allSettled([client.close(), server?.close()]);
  }
}

const listener = await port.listen({ host: '127.0.0.1', port: Number(from) });
console.log(`listening on 127.0.0.1:${listener.address().port}`);
for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => port.close());
for await (const client of listener) void serve(client);
