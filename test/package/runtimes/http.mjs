// An http server of Node's over a port, and one behind a shared listener.
import { once } from 'node:events';
import http from 'node:http';
import { CompletionPort } from 'completion-port';
import { over, serve } from 'completion-port/node';

const port = new CompletionPort();
const answer = (request, response) => response.end('answered');
const server = over(port).createServer(answer).listen(0, '127.0.0.1');
await once(server, 'listening');
const other = await serve(http.createServer(answer), { host: '127.0.0.1', port: 0 });
for (const one of [server, other]) {
  const response = await fetch(`http://127.0.0.1:${one.address().port}/`);
  console.log(await response.text());
  one.closeAllConnections();
  one.close();
}
await port.close();
