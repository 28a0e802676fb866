// A TCP echo server: one port, served by as many threads as are asked for.
//   node examples/echo.mjs --threads 2        nc 127.0.0.1 7007
import { parseArgs } from 'node:util';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { CompletionPort } from 'completion-port';

/** One step of a connection: any thread can take it, since the packet says all there is to know. */
function step(packet) {
  const socket = packet.handle;
  if (packet.failed || packet.type === 'ended' || packet.type === 'abandoned') {
    socket?.close();
  } else if (packet.type === 'accepted') {
    packet.accepted?.receive();
    if (!packet.more) socket?.accept({ multishot: true });
  } else if (packet.type === 'received') {
    if (packet.bytes > 0) packet.sendTo(socket);
    else socket.end();
  } else if (packet.type === 'sent') {
    socket.receive(); // not before: who does not read is not received from
  }
}

if (isMainThread) {
  const options = {
    port: { type: 'string', default: '7007' },
    threads: { type: 'string', default: '1' },
  };
  const { values } = parseArgs({ options });
  const port = new CompletionPort();
  for (let i = 1; i < Number(values.threads); i++) {
    new Worker(new URL(import.meta.url), { workerData: port.token });
  }
  port.consume(step);
  const listener = await port.listen({ port: Number(values.port), host: '127.0.0.1', key: 1 });
  console.log(`listening on 127.0.0.1:${listener.address().port}`);
  for (const signal of ['SIGINT', 'SIGTERM']) process.on(signal, () => port.close());
} else {
  CompletionPort.attach(workerData).consume(step);
}
