/**
 * `onread` of node:net: what is received goes into memory of the program's, a piece at a time, and
 * to a function rather than into the stream.
 */
import { invalidType } from '../../support/validate';

export interface OnRead {
  readonly buffer: Uint8Array | (() => Uint8Array);
  readonly callback: (this: object, bytes: number, buffer: Uint8Array) => unknown;
}

export class Pieces {
  private readonly onread: OnRead;
  private readonly socket: { isPaused(): boolean };
  private into: Uint8Array | undefined = undefined;
  /** Received, and not given out since the function said that it has enough. */
  private rest: Uint8Array | undefined = undefined;

  constructor(onread: OnRead, socket: { isPaused(): boolean }) {
    const { buffer, callback } = onread;
    if (!(buffer instanceof Uint8Array) && typeof buffer !== 'function') {
      throw invalidType('options.onread.buffer', 'an instance of Uint8Array or a function', buffer);
    }
    if (typeof callback !== 'function') {
      throw invalidType('options.onread.callback', 'of type function', callback);
    }
    this.onread = onread;
    this.socket = socket;
  }

  get waiting(): boolean {
    return this.rest !== undefined;
  }

  /** Gives out what has been received; whether more is welcome. */
  give(received: Uint8Array): boolean {
    let from = 0;
    while (from < received.length) {
      const into = (this.into ??= this.next());
      const length = Math.min(into.length, received.length - from);
      into.set(received.subarray(from, from + length));
      from += length;
      const more = this.onread.callback.call(this.socket, length, into) !== false;
      this.into = this.next();
      if (more && !this.socket.isPaused()) continue;
      this.rest = from < received.length ? received.subarray(from) : undefined;
      return false;
    }
    return true;
  }

  /** The same with what was left. */
  resume(): boolean {
    const { rest } = this;
    this.rest = undefined;
    return rest === undefined || this.give(rest);
  }

  /** The memory that the next piece goes into. */
  private next(): Uint8Array {
    const { buffer } = this.onread;
    const into = typeof buffer === 'function' ? buffer() : buffer;
    if (into instanceof Uint8Array && into.length > 0) return into;
    throw invalidType('options.onread.buffer', 'a Uint8Array with bytes', into);
  }
}
