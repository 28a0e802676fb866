/**
 * A file as the body of an http response: it goes from the page cache to the connection, past the
 * streams.
 */
import { once } from 'node:events';
import type * as http from 'node:http';
import type * as api from '../api';
import { coded, invalidState } from '../support/errors';
import * as validate from '../support/validate';
import { Socket } from './net/socket';
import type { SendFileOptions } from './api';

const WITHOUT_BODY = [204, 304];

/**
 * Answers with a file, or a part of one, and ends the response; resolves to the number of bytes. Sets
 * `content-length` where the program has not. The file stays open. Rejects, and destroys the
 * connection, where that ends meanwhile, or the file does.
 */
export async function sendFile(
  response: http.ServerResponse,
  file: api.FileHandle,
  options: SendFileOptions = {},
): Promise<number> {
  validate.options(options);
  validate.known(options, 'options', ['position', 'length']);
  const most = Number.MAX_SAFE_INTEGER;
  const position = validate.integer(options.position ?? 0, 'options.position', 0, most);
  const wanted = validate.integer(options.length ?? most, 'options.length', 0, most);
  const { size } = await file.stat();
  const length = Math.max(0, Math.min(wanted, size - position));
  const socket = await connectionOf(response);
  announce(response, length);
  if (response.req.method === 'HEAD' || WITHOUT_BODY.includes(response.statusCode)) {
    response.end();
    return 0;
  }
  try {
    // What was written before it, the head of the response, goes first.
    await new Promise<void>((resolve, reject) => {
      socket.write('', (error) => (error ? reject(error) : resolve()));
    });
    const sent = await socket._sendFile(file, { position, length });
    if (sent < length) throw shorter(sent, length);
    response.end();
    return sent;
  } catch (error) {
    socket.destroy();
    throw error;
  }
}

/** A response that waits for one before it has no connection yet. */
async function connectionOf(response: http.ServerResponse): Promise<Socket> {
  if (response.destroyed || response.writableEnded) {
    throw invalidState('The response has ended, or its connection has');
  }
  const waits = response.socket === null || response.socket === undefined;
  const [socket] = waits ? ((await once(response, 'socket')) as unknown[]) : [response.socket];
  if (socket instanceof Socket) return socket;
  const expected = 'of a connection over a port, without TLS: elsewhere file.readable() does';
  throw validate.invalidType('response', expected, response);
}

function announce(response: http.ServerResponse, length: number): void {
  if (!response.headersSent) {
    if (!response.hasHeader('content-length')) response.setHeader('content-length', length);
    response.flushHeaders();
  }
  if (response.chunkedEncoding) {
    throw invalidState('The head of the response was sent without content-length');
  }
}

function shorter(sent: number, length: number): Error {
  return coded(new Error(`The file ended after ${sent} of ${length} bytes`), 'ERR_INVALID_STATE');
}
