// A process at the other end of a UNIX socket: node pass.mjs LIBRARY PATH WHAT
import { closeSync, openSync, readFileSync } from 'node:fs';
import process from 'node:process';

const [library, path, what] = process.argv.slice(2);
const { CompletionPort } = await import(library);
const port = new CompletionPort();
const socket = await port.connect({ path });

if (what === 'take') {
  const { data, descriptors, truncated } = await socket.receiveHandle();
  const texts = descriptors.map((descriptor) => readFileSync(descriptor, 'utf8'));
  descriptors.forEach((descriptor) => closeSync(descriptor));
  await socket.send(JSON.stringify({ data: String(data), texts, truncated }));
} else if (what === 'serve') {
  const { descriptors } = await socket.receiveHandle();
  const listener = await port.listen({ fd: descriptors[0] });
  closeSync(descriptors[0]);
  const connection = await listener.accept();
  await connection.send(`process ${process.pid}`);
  await connection.end();
} else if (what === 'give') {
  const descriptor = openSync('/etc/hostname', 'r');
  await socket.sendHandle([descriptor, descriptor], 'two of them');
  closeSync(descriptor);
} else if (what === 'ignore') {
  await socket.send('here');
  await socket.receive(); // plain: what comes along is closed
}
for await (const bytes of socket) void bytes; // until the other one has closed
await port.close();
