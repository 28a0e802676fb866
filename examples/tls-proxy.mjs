// Takes TLS off: clients connect with TLS, and their bytes go on to a plain server, over a port on
// both sides. node examples/tls-proxy.mjs --cert cert.pem --key key.pem --target 127.0.0.1:8080
import { CompletionPort } from 'completion-port';
import * as net from 'completion-port/node/net';
import { readFileSync } from 'node:fs';
import { pipeline } from 'node:stream/promises';
import tls from 'node:tls';
import { parseArgs } from 'node:util';

const { values } = parseArgs({
  options: {
    driver: { type: 'string' },
    port: { type: 'string', default: '8443' },
    target: { type: 'string', default: '127.0.0.1:8080' },
    cert: { type: 'string' },
    key: { type: 'string' },
  },
});

const [host, number] = values.target.split(':');
const over = new CompletionPort({ driver: values.driver, concurrency: 1 });
const secureContext = tls.createSecureContext({
  cert: readFileSync(values.cert),
  key: readFileSync(values.key),
});

const server = net.createServer({ over, allowHalfOpen: true }, (socket) => {
  const client = new tls.TLSSocket(socket, { isServer: true, secureContext });
  const target = net.connect({ over, host, port: Number(number), allowHalfOpen: true });
  const both = [pipeline(client, target), pipeline(target, client)];
  Promise.all(both).catch((error) => console.error(error.message));
});

server.listen(Number(values.port), '127.0.0.1', () => {
  console.log(`listening on port ${server.address().port}`);
});

process.once('SIGTERM', () => server.close(() => over.close()));
