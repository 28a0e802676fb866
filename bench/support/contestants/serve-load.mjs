/** Clients of an http server, each with one request under way; `--fresh`: a connection for each. */
import net from 'node:net';
import { readOptions } from '../options.mjs';
import { report, Stopwatch } from '../stopwatch.mjs';

const { port, connections, fresh, warmUp, seconds } = readOptions();
const request = `GET / HTTP/1.1\r\nHost: x\r\n${fresh ? 'Connection: close\r\n' : ''}\r\n`;

/** Resolves with each answer: a head, and a body of 100 bytes. */
class Client {
  #socket;
  #got = '';
  #answered;

  async #connect() {
    const socket = net.connect({ host: '127.0.0.1', port, noDelay: true });
    this.#socket = socket.setEncoding('latin1');
    socket.on('data', (text) => this.#take(text));
    await new Promise((resolve, reject) => socket.once('connect', resolve).once('error', reject));
  }

  #take(text) {
    this.#got += text;
    const head = this.#got.indexOf('\r\n\r\n');
    if (head < 0 || this.#got.length < head + 104) return;
    if (!this.#got.endsWith('x'.repeat(100))) throw new Error(`not the answer: ${this.#got}`);
    this.#got = '';
    this.#answered();
  }

  async ask() {
    if (fresh || this.#socket === undefined) await this.#connect();
    const answered = new Promise((resolve) => {
      this.#answered = resolve;
    });
    this.#socket.write(request);
    await answered;
    if (fresh) this.#socket.destroy();
  }
}

const stopwatch = new Stopwatch({ warmUp, seconds, every: 1, latencies: true });
let answers = 0;
const work = async () => {
  const client = new Client();
  while (stopwatch.running) {
    const began = performance.now();
    await client.ask();
    stopwatch.record(performance.now() - began);
    answers++;
    stopwatch.count();
  }
};
await Promise.all(Array.from({ length: connections }, work));
report({ ...stopwatch.result, answers });
process.exit(0);
