/**
 * Sends `--file` whole for each byte received, on a completion port: with `sendFile`, or read and
 * sent a part at a time.
 */
import { readOptions } from '../options.mjs';
import { makePort } from '../ports.mjs';
import { serve } from '../server.mjs';

const PART = 256 * 1024;

const { driver, style, file: path } = readOptions();
const port = makePort({ driver, concurrency: 1 });
const file = await port.open(path);

/** As much as one part of memory holds at a time. */
async function readAndSend(socket, memory) {
  for (let at = 0; ;) {
    const bytes = await file.read(memory, at);
    if (bytes === 0) return;
    await socket.send(memory.subarray(0, bytes));
    at += bytes;
  }
}

async function answer(socket) {
  const memory = style === 'read' ? port.allocate(PART) : undefined;
  try {
    for await (const bytes of socket.chunks({ lend: true })) {
      for (let i = 0; i < bytes.length; i++) {
        if (memory) await readAndSend(socket, memory);
        else await socket.sendFile(file);
      }
    }
  } catch (error) {
    if (error.code !== 'ECONNRESET' && error.code !== 'EPIPE') throw error;
  }
  await socket.close();
  if (memory) port.release(memory);
}

async function acceptAll(listener) {
  for await (const socket of listener) void answer(socket);
}

const listener = await port.listen({ host: '127.0.0.1', port: 0 });
void acceptAll(listener);
serve(listener.address().port, () => port.stats());
