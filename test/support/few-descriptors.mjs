// An echo server, to be run with few descriptors.
import { CompletionPort } from '../../dist/index.js';

const port = new CompletionPort();
const listener = await port.listen({ host: '127.0.0.1', port: 0, backlog: 200 });
let accepted = 0;
let failures = 0;

async function echo(socket) {
  try {
    for await (const bytes of socket) await socket.send(bytes);
  } finally {
    await socket.close();
  }
}

async function serve() {
  for await (const socket of listener) {
    accepted++;
    echo(socket).catch(() => failures++);
  }
}

const serving = serve();
console.log(`port ${listener.address().port}`);
await new Promise((resolve) => process.stdin.once('end', resolve).resume());
await listener.close();
await serving;
console.log(`accepted ${accepted}, failures: ${failures}`);
await port.close();
