/**
 * One connection of the spool server on node:net: a state machine fed with what arrives.
 *
 * While a document is looked at that takes long, or the disk or the client is behind, the socket is
 * paused and what arrived with it goes back to the socket, which stops reading: TCP slows the
 * client down.
 */
import { jsonFrame } from './frames.mjs';
import { Document } from './net-documents.mjs';
import { FAREWELL, timedOut, tooLarge } from './spool-options.mjs';

const HEADER = 4;

export class Conversation {
  #socket;
  #store;
  #settings;
  #header = Buffer.allocUnsafe(HEADER);
  #headerBytes = 0;
  /** The one that is arriving, or looked at. */
  #document = undefined;
  #busy = false;
  #ended = false;
  #dismissed = false;

  /** Starts it. `settings`: the options of the server, and its `counters`. */
  constructor(socket, store, settings) {
    this.#socket = socket;
    this.#store = store;
    this.#settings = settings;
    settings.counters.connections++;
    socket
      .on('data', (bytes) => this.#received(bytes))
      .on('drain', () => this.#resume())
      .on('end', () => this.#end())
      .on('timeout', () => this.#timedOut())
      .on('error', () => socket.destroy())
      .on('close', () => this.#busy || this.#giveUp());
  }

  /** Answers to documents that came together leave together. */
  #received(bytes) {
    this.#settings.counters.wakeUps++;
    if (this.#dismissed) return;
    this.#socket.cork();
    try {
      this.#take(bytes);
    } finally {
      this.#socket.uncork();
    }
    this.#watch();
  }

  #take(bytes) {
    while (bytes.length > 0 && !this.#dismissed) {
      if (this.#busy || this.#socket.writableNeedDrain) return this.#putBack(bytes);
      const used = this.#document === undefined ? this.#takeHeader(bytes) : this.#append(bytes);
      bytes = bytes.subarray(used);
    }
    if (this.#busy || this.#socket.writableNeedDrain) this.#socket.pause();
  }

  #takeHeader(bytes) {
    const used = bytes.copy(this.#header, this.#headerBytes, 0);
    this.#headerBytes += used;
    if (this.#headerBytes < HEADER) return used;
    this.#headerBytes = 0;
    const length = this.#header.readUInt32BE(0);
    const { max } = this.#settings;
    if (length > max) this.#dismiss(tooLarge(max));
    else {
      this.#document = new Document(length, this.#store);
      if (length === 0) this.#answer();
    }
    return used;
  }

  #append(bytes) {
    const document = this.#document;
    const used = Math.min(bytes.length, document.missing);
    document.append(used === bytes.length ? bytes : bytes.subarray(0, used));
    if (document.complete) this.#answer();
    else if (document.behind) this.#during(document.caughtUp());
    return used;
  }

  #answer() {
    const result = this.#document.describe(this.#settings.answer);
    if (!(result instanceof Promise)) this.#answered(result);
    else this.#during(result.then((answer) => this.#answered(answer)));
  }

  #answered(answer) {
    const { counters } = this.#settings;
    counters[answer.error ? 'failures' : 'documents']++;
    counters.bytes += this.#document.length;
    this.#giveUp();
    if (this.#socket.writable) this.#socket.write(jsonFrame(answer));
  }

  /** Receives nothing until then. The document is in use meanwhile, also when the client goes away. */
  #during(promise) {
    this.#busy = true;
    void promise.then(() => {
      this.#busy = false;
      if (this.#socket.destroyed) this.#giveUp();
      if (this.#ended) this.#end();
      this.#resume();
    });
  }

  #putBack(bytes) {
    this.#socket.pause();
    this.#socket.unshift(bytes);
  }

  #resume() {
    if (this.#socket.destroyed || this.#busy || this.#socket.writableNeedDrain) return;
    this.#watch();
    this.#socket.resume();
  }

  /**
   * Limits how long the client may take to go on: not between documents, and not while the client
   * waits for us.
   */
  #watch() {
    if (this.#dismissed || this.#socket.destroyed) return;
    const begun = this.#document !== undefined || this.#headerBytes > 0;
    const waiting = !this.#busy && (begun || this.#ended || this.#socket.writableNeedDrain);
    const timeout = waiting ? this.#settings.timeout : 0;
    // Bytes that come start the time again by themselves.
    if (this.#socket.timeout !== timeout) this.#socket.setTimeout(timeout);
  }

  #timedOut() {
    if (this.#ended || this.#socket.writableNeedDrain) this.#socket.destroy();
    else this.#dismiss(timedOut);
  }

  /**
   * Sends the client away. Closing at once, with bytes of it not received, would reset the
   * connection and the client might never see the answer: so what it still sends is read, for a
   * while.
   */
  #dismiss(answer) {
    const socket = this.#socket;
    this.#dismissed = true;
    this.#giveUp();
    socket.setTimeout(0);
    socket.end(jsonFrame(answer));
    socket.resume();
    const farewell = setTimeout(() => socket.destroy(), FAREWELL);
    socket.once('close', () => clearTimeout(farewell));
  }

  #end() {
    this.#ended = true;
    if (this.#busy) return;
    this.#socket.end();
    this.#watch();
  }

  #giveUp() {
    const document = this.#document;
    this.#document = undefined;
    void document?.close();
  }
}
