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

const { over, driver, kind, file, patient } = readOptions();
const port = over ? new CompletionPort({ driver, concurrency: 1 }) : undefined;
const body = Buffer.alloc(100, 'x');
/** As in node-client.mjs. */
const LONG = 24 << 20;

function echo(socket) {
  socket.on('data', (bytes) => socket.write(bytes));
  socket.on('error', () => socket.destroy());
}

/** Answers when it has all, with all of it in one write. */
function answerLong(socket) {
  let parts = [];
  let received = 0;
  socket.on('data', (bytes) => {
    parts.push(bytes);
    received += bytes.length;
    if (received < LONG) return;
    socket.write(Buffer.concat(parts));
    parts = [];
    received = 0;
  });
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
  const net = port ? overPort : nodeNet;
  if (kind === 'echo') return net.createServer(options, echo);
  if (kind === 'long') return net.createServer(options, answerLong);
  const server = http.createServer(answer);
  // Connections that wait are what is measured, not closed.
  if (patient) server.keepAliveTimeout = 10 * 60_000;
  return port ? listenOver(server, port) : server;
}

const server = make();
server.listen({ host: '127.0.0.1', port: 0, backlog: 4096 }, () => serve(server.address().port));
