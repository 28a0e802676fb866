/**
 * A file as the body of an http response: it goes from the page cache to the connection, past the
 * streams.
 */
import { once } from 'node:events';
import type * as http from 'node:http';
import type { Duplex } from 'node:stream';
import type * as api from '../api';
import { File } from '../handles/file';
import { coded, invalidState, systemError } from '../support/errors';
import * as validate from '../support/validate';
import { Socket } from './net/socket';
import type { SendFileOptions } from './api';

const NO_CONTENT = 204;
const WITHOUT_BODY = [NO_CONTENT, 304];

/**
 * Answers with a file, or a part of one, and ends the response; resolves to the number of bytes. Sets
 * `content-length` where the program has not. The file stays open. Rejects, and destroys the
 * connection, where the file ends meanwhile; where the connection does, by `stream.pipeline`'s code,
 * `ERR_STREAM_PREMATURE_CLOSE`.
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
  const length = Math.max(0, Math.min(wanted, sizeOf(file) - position));
  begin(response);
  const socket = await connectionOf(response);
  if (response.req.method === 'HEAD' || WITHOUT_BODY.includes(response.statusCode)) {
    // RFC 9110, 8.6: none of 204.
    if (response.statusCode !== NO_CONTENT) announce(response, length);
    response.end();
    return 0;
  }
  announce(response, length);
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
    const cutOff = socket.destroyed;
    socket.destroy();
    throw cutOff ? premature(error) : error;
  }
}

/** At once, of what is open: `stat` would be the blocking pool's. */
function sizeOf(file: unknown): number {
  if (!(file instanceof File) || file.style !== 'await') {
    throw validate.invalidType('file', 'a FileHandle', file);
  }
  file.assertOpen();
  const { id, thread } = file;
  const size = thread.native.fileSize(id);
  if (size < 0) throw systemError(size, 'fstat', file.subject());
  return size;
}

async function connectionOf(response: http.ServerResponse): Promise<Socket> {
  const socket: unknown = response.socket ?? (await turnOf(response));
  if (socket instanceof Socket) return socket;
  const expected = 'of a connection over a port, without TLS: elsewhere file.readable() does';
  throw validate.invalidType('response', expected, response);
}

/**
 * A response that waits for one before it has no connection yet, and is told nothing where the client
 * leaves: that is to be seen at its request.
 */
async function turnOf(response: http.ServerResponse): Promise<unknown> {
  const signal = leaving(response.req.socket);
  try {
    const [socket] = (await once(response, 'socket', { signal })) as unknown[];
    return socket;
  } catch (error) {
    throw signal.aborted ? premature(error) : error;
  }
}

const leavings = new WeakMap<Duplex, AbortSignal>();

/** Aborted when `connection` closes: one listener there, however many responses wait. */
function leaving(connection: Duplex): AbortSignal {
  const known = leavings.get(connection);
  if (known !== undefined) return known;
  const gone = new AbortController();
  if (connection.destroyed) gone.abort();
  else connection.once('close', () => gone.abort());
  leavings.set(connection, gone.signal);
  return gone.signal;
}

/** Responses that are being answered with a file, which is all that they are answered with. */
const answered = new WeakSet<http.ServerResponse>();

function begin(response: http.ServerResponse): void {
  if (answered.has(response)) throw invalidState('The response is answered with a file already');
  if (response.destroyed || response.writableEnded) {
    throw invalidState('The response has ended, or its connection has');
  }
  answered.add(response);
}

/**
 * Where the program has said how long the answer is and written nothing of it yet, it has to be
 * right: a client would wait for the rest, or take it for the next answer.
 */
function announce(response: http.ServerResponse, length: number): void {
  if (!response.headersSent) {
    const said = response.getHeader('content-length');
    if (said === undefined) response.setHeader('content-length', length);
    else if (Number(said) !== length) {
      answered.delete(response);
      throw invalidState(`content-length is ${String(said)}, and ${length} bytes are to be sent`);
    }
    response.flushHeaders();
  }
  if (response.chunkedEncoding) {
    throw invalidState('The head of the response was sent without content-length');
  }
}

/** The client has gone, or the program has destroyed the connection. */
function premature(cause: unknown): Error {
  const text = 'The connection ended before the file had gone out';
  return coded(new Error(text, { cause }), 'ERR_STREAM_PREMATURE_CLOSE');
}

function shorter(sent: number, length: number): Error {
  return coded(new Error(`The file ended after ${sent} of ${length} bytes`), 'ERR_INVALID_STATE');
}
