/**
 * Clients of the spool servers, on node:net: fast ones, each of which sends a document, waits for
 * the answer, checks it, and sends the next; and slow ones beside them, which need a day for one.
 */
import net from 'node:net';
import hdr from 'hdr-histogram-js';

const MOST_COMPLAINTS = 5;
/** Connections that are being made at a time: no listener's backlog overflows. */
const CONNECTING = 128;
/** What a slow client sends each second. */
const SLOW_BYTES = Buffer.from('ten bytes\n');
/** So often some of the slow ones have their turn, in milliseconds. */
const SLOW_TURN = 10;

class Tally {
  /** Answers within the time that is measured, and in all. */
  documents = 0;
  bytes = 0;
  all = 0;
  wrong = 0;
  complaints = [];
  measuring = false;
  /** Microseconds from the first byte sent to the answer. */
  times = hdr.build({ numberOfSignificantValueDigits: 3, highestTrackableValue: 3.6e9 });

  record(bytes, milliseconds) {
    this.all++;
    if (!this.measuring) return;
    this.documents++;
    this.bytes += bytes;
    this.times.recordValue(Math.max(1, Math.round(milliseconds * 1000)));
  }

  complain(text) {
    this.wrong++;
    if (this.complaints.length < MOST_COMPLAINTS) this.complaints.push(text);
  }

  /** Times in milliseconds. */
  result() {
    const { documents, bytes, all, wrong, complaints, times } = this;
    const at = (percentile) => times.getValueAtPercentile(percentile) / 1000;
    const latency = { p50: at(50), p99: at(99), max: times.maxValue / 1000 };
    return { documents, bytes, all, wrong, complaints, ...latency };
  }
}

/** A fast one: `next()` gives the document to send, undefined at the end. */
class Client {
  #socket;
  #next;
  #tally;
  #onAnswer;
  #document = undefined;
  #began = 0;
  #received = Buffer.alloc(0);

  constructor(socket, next, tally, onAnswer) {
    this.#socket = socket;
    this.#next = next;
    this.#tally = tally;
    this.#onAnswer = onAnswer;
    socket.on('data', (bytes) => this.#answered(bytes));
    socket.on('error', (error) => tally.complain(error.message));
    this.closed = new Promise((resolve) => socket.on('close', resolve));
    void this.closed.then(() => {
      if (this.#document !== undefined) tally.complain('the connection ended without an answer');
    });
  }

  send() {
    this.#document = this.#next();
    if (this.#document === undefined) return this.#socket.end();
    this.#began = performance.now();
    this.#socket.write(this.#document.frame);
  }

  #answered(bytes) {
    const received = this.#received.length > 0 ? Buffer.concat([this.#received, bytes]) : bytes;
    this.#received = received;
    if (received.length < 4 || received.length < 4 + received.readUInt32BE(0)) return;
    const end = 4 + received.readUInt32BE(0);
    this.#received = received.subarray(end);
    const answer = received.toString('utf8', 4, end);
    const document = this.#document;
    if (document === undefined) return this.#tally.complain(`nothing was asked: ${answer}`);
    this.#tally.record(document.bytes, performance.now() - this.#began);
    if (answer !== document.answer) this.#tally.complain(`${answer} instead of ${document.answer}`);
    this.#onAnswer();
    this.send();
  }
}

/** Slow ones: each announces a document, and then sends ten bytes of it each second. */
class SlowClients {
  #sockets;
  #next = 0;
  #timer;
  #ending = false;

  constructor(sockets, bytes, tally) {
    this.#sockets = sockets;
    const header = Buffer.alloc(4);
    header.writeUInt32BE(bytes);
    for (const socket of sockets) {
      socket.on('error', (error) => this.#ending || tally.complain(`slow: ${error.message}`));
      socket.on('close', () => this.#ending || tally.complain('slow: the server hung up'));
      socket.resume();
      socket.write(header);
    }
    this.#timer = setInterval(() => this.#turn(), SLOW_TURN);
    this.#began = performance.now();
  }

  #began;

  /** However late the timer comes: as many as are due. */
  #turn() {
    const due = ((performance.now() - this.#began) / 1000) * this.#sockets.length;
    for (; this.#next < due; this.#next++) {
      this.#sockets[this.#next % this.#sockets.length].write(SLOW_BYTES);
    }
  }

  end() {
    this.#ending = true;
    clearInterval(this.#timer);
    for (const socket of this.#sockets) socket.destroy();
  }
}

function connectOne(where) {
  return new Promise((resolve, reject) => {
    const socket = net.connect({ ...where, noDelay: true }, () => {
      socket.off('error', reject);
      resolve(socket);
    });
    socket.once('error', reject);
  });
}

async function connectAll(where, count) {
  const sockets = [];
  while (sockets.length < count) {
    const wave = Math.min(CONNECTING, count - sockets.length);
    sockets.push(...(await Promise.all(Array.from({ length: wave }, () => connectOne(where)))));
  }
  return sockets;
}

/**
 * Sends documents of `corpus` over `connections` fast connections, beside `slow` slow ones, for
 * `warmUp` and then `seconds` seconds, or until so many `documents` are answered. Resolves when all
 * answers are there. `onWindow` is called when the time that is measured begins, and at its end;
 * `onProgress` now and then.
 */
export async function sendDocuments(work) {
  const { host = '127.0.0.1', port, corpus, connections, slow = 0, documents = Infinity } = work;
  const { warmUp = 0, seconds, onWindow, onProgress } = work;
  const tally = new Tally();
  const where = { host, port };
  const slowOnes = new SlowClients(await connectAll(where, slow), corpus[0].bytes, tally);
  const sockets = await connectAll(where, connections);

  let sent = 0;
  let began = 0;
  let elapsed = 0;
  const begin = () => {
    tally.measuring = true;
    began = performance.now();
    onWindow?.('begins');
  };
  const end = () => {
    if (elapsed > 0) return;
    elapsed = (performance.now() - began) / 1000;
    tally.measuring = false;
    onWindow?.('ends');
  };
  const next = () => {
    if (elapsed > 0 || sent >= documents) return undefined;
    return corpus[sent++ % corpus.length];
  };
  const onAnswer = () => tally.documents >= documents && end();
  const clients = sockets.map((socket) => new Client(socket, next, tally, onAnswer));
  const report = onProgress && setInterval(() => onProgress(tally), 250);
  const timers = [setTimeout(begin, warmUp * 1000)];
  timers.push(setTimeout(end, (warmUp + seconds) * 1000));
  if (warmUp === 0) {
    clearTimeout(timers[0]);
    begin();
  }
  for (const client of clients) client.send();
  await Promise.all(clients.map((client) => client.closed));
  for (const timer of timers) clearTimeout(timer);
  clearInterval(report);
  end();
  slowOnes.end();
  return { ...tally.result(), seconds: elapsed };
}
