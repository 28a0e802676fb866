/**
 * An echo, an http server that answers 100 bytes, or one that sends a file: over a port, or over the
 * sockets of Node.js.
 */
import { CompletionPort } from 'completion-port';
import { listenOver, sendFile } from 'completion-port/node';
import * as overPort from 'completion-port/node/net';
import { createReadStream } from 'node:fs';
import http from 'node:http';
import nodeNet from 'node:net';
import { readOptions } from '../options.mjs';
import { serve } from '../server.mjs';

const { over, driver, kind, file } = readOptions();
const port = over ? new CompletionPort({ driver, concurrency: 1 }) : undefined;
const body = Buffer.alloc(100, 'x');

function echo(socket) {
  socket.on('data', (bytes) => socket.write(bytes));
  socket.on('error', () => socket.destroy());
}

const opened = port && kind === 'file' ? await port.open(file) : undefined;

function answerFile(response) {
  if (opened) return sendFile(response, opened).catch(() => undefined);
  response.setHeader('content-length', 10 << 20);
  return createReadStream(file).pipe(response);
}

function answer(request, response) {
  if (kind === 'file') return answerFile(response);
  response.setHeader('content-length', body.length);
  response.end(body);
}

function make() {
  const options = { noDelay: true, ...(port ? { over: port } : {}) };
  if (kind === 'echo') return (port ? overPort : nodeNet).createServer(options, echo);
  const server = http.createServer(answer);
  return port ? listenOver(server, port) : server;
}

const server = make();
server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => serve(server.address().port));
