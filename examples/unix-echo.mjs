/**
 * An echo server on a UNIX socket, and a client of it.
 *
 *     node examples/unix-echo.mjs /tmp/echo.sock
 *     node examples/unix-echo.mjs /tmp/echo.sock hello
 */
import { CompletionPort } from 'completion-port';

const [path = '/tmp/completion-port-echo.sock', text] = process.argv.slice(2);
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
  await socket.end(text);
  for await (const bytes of socket) process.stdout.write(bytes);
  process.stdout.write('\n');
  await socket.close();
}
await port.close();
