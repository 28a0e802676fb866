/**
 * Clients of the spool servers, on node:net: fast ones, each of which sends a document, waits for
 * the answer, checks it, and is free for the next; and slow ones beside them, which need a day for
 * one.
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
/** So often documents that are due are sent, in milliseconds. */
const TURN = 1;

class Tally {
  /** Answers within the time that is measured, and in all. */
  documents = 0;
  bytes = 0;
  all = 0;
  wrong = 0;
  complaints = [];
  measuring = false;
  /** Microseconds from when a document was due, or sent where none is, to the answer. */
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

/** A fast one. `onFree` is told of each answer, and when the connection is gone. */
class Client {
  #socket;
  #onFree;
  #tally;
  #document = undefined;
  #due = 0;
  #received = Buffer.alloc(0);
  gone = false;

  constructor(socket, onFree) {
    this.#socket = socket;
    this.#onFree = onFree;
    socket.on('data', (bytes) => this.#answered(bytes));
    socket.on('error', (error) => this.#lost(error.message));
    socket.on('close', () => this.#lost('the connection ended without an answer'));
  }

  /** Sends a document that was due at that time, for a run's tally. */
  send(document, due, tally) {
    this.#document = document;
    this.#due = due;
    this.#tally = tally;
    this.#socket.write(document.frame);
  }

  end() {
    this.gone = true;
    this.#socket.end();
  }

  #lost(why) {
    if (this.gone) return;
    this.gone = true;
    if (this.#document === undefined) return;
    this.#tally.complain(why);
    this.#onFree(this);
  }

  #answered(bytes) {
    const received = this.#received.length > 0 ? Buffer.concat([this.#received, bytes]) : bytes;
    this.#received = received;
    if (received.length < 4 || received.length < 4 + received.readUInt32BE(0)) return;
    const end = 4 + received.readUInt32BE(0);
    this.#received = received.subarray(end);
    const answer = received.toString('utf8', 4, end);
    const document = this.#document;
    const tally = this.#tally;
    if (document === undefined) return tally?.complain(`nothing was asked: ${answer}`);
    this.#document = undefined;
    tally.record(document.bytes, performance.now() - this.#due);
    if (answer !== document.answer) tally.complain(`${answer} instead of ${document.answer}`);
    this.#onFree(this);
  }
}

/** Slow ones: each announces a document, and then sends ten bytes of it each second. */
class SlowClients {
  #sockets;
  #next = 0;
  #timer;
  #began = 0;
  #ending = false;
  /** What went wrong with them. */
  complaints = [];

  constructor(sockets, bytes) {
    this.#sockets = sockets;
    const header = Buffer.alloc(4);
    header.writeUInt32BE(bytes);
    const complain = (text) => this.#ending || this.complaints.push(`slow: ${text}`);
    for (const socket of sockets) {
      socket.on('error', (error) => complain(error.message));
      socket.on('close', () => complain('the server hung up'));
      socket.resume();
      socket.write(header);
    }
  }

  start() {
    this.#next = 0;
    this.#began = performance.now();
    this.#timer = setInterval(() => this.#turn(), SLOW_TURN);
  }

  stop() {
    clearInterval(this.#timer);
  }

  /** However late the timer comes: as many as are due. */
  #turn() {
    const due = ((performance.now() - this.#began) / 1000) * this.#sockets.length;
    for (; this.#next < due; this.#next++) {
      this.#sockets[this.#next % this.#sockets.length].write(SLOW_BYTES);
    }
  }

  end() {
    this.#ending = true;
    this.stop();
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

/** As much as the server takes: so many connections at a time have a document under way. */
class AtMost {
  #idle;
  #number;

  constructor(number) {
    this.#number = number;
  }

  start(clients, send) {
    this.send = send;
    this.#idle = clients.slice(this.#number);
    for (const client of clients.slice(0, this.#number)) send(client);
  }

  /** Whoever has been free for longest is next: all connections are used. */
  free(client) {
    this.#idle.push(client);
    this.send(this.#idle.shift());
  }

  stop() {}
}

/**
 * Sends at a rate, whatever the server does: a document that is due and finds no connection free
 * waits, and its time counts from when it was due.
 */
class AtRate {
  #rate;
  #idle = [];
  #due = [];
  #timer;

  constructor(rate) {
    this.#rate = rate;
  }

  start(clients, send) {
    this.#idle = [...clients];
    this.send = send;
    const began = performance.now();
    let count = 0;
    this.#timer = setInterval(() => {
      const now = performance.now();
      for (; began + (count * 1000) / this.#rate <= now; count++) {
        this.#due.push(began + (count * 1000) / this.#rate);
      }
      this.#sendDue();
    }, TURN);
  }

  free(client) {
    this.#idle.push(client);
    this.#sendDue();
  }

  #sendDue() {
    while (this.#due.length > 0 && this.#idle.length > 0) {
      const client = this.#idle.shift();
      if (!client.gone) this.send(client, this.#due.shift());
    }
  }

  stop() {
    clearInterval(this.#timer);
    this.#due = [];
  }
}

/** All clients of one server. */
export class Fleet {
  #corpus;
  #clients;
  #slow;
  #run;

  constructor(corpus, sockets, slow) {
    this.#corpus = corpus;
    this.#clients = sockets.map((socket) => new Client(socket, (client) => this.#onFree(client)));
    this.#slow = new SlowClients(slow, corpus[0].bytes);
  }

  /** `connections` fast ones and `slow` slow ones. */
  static async connect({ host = '127.0.0.1', port, corpus, connections, slow = 0 }) {
    const where = { host, port };
    const slowOnes = await connectAll(where, slow);
    return new Fleet(corpus, await connectAll(where, connections), slowOnes);
  }

  /**
   * Sends documents: `rate` of them each second, or without it as many as are answered, with
   * `underWay` connections at a time (all); beside the slow ones, unless `calm`; for `warmUp` and
   * then `seconds` seconds, longer where none is answered in them, or until so many `documents` are
   * answered. Resolves when all answers are there. `onWindow` is called when the time that is
   * measured begins, and at its end; `onProgress` now and then.
   */
  async run(work) {
    const { rate, underWay = Infinity, calm = false, documents = Infinity } = work;
    const { warmUp = 0, seconds } = work;
    const { onWindow, onProgress } = work;
    const tally = new Tally();
    const pace = rate === undefined ? new AtMost(underWay) : new AtRate(rate);
    const run = { tally, pace, documents, sent: 0, answered: 0, began: 0, elapsed: 0, late: false };
    const over = new Promise((resolve) => (run.over = resolve));
    this.#run = run;
    run.begin = () => {
      tally.measuring = true;
      run.began = performance.now();
      onWindow?.('begins');
      timers.push(setTimeout(run.timeUp, seconds * 1000));
    };
    run.timeUp = () => {
      run.late = true;
      if (tally.documents > 0) run.end();
    };
    run.end = () => {
      if (run.elapsed > 0) return;
      run.elapsed = (performance.now() - run.began) / 1000;
      tally.measuring = false;
      pace.stop();
      onWindow?.('ends');
      if (run.answered === run.sent) run.over();
    };
    const report = onProgress && setInterval(() => onProgress(tally), 250);
    const timers = [];
    if (warmUp === 0) run.begin();
    else timers.push(setTimeout(run.begin, warmUp * 1000));
    if (!calm) this.#slow.start();
    const living = this.#clients.filter((client) => !client.gone);
    pace.start(living, (client, due) => this.#send(client, due));
    if (living.length === 0) run.end();
    await over;
    this.#slow.stop();
    for (const timer of timers) clearTimeout(timer);
    clearInterval(report);
    for (const complaint of this.#slow.complaints.splice(0)) tally.complain(complaint);
    return { ...tally.result(), seconds: run.elapsed };
  }

  #send(client, due = performance.now()) {
    const run = this.#run;
    if (client.gone || run.elapsed > 0 || run.sent >= run.documents) return;
    client.send(this.#corpus[run.sent++ % this.#corpus.length], due, run.tally);
  }

  #onFree(client) {
    const run = this.#run;
    run.answered++;
    const last = run.answered >= run.documents || this.#clients.every(({ gone }) => gone);
    if (last || (run.late && run.tally.documents > 0)) run.end();
    if (run.elapsed === 0) run.pace.free(client);
    else if (run.answered === run.sent) run.over();
  }

  end() {
    this.#slow.end();
    for (const client of this.#clients) client.end();
  }
}
