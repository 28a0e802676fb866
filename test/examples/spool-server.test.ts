import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { readdirSync, readlinkSync, rmdirSync, statSync } from 'node:fs';
import type net from 'node:net';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  newSeed,
  Random,
  rawClient,
  skipOnWindows,
  skipUnderWine,
  sleep,
  temporaryDirectory,
  until,
  windows,
} from '../support/harness';
import {
  childrenOf,
  describeDrivers,
  NO_SIGNALS,
  outcome,
  runExample,
  smallFileSystem,
  startServer,
  stopped,
  write,
  type Driver,
  type ServerExample,
} from '../support/examples';

const MiB = 2 ** 20;

// ---- what is sent, and the answer that is due

interface Counts {
  readonly lines: number;
  words: number;
}

function wc(contents: Buffer): Counts {
  const environment = { ...process.env, LC_ALL: 'C' };
  const { stdout, status } = spawnSync('wc', ['-lw'], { input: contents, env: environment });
  expect(status).toBe(0);
  const [lines, words] = String(stdout).trim().split(/\s+/).map(Number);
  return { lines: lines!, words: words! };
}

/** Newer versions of wc count bytes that are not printable as words too; Windows has none. */
const wcWantsPrintable = windows || wc(Buffer.from('\x01 \x80', 'latin1')).words === 0;

/** Words are what has a printable character, between white space. */
function count(contents: Buffer): Counts {
  const text = contents.toString('latin1');
  const parts = text.split(/[\t\n\v\f\r ]+/);
  const words = parts.filter((word) => /[!-~]/.test(word)).length;
  return { lines: text.split('\n').length - 1, words };
}

interface Expected {
  readonly bytes: number;
  readonly sha256: string;
  readonly lines: number;
  readonly words: number;
}

function expectedFor(contents: Buffer): Expected {
  const sha256 = createHash('sha256').update(contents).digest('hex');
  const counts = windows ? count(contents) : wc(contents);
  if (!wcWantsPrintable) counts.words = count(contents).words;
  return { bytes: contents.length, sha256, ...counts };
}

function text(random: Random, length: number): Buffer {
  const pieces = ['word', 'x', ' ', '  ', '\n', '\r\n', '\t', '\v\f', 'caf\u00e9', '0-1_2', '"{}"'];
  let line = '';
  for (let i = 0; i < 3000; i++) line += pieces[random.below(pieces.length)]!;
  return Buffer.alloc(length, line);
}

function header(length: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32BE(length);
  return bytes;
}

const frame = (contents: Uint8Array) => Buffer.concat([header(contents.length), contents]);

/** What a server that ends the connection has answered; fails when something is left over. */
function answersIn(bytes: Buffer): unknown[] {
  const answers: unknown[] = [];
  let at = 0;
  while (bytes.length - at >= 4 && bytes.length - at - 4 >= bytes.readUInt32BE(at)) {
    const end = at + 4 + bytes.readUInt32BE(at);
    answers.push(JSON.parse(bytes.toString('utf8', at + 4, end)));
    at = end;
  }
  expect(at, 'bytes of whole frames').toBe(bytes.length);
  return answers;
}

/** A connection on which answers can be waited for. */
class Client {
  #bytes = Buffer.alloc(0);
  #answers = 0;

  private constructor(readonly socket: net.Socket) {
    socket.on('data', (chunk: Buffer) => (this.#bytes = Buffer.concat([this.#bytes, chunk])));
  }

  static async connect(port: number): Promise<Client> {
    return new Client(await rawClient(port));
  }

  send(...documents: Uint8Array[]): this {
    for (const document of documents) this.socket.write(frame(document));
    return this;
  }

  async answer(): Promise<unknown> {
    const complete = () =>
      this.#bytes.length >= 4 && this.#bytes.length - 4 >= this.#bytes.readUInt32BE(0);
    await until(() => complete() || this.socket.readableEnded || this.socket.destroyed);
    if (!complete()) throw new Error(`the connection ended after ${this.#answers} answers`);
    const end = 4 + this.#bytes.readUInt32BE(0);
    const answer: unknown = JSON.parse(this.#bytes.toString('utf8', 4, end));
    this.#bytes = this.#bytes.subarray(end);
    this.#answers++;
    return answer;
  }
}

// ---- what the server has open

/** Sizes of the files without a name that a server has open in a directory. */
function namelessFiles({ child }: ServerExample, directory: string): number[] {
  const sizes: number[] = [];
  for (const pid of [child.pid!, ...childrenOf(child.pid!).keys()]) {
    for (const name of readdirSync(`/proc/${pid}/fd`)) {
      const link = path.join(`/proc/${pid}/fd`, name);
      try {
        if (readlinkSync(link).startsWith(`${directory}/`)) sizes.push(statSync(link).size);
      } catch {
        // closed meanwhile
      }
    }
  }
  return sizes;
}

/** The numbers that a server with --stats prints when it is asked. */
async function statsOf({ child }: ServerExample): Promise<Record<string, unknown>> {
  const said = new Promise((resolve) => child.stdout!.once('data', resolve));
  child.kill('SIGUSR2');
  return JSON.parse(String(await said)) as Record<string, unknown>;
}

function suite(name: string, driver: Driver | 'net', ...always: string[]): void {
  const start = (threads: number, ...args: string[]) =>
    startServer(name, driver, threads, [...always, ...args]);

  describe.each([1, 2])('threads: %i', (threads) => {
    test('answers documents of all sizes, cut anywhere, in order', async () => {
      const seed = newSeed(`${name}, ${driver}, ${threads}`);
      const random = new Random(seed);
      const sizes = [0, 1, 4095, MiB, MiB + 1, 5 * MiB, 1, 0, 100, 65536];
      const documents = sizes.flatMap((size) => [text(random, size), random.bytes(size)]);
      const expected = documents.map(expectedFor);
      const spool = temporaryDirectory();
      const server = await start(threads, '--spool', spool);
      const work = [1, 2, 3].map(async (i) => {
        const mine = new Random(seed + i);
        const order = documents.map((_, index) => index);
        for (let at = order.length - 1; at > 0; at--) {
          const other = mine.below(at + 1);
          [order[at], order[other]] = [order[other]!, order[at]!];
        }
        const socket = await rawClient(server.port);
        socket.setNoDelay();
        const received = outcome(socket);
        const bytes = Buffer.concat(order.map((index) => frame(documents[index]!)));
        for (let at = 0; at < bytes.length;) {
          const most = [5, 5000, 300_000, 300_000][mine.below(4)]!;
          const end = at + 1 + mine.below(most);
          await write(socket, bytes.subarray(at, end));
          if (mine.below(16) === 0) await sleep(1);
          at = end;
        }
        socket.end();
        const { bytes: answer, how } = await received;
        expect(how).toBe('end');
        expect(answersIn(answer)).toEqual(order.map((index) => expected[index]));
      });
      await Promise.all(work);
      expect(readdirSync(spool)).toEqual([]);
      expect(await server.stop()).toMatchObject(stopped);
    });

    test('a document that is too large: an error with the limit, and closed', async () => {
      const server = await start(threads, '--max', '1MiB');
      const error = { error: 'ERR_DOCUMENT_TOO_LARGE', max: MiB };
      const largest = text(new Random(1), MiB);
      // Alone; with the bytes that make it too large; behind documents that are not.
      const sent = [
        [header(MiB + 1)],
        [frame(Buffer.alloc(6 * MiB, 'x'))],
        [frame(largest), frame(Buffer.from('a b\n')), header(0xffffffff), largest],
      ];
      const due = [
        [error],
        [error],
        [expectedFor(largest), expectedFor(Buffer.from('a b\n')), error],
      ];
      for (const [i, frames] of sent.entries()) {
        const socket = await rawClient(server.port);
        const received = outcome(socket);
        for (const bytes of frames) socket.write(bytes);
        const { bytes, how } = await received;
        expect(how).toBe('end');
        expect(answersIn(bytes)).toEqual(due[i]);
        socket.end();
      }
      expect(await server.stop()).toMatchObject(stopped);
    });

    test('a document that stalls: ETIMEDOUT, and closed; an idle connection is not', async () => {
      const server = await start(threads, '--timeout', '300ms', '--spool', temporaryDirectory());
      const words = Buffer.from('some words\n');
      const idle = await Client.connect(server.port);
      const silent = await Client.connect(server.port);
      expect(await idle.send(words).answer()).toEqual(expectedFor(words));
      // In the header, at its end, in a document in memory, and in one in a file; the latter twice,
      // one after the other, so that the idle connection is idle for longer than the time limit.
      const begun = [
        Buffer.from([0, 0]),
        header(10),
        Buffer.concat([header(1000), words]),
        Buffer.concat([frame(words), header(5 * MiB), Buffer.alloc(2 * MiB)]),
      ];
      for (let round = 0; round < 2; round++) {
        const stalled = begun.map(async (bytes) => {
          const socket = await rawClient(server.port);
          const received = outcome(socket);
          socket.write(bytes);
          const { bytes: answer, how } = await received;
          expect(how).toBe('end');
          socket.end();
          return answersIn(answer);
        });
        const error = { error: 'ETIMEDOUT' };
        const answers = [[error], [error], [error], [expectedFor(words), error]];
        expect(await Promise.all(stalled)).toEqual(answers);
      }
      expect(await idle.send(words).answer()).toEqual(expectedFor(words));
      expect(await silent.send(words, words).answer()).toEqual(expectedFor(words));
      expect(await silent.answer()).toEqual(expectedFor(words));
      expect(await server.stop()).toMatchObject(stopped);
    });

    test('a client that goes away in the middle disturbs nobody, and leaves no file', async (context) => {
      skipOnWindows(context, 'what a process has open is not to be seen');
      const spool = temporaryDirectory();
      const server = await start(threads, '--spool', spool);
      const steady = await Client.connect(server.port);
      const words = Buffer.from('still here\n');
      for (const how of ['end', 'reset']) {
        const client = await rawClient(server.port);
        client.write(Buffer.concat([header(5 * MiB), Buffer.alloc(2 * MiB)]));
        await until(() => namelessFiles(server, spool).some((size) => size >= MiB));
        if (how === 'end') {
          client.end();
          expect((await outcome(client)).bytes.length).toBe(0);
        } else client.resetAndDestroy();
        await until(() => namelessFiles(server, spool).length === 0);
        expect(await steady.send(words).answer()).toEqual(expectedFor(words));
      }
      expect(await server.stop()).toMatchObject(stopped);
    });

    test('a large document has no name while it is under way, nor after kill -9', async (context) => {
      skipOnWindows(context, 'what a process has open is not to be seen');
      const spool = temporaryDirectory();
      const server = await start(threads, '--spool', spool);
      const client = await Client.connect(server.port);
      const large = text(new Random(2), 5 * MiB);
      client.socket.write(header(large.length));
      client.socket.write(large.subarray(0, 3 * MiB));
      await until(() => namelessFiles(server, spool).some((size) => size >= 2 * MiB));
      expect(readdirSync(spool)).toEqual([]);
      client.socket.write(large.subarray(3 * MiB));
      expect(await client.answer()).toEqual(expectedFor(large));
      await until(() => namelessFiles(server, spool).length === 0);

      client.socket.write(header(large.length));
      client.socket.write(large.subarray(0, 3 * MiB));
      await until(() => namelessFiles(server, spool).some((size) => size >= 2 * MiB));
      expect(await server.stop('SIGKILL')).toMatchObject({ code: null, signal: 'SIGKILL' });
      expect(readdirSync(spool)).toEqual([]);
    });

    test('a full device: ENOSPC for that document, and the next ones are served', async (context) => {
      const spool = smallFileSystem(context, 2 * MiB);
      const server = await start(threads, '--spool', spool);
      const random = new Random(3);
      const [small, fits, large] = [100, 1_500_000, 5 * MiB].map((size) => text(random, size));
      const client = await Client.connect(server.port);
      client.send(small!, large!, small!, fits!, large!, fits!, small!);
      for (const document of [small, large, small, fits, large, fits, small]) {
        const due = document === large ? { error: 'ENOSPC' } : expectedFor(document!);
        expect(await client.answer()).toEqual(due);
      }
      expect(readdirSync(spool)).toEqual([]);
      expect(await server.stop()).toMatchObject(stopped);
    });

    test('--stats prints numbers at SIGUSR2 and at the end', async (context) => {
      skipOnWindows(context, NO_SIGNALS);
      const server = await start(threads, '--stats', '--spool', temporaryDirectory());
      const client = await Client.connect(server.port);
      await client.send(Buffer.from('one\n'), Buffer.alloc(2 * MiB)).answer();
      await client.answer();
      let lines = 0;
      server.child.stdout!.on('data', () => lines++);
      server.child.kill('SIGUSR2');
      await until(() => lines > 0);
      const { code, stdout } = await server.stop();
      expect(code).toBe(0);
      const numbers = stdout.trim().split('\n').slice(1);
      expect(numbers).toHaveLength(2);
      for (const line of numbers) {
        expect(JSON.parse(line)).toMatchObject({
          ...{ driver, threads, connections: 1, documents: 2, failures: 0, bytes: 4 + 2 * MiB },
          ...{ cpu: { user: expect.any(Number), system: expect.any(Number) } },
          ...{ wakeUps: expect.any(Number), residentBytes: expect.any(Number) },
          ...(driver === 'net' ? {} : { stages: expect.any(Object) }),
        });
      }
    });
  });

  test('a spool directory that does not exist: a message and code 2', async () => {
    const missing = path.join(temporaryDirectory(), 'missing');
    const result = await runExample(name, ['--port', '0', ...always, '--spool', missing]);
    expect(result).toMatchObject({ code: 2, stdout: '' });
    expect(result.stderr).toMatch(new RegExp(`^${name}: --spool has to be a directory\n`));
  });

  test('a spool directory that goes away: an error for long documents only', async () => {
    const spool = temporaryDirectory();
    const server = await start(1, '--spool', spool);
    rmdirSync(spool);
    const client = await Client.connect(server.port);
    client.send(Buffer.alloc(2 * MiB), Buffer.from('a\n'));
    expect(await client.answer()).toEqual({ error: 'ENOENT' });
    expect(await client.answer()).toEqual(expectedFor(Buffer.from('a\n')));
  });

  test('--answer: no more of a document than was asked for', async () => {
    const documents = [Buffer.from('a b\n'), Buffer.alloc(MiB, 'x'), Buffer.alloc(3 * MiB, 'y')];
    const wanted = { hash: ['bytes', 'sha256'], length: ['bytes'] };
    for (const [answer, fields] of Object.entries(wanted)) {
      const server = await start(1, '--answer', answer, '--spool', temporaryDirectory());
      const client = await Client.connect(server.port);
      client.send(...documents);
      for (const document of documents) {
        const due = Object.entries(expectedFor(document)).filter(([name]) => fields.includes(name));
        expect(await client.answer()).toEqual(Object.fromEntries(due));
      }
      expect(await server.stop()).toMatchObject(stopped);
    }
  });
}

describeDrivers('spool-server', (driver) => {
  suite('spool-server', driver);

  test('JavaScript is woken once for a document, however slowly it comes', async (context) => {
    skipOnWindows(context, NO_SIGNALS);
    const server = await startServer('spool-server', driver, 2, ['--stats']);
    const clients = await Promise.all([1, 2, 3].map(() => Client.connect(server.port)));
    const document = text(new Random(4), 200_000);
    for (const { socket } of clients) socket.setNoDelay();
    const pieces = clients.map(async (client) => {
      for (let round = 0; round < 3; round++) {
        const bytes = frame(document);
        for (let at = 0; at < bytes.length; at += 1000) {
          await write(client.socket, bytes.subarray(at, at + 1000));
          if (at % 10_000 === 0) await sleep(1);
        }
        expect(await client.answer()).toEqual(expectedFor(document));
      }
    });
    await Promise.all(pieces);
    expect(await statsOf(server)).toMatchObject({ documents: 9, wakeUps: 9 });
    await server.stop();
  });

  test('--inspect: the stages on a web page', async (context) => {
    skipUnderWine(context, 'fetch cannot connect');
    const server = await startServer('spool-server', driver, 1, ['--inspect', '0']);
    let said = server.ready;
    server.child.stdout!.on('data', (text) => (said += text));
    await until(() => /inspector on .*\n/.test(said));
    const url = /\ninspector on (http:\/\/127\.0\.0\.1:\d+\/)\n$/.exec(said)![1]!;
    const response = await fetch(new URL('stats.json', url));
    expect(Object.keys(((await response.json()) as { stages: object }).stages)).toEqual([
      'spool',
      'work',
    ]);
    expect(await server.stop()).toMatchObject(stopped);
  });
});
describeDrivers('spool-server, spooling in JavaScript', (driver) =>
  suite('spool-server', driver, '--native', 'off'),
);
describe('spool-server-net', () => suite('spool-server-net', 'net'));
