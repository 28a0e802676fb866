// An echo server in packets on the event loop, and a client of node:net.
import { once } from 'node:events';
import net from 'node:net';
import { CompletionPort } from 'completion-port';

const port = new CompletionPort();
const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 1 });
port.consume((packet) => {
  if (packet.type === 'accepted') packet.accepted.receive({ multishot: true });
  else if (packet.type === 'received' && packet.bytes > 0) packet.handle.send(packet.data);
  else if (packet.type === 'received') packet.handle.close();
});
listener.accept({ multishot: true });
const client = net.connect(listener.address().port, '127.0.0.1');
client.write('echoed');
const [bytes] = await once(client, 'data');
client.end();
await once(client, 'close');
await port.close();
console.log(String(bytes));
