/**
 * A TCP echo server in packets: a state machine of four steps that any thread can take.
 *
 *     node examples/programs/echo.mjs --threads 2
 *     nc 127.0.0.1 7007
 */
import { isMainThread, parentPort, workerData } from 'node:worker_threads';
import { CompletionPort } from 'completion-port';
import { readArguments, serverOptions } from './support/arguments.mjs';
import { isClosed, runProgram } from './support/program.mjs';
import { serveUntilSignal, startWorkers } from './support/server.mjs';

const LISTENER = 1;

/**
 * One step of a connection. It receives again only when what came before is sent, so a peer that
 * doesn't read is not received from either, and has at most one of the port's buffers.
 */
function step(packet) {
  const socket = packet.handle;
  switch (packet.type) {
    case 'accepted':
      packet.accepted?.receive();
      if (!packet.more) socket?.accept({ multishot: true });
      break;
    case 'received':
      if (packet.failed) socket?.close();
      else if (packet.bytes === 0) socket?.end();
      else packet.sendTo(socket);
      break;
    case 'sent':
      if (packet.failed) socket?.close();
      else socket?.receive();
      break;
    case 'ended':
    case 'abandoned': // the thread that had the last packet of this connection is gone
      socket?.close();
      break;
  }
}

/** A worker does nothing else than wait for packets, so it may block. */
function work() {
  const port = CompletionPort.attach(workerData.token);
  parentPort.postMessage('ready');
  try {
    for (;;) for (const packet of port.get()) step(packet);
  } catch (error) {
    if (!isClosed(error)) throw error;
  }
}

async function main() {
  const {
    host,
    port: number,
    threads,
    driver,
  } = readArguments('echo', {
    usage: '[options]',
    about: 'Sends back what it receives over TCP.',
    options: serverOptions(7007),
  });
  const port = new CompletionPort({ driver, concurrency: threads });
  const workers = threads > 1 ? await startWorkers(import.meta.url, threads, port) : [];
  const service = threads === 1 ? port.consume(step) : undefined;
  const listener = await port.listen({ host, port: number, key: LISTENER, backlog: 4096 });
  const atEnd = () => service?.stop();
  await serveUntilSignal(port, { address: listener.address(), threads, workers, atEnd });
}

if (isMainThread) await runProgram('echo', main);
else work();
