/**
 * The clients of `npm start`, in a process of their own and on node:net: each connection sends
 * documents, some at once and some after the last answer, and checks the answers.
 *
 * Told by its parent what to do; tells it how things are going, and the result.
 */
import net from 'node:net';
import hdr from 'hdr-histogram-js';
import { makeCorpus } from './corpus.mjs';

/** One connection in so many sends large documents. */
const LARGE_EVERY = 40;
/** Documents sent without waiting for the answers before, at most. */
const PIPELINED = 4;
const MOST_COMPLAINTS = 5;

class Tally {
  documents = 0;
  bytes = 0;
  /** Microseconds from the first byte sent to the answer. */
  times = hdr.build({ numberOfSignificantValueDigits: 3, highestTrackableValue: 3.6e9 });

  record(document, milliseconds) {
    this.documents++;
    this.bytes += document.bytes;
    this.times.recordValue(Math.max(1, Math.round(milliseconds * 1000)));
  }

  result() {
    const { documents, bytes, times } = this;
    const at = (percentile) => times.getValueAtPercentile(percentile) / 1000;
    return { documents, bytes, p50: at(50), p99: at(99), max: times.maxValue / 1000 };
  }
}

class Load {
  tallies = { small: new Tally(), large: new Tally() };
  wrong = 0;
  sent = 0;
  complaints = [];
  #limit;
  #deadline;

  constructor(limit, seconds) {
    this.#limit = limit;
    this.#deadline = performance.now() + seconds * 1000;
  }

  get done() {
    return this.sent >= this.#limit || performance.now() >= this.#deadline;
  }

  complain(text) {
    this.wrong++;
    if (this.complaints.length < MOST_COMPLAINTS) this.complaints.push(text);
  }

  progress() {
    const { small, large } = this.tallies;
    const documents = small.documents + large.documents;
    return { documents, bytes: small.bytes + large.bytes, wrong: this.wrong };
  }
}

/** One connection: resolves when it is closed. */
class Client {
  #load;
  #corpus;
  #tally;
  #socket;
  /** Documents sent and not answered. */
  #waiting = [];
  #depth;
  #received = Buffer.alloc(0);
  #next;
  #closed;

  constructor(load, corpus, tally, index) {
    this.#load = load;
    this.#corpus = corpus;
    this.#tally = tally;
    this.#next = index;
    this.#depth = tally === load.tallies.large ? 1 : 1 + (index % PIPELINED);
  }

  run(port) {
    this.#socket = net.connect({ host: '127.0.0.1', port, noDelay: true });
    this.#socket.on('connect', () => this.#send());
    this.#socket.on('data', (bytes) => this.#answered(bytes));
    this.#socket.on('error', (error) => this.#load.complain(error.message));
    this.#socket.on('close', () => this.#ended());
    return new Promise((resolve) => (this.#closed = resolve));
  }

  #send() {
    while (this.#waiting.length < this.#depth && !this.#load.done) {
      const document = this.#corpus[this.#next++ % this.#corpus.length];
      this.#load.sent++;
      this.#waiting.push({ document, began: performance.now() });
      this.#socket.write(document.frame);
    }
    if (this.#waiting.length === 0) this.#socket.end();
  }

  #answered(bytes) {
    const received = this.#received.length > 0 ? Buffer.concat([this.#received, bytes]) : bytes;
    let at = 0;
    while (received.length - at >= 4) {
      const end = at + 4 + received.readUInt32BE(at);
      if (received.length < end) break;
      this.#check(received.toString('utf8', at + 4, end));
      at = end;
    }
    this.#received = received.subarray(at);
    this.#send();
  }

  #check(answer) {
    const { document, began } = this.#waiting.shift() ?? {};
    if (document === undefined) return this.#load.complain(`nothing was asked: ${answer}`);
    this.#tally.record(document, performance.now() - began);
    if (answer === document.answer) return;
    this.#load.complain(`${document.name}: ${answer} instead of ${document.answer}`);
  }

  #ended() {
    for (const { document } of this.#waiting) this.#load.complain(`${document.name}: no answer`);
    this.#closed();
  }
}

async function run({ port, connections, seconds, documents }, corpus) {
  const load = new Load(documents ?? Infinity, seconds);
  const report = setInterval(() => process.send({ progress: load.progress() }), 250);
  const began = performance.now();
  const clients = Array.from({ length: connections }, (_, i) => {
    const kind = i % LARGE_EVERY === 0 ? 'large' : 'small';
    const index = kind === 'large' ? i / LARGE_EVERY : i * 7;
    return new Client(load, corpus[kind], load.tallies[kind], index).run(port);
  });
  await Promise.all(clients);
  clearInterval(report);
  const { small, large } = load.tallies;
  const result = { small: small.result(), large: large.result() };
  const { wrong, complaints } = load;
  const elapsed = (performance.now() - began) / 1000;
  process.send({ result: { ...result, wrong, complaints, seconds: elapsed } });
}

const corpus = makeCorpus(process.argv[2]);
process.on('SIGINT', () => undefined); // the parent decides
process.on('disconnect', () => process.exit(1));
process.on('message', (work) => run(work, corpus).then(() => process.disconnect()));
process.send({ ready: { small: corpus.small.length, large: corpus.large.length } });
