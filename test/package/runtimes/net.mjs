// node:net over a port.
import { once } from 'node:events';
import net from 'completion-port/node/net';

const server = net.createServer((socket) => socket.pipe(socket)).listen(0, '127.0.0.1');
await once(server, 'listening');
const client = net.connect(server.address().port, '127.0.0.1');
client.write('echoed');
const [bytes] = await once(client, 'data');
client.end();
await once(client, 'close');
server.close();
await once(server, 'close');
console.log(String(bytes));
