/**
 * What `serve` relies on in a `net.Server`. It has been there since the first versions of Node.js,
 * for node:cluster's sake, but nothing promises it: a version without it is to be told from a
 * program's mistake, before anything was taken.
 */
import type { Server } from 'node:net';
import { notSupported } from '../../support/errors';

export interface Internals {
  _handle: unknown;
  _connections: number;
  _pipeName?: string;
  _listen2(address: string | null, port: number | null, family: number, backlog: number): void;
}

export function internalsOf(server: Server): Internals {
  const internals = server as unknown as Partial<Internals>;
  if (typeof internals._listen2 !== 'function') throw missing('_listen2');
  if (internals._handle === undefined) throw missing('_handle');
  if (typeof internals._connections !== 'number') throw missing('_connections');
  return internals as Internals;
}

export function missing(name: string): Error {
  const reason = `net.Server of Node.js ${process.version} has no ${name}, which this needs`;
  return notSupported('serve', `${reason}: listenOver does without`);
}
