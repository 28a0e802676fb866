// An http server of Node.js whose connections come over a port: Express, Fastify and whatever else
// makes an http.Server goes the same way. Try: curl http://127.0.0.1:8080/
import { CompletionPort } from 'completion-port';
import { over } from 'completion-port/node';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    driver: { type: 'string' },
    port: { type: 'string', default: '8080' },
  },
});

const port = new CompletionPort({ driver: values.driver, concurrency: 1 });
const { createServer } = over(port);

const server = createServer(async (request, response) => {
  if (request.url === '/source') {
    // A file of the same port, as a stream of Node.js.
    const file = await port.open(new URL(import.meta.url));
    file.readable({ start: 0 }).pipe(response);
    return;
  }
  response.end(`${request.method} ${request.url} over ${port.driver}\n`);
});

server.listen(Number(values.port), '127.0.0.1', () => {
  console.log(`listening on port ${server.address().port}`);
});

process.once('SIGTERM', () => server.close(() => port.close()));
