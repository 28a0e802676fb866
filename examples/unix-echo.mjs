/**
 * An echo server on a UNIX socket, on Windows on a named pipe, and a client of it.
 *
 *     node examples/unix-echo.mjs /tmp/echo.sock
 *     node examples/unix-echo.mjs /tmp/echo.sock hello
 */
import { CompletionPort } from 'completion-port';

const folder = process.platform === 'win32' ? '\\\\.\\pipe\\' : '/tmp/';
const [path = `${folder}completion-port-echo`, text] = process.argv.slice(2);
const port = new CompletionPort();

async function echo(socket) {
  try {
    for await (const bytes of socket) await socket.send(bytes);
    await socket.end();
  } finally {
    await socket.close();
  }
}

if (text === undefined) {
  const listener = await port.listen({ path });
  // Closing it removes its file.
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void listener.close());
  console.log(`listening at ${path}`);
  for await (const socket of listener) echo(socket).catch(console.error);
} else {
  const socket = await port.connect({ path });
  await socket.send(text);
  // It is told by how much comes back: a named pipe has no end but the close.
  let left = Buffer.byteLength(text);
  for await (const bytes of socket) {
    process.stdout.write(bytes);
    if ((left -= bytes.length) <= 0) break;
  }
  process.stdout.write('\n');
  await socket.close();
}
await port.close();
