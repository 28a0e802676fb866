/**
 * The echo server on a completion port.
 */
import { readOptions } from '../options.mjs';
import { makePort } from '../ports.mjs';
import { serve } from '../server.mjs';

const { driver, style } = readOptions();
const port = makePort({ driver, concurrency: 1 });

const multishot = { multishot: true };
const quiet = { quiet: true };

/** Bytes go back from where they lie; a peer that doesn't read is bounded by the port's buffers. */
function step(packet) {
  switch (packet.type) {
    case 'received': {
      const socket = packet.handle;
      if (packet.failed || packet.bytes === 0) {
        socket.close();
        break;
      }
      packet.sendTo(socket, quiet);
      if (!packet.more) socket.receive(multishot);
      break;
    }
    case 'sent':
      if (packet.failed) packet.handle.close();
      break;
    case 'accepted':
      packet.accepted?.receive(multishot);
      if (!packet.more) packet.handle.accept(multishot);
      break;
  }
}

async function echo(socket) {
  try {
    for await (const bytes of socket) await socket.send(bytes);
  } catch (error) {
    if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') throw error;
  }
  await socket.close();
}

async function acceptAll(listener) {
  for await (const socket of listener) void echo(socket);
}

const where = { host: '127.0.0.1', port: 0, backlog: 4096 };
if (style === 'packets') port.serve(step);
const listener = await port.listen(style === 'packets' ? { ...where, key: 1 } : where);
if (style !== 'packets') void acceptAll(listener);
serve(listener.address().port, () => port.stats());
