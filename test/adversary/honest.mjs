/**
 * Honest clients: each sends a message, waits for it to come back, looks at every byte, and now and
 * then leaves and comes again:
 *
 *     node test/adversary/honest.mjs PORT FRAMED
 *
 * The parent says how many, how often and how long; the answer is how long each exchange took, and
 * what went wrong.
 */
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';

const port = Number(process.argv[2]);
const framed = process.argv[3] === 'true';
/** Milliseconds after which a client takes itself for refused. */
const PATIENCE = 30_000;
const EXCHANGES_PER_CONNECTION = 25;
const LARGE = 65_536;
const SMALL = 1000;
const HEAD = 4;

/** The byte at `position` of what `owner` says. */
const stamp = (owner, position) =>
  (Math.imul(owner, 0x9e3779b1) + Math.imul(position, 0x85ebca6b)) >>> 24;

function message(owner, turn) {
  const length = turn % 200 === 199 ? LARGE : 1 + ((turn * 7919 + owner) % SMALL);
  const head = framed ? HEAD : 0;
  const bytes = Buffer.alloc(head + length);
  if (framed) bytes.writeUInt32BE(length);
  for (let i = 0; i < length; i++) bytes[head + i] = stamp(owner * 65537 + turn, i);
  return bytes;
}

class Client {
  constructor(owner) {
    this.owner = owner;
    this.times = [];
    this.turn = 0;
  }

  async connect() {
    const socket = net.connect({ port, host: '127.0.0.1', noDelay: true });
    this.socket = socket;
    socket.on('data', (bytes) => this.take(bytes));
    socket.on('error', (error) => this.fail?.(new Error(error.code)));
    socket.on('end', () => this.fail?.(new Error('ended')));
    socket.on('close', () => this.fail?.(new Error('closed')));
    await this.orFail(once(socket, 'connect'));
  }

  async orFail(promise) {
    const failure = new Promise((_, reject) => (this.fail = reject));
    failure.catch(() => undefined);
    try {
      return await Promise.race([promise, failure]);
    } finally {
      this.fail = undefined;
    }
  }

  take(bytes) {
    const end = this.at + bytes.length;
    const wrong =
      this.expected === undefined ||
      end > this.expected.length ||
      bytes.compare(this.expected, this.at, end) !== 0;
    this.at = end;
    if (wrong) {
      this.foreign = true;
      return void this.fail?.(new Error('foreign bytes'));
    }
    if (end === this.expected.length) this.done?.();
  }

  async exchange() {
    if (this.turn % EXCHANGES_PER_CONNECTION === this.owner % EXCHANGES_PER_CONNECTION) {
      this.leave();
    }
    const timer = setTimeout(() => this.fail?.(new Error('no answer')), PATIENCE);
    try {
      if (this.socket === undefined) await this.connect();
      this.expected = message(this.owner, this.turn);
      this.at = 0;
      const whole = new Promise((resolve) => (this.done = resolve));
      this.socket.write(this.expected);
      await this.orFail(whole);
    } finally {
      clearTimeout(timer);
      this.expected = undefined;
      this.turn++;
    }
  }

  leave() {
    this.socket?.removeAllListeners('end').removeAllListeners('close').end();
    this.socket = undefined;
  }

  /** One exchange every `interval` milliseconds. One that begins late began when it was due. */
  async live({ interval, seconds, exchanges }) {
    const end = performance.now() + seconds * 1000;
    let due = performance.now() + (this.owner % 16) * (interval / 16);
    for (let i = 0; i < exchanges || performance.now() < end; i++, due += interval) {
      const late = performance.now() > due;
      if (!late) await sleep(Math.ceil(due - performance.now()));
      const from = late ? due : performance.now();
      try {
        await this.exchange();
        this.times.push(performance.now() - from);
      } catch (error) {
        this.refusals.push(`client ${this.owner}, exchange ${this.turn}: ${error.message}`);
        this.socket?.destroy();
        this.socket = undefined;
        // Behind what it waited for: one refusal is not to become hundreds of late exchanges.
        due = performance.now();
      }
    }
    this.leave();
  }
}

let owners = 0;

process.on('message', async ({ clients, ...load }) => {
  const refusals = [];
  const all = Array.from({ length: clients }, () => {
    const client = new Client(++owners);
    client.refusals = refusals;
    return client;
  });
  await Promise.all(all.map((client) => client.live(load)));
  const times = all.flatMap((client) => client.times).sort((a, b) => a - b);
  const foreign = all.filter((client) => client.foreign).length;
  process.send({ times, refusals, foreign });
});
process.on('disconnect', () => process.exit());
process.send('ready');
