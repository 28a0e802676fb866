/**
 * The echo server on a completion port.
 */
import { echoStep } from '../echo-step.mjs';
import { readOptions } from '../options.mjs';
import { makePort } from '../ports.mjs';
import { serve } from '../server.mjs';

const { driver, style } = readOptions();
const port = makePort({ driver, concurrency: 1 });
const micro = style === 'micro' ? await import('completion-port/micro') : undefined;

/** `copies`: bytes that stay, which are the program's own and are copied when they are sent. */
async function echo(socket) {
  const lend = style !== 'copies';
  try {
    for await (const bytes of socket.chunks({ lend })) await socket.send(bytes);
  } catch (error) {
    if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') throw error;
  }
  await socket.close();
}

async function acceptAll(listener) {
  for await (const socket of listener) void echo(socket);
}

function* microEcho(socket) {
  const { each } = micro;
  try {
    for (const bytes of yield* each(socket.chunks({ lend: true }))) {
      yield* socket.send(bytes);
      yield* each.next();
    }
  } catch (error) {
    if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') throw error;
  }
  yield* socket.close();
}

function* microAcceptAll(listener) {
  const { each, spawn } = micro;
  for (const socket of yield* each(listener)) {
    spawn(microEcho(socket));
    yield* each.next();
  }
}

/** The same operations, as promises that the tasks of effection wait for. */
function* effectionEcho(socket, { until }) {
  try {
    const chunks = socket.chunks({ lend: true });
    for (
      let chunk = yield* until(chunks.next());
      !chunk.done;
      chunk = yield* until(chunks.next())
    ) {
      yield* until(socket.send(chunk.value));
    }
  } catch (error) {
    if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') throw error;
  }
  yield* until(socket.close());
}

function* effectionAcceptAll(listener, effection) {
  const { spawn, until } = effection;
  const sockets = listener[Symbol.asyncIterator]();
  for (let next = yield* until(sockets.next()); !next.done; next = yield* until(sockets.next())) {
    yield* spawn(() => effectionEcho(next.value, effection));
  }
}

const where = { host: '127.0.0.1', port: 0, backlog: 4096 };
if (style === 'packets') port.consume(echoStep);
const listener = await port.listen(style === 'packets' ? { ...where, key: 1 } : where);
if (style === 'micro') micro.spawn(microAcceptAll(listener));
else if (style === 'effection') {
  const effection = await import('effection');
  void effection.run(() => effectionAcceptAll(listener, effection));
} else if (style !== 'packets') void acceptAll(listener);
serve(listener.address().port, () => port.stats());
