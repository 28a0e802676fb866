/**
 * Whose bytes are whose: from the call on those an operation uses are its own (rule O2), and what a
 * program is given stays, or is lent by name (rule M5).
 */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import type net from 'node:net';
import { PassThrough, Readable, Writable } from 'node:stream';
import { buffer as consume } from 'node:stream/consumers';
import { pipeline } from 'node:stream/promises';
import { fileURLToPath } from 'node:url';
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import {
  codeOf,
  connectedPair,
  failureNow,
  failureOf,
  keyedWithRawPeer,
  library,
  newPort,
  outputOf,
  pattern,
  rawServer,
  temporaryFile,
  turns,
  until,
  withRawPeer,
  type CompletionPort,
  type KeyedSocket,
} from '../support/harness';

/** What arrives at a raw peer. */
function collect(peer: net.Socket): { bytes(): Buffer } {
  const chunks: Buffer[] = [];
  peer.on('data', (chunk: Buffer) => chunks.push(chunk));
  return { bytes: () => Buffer.concat(chunks) };
}

/** Takes every block of one page that is free, and writes over it. */
function overwriteFree(port: CompletionPort): void {
  const taken = Array.from({ length: 64 }, () => port.allocate(11).fill('!'));
  for (const block of taken) port.release(block);
}

const LETTER = 'for alice..';

/** A block with the letter in it, that is the program's until `release`. */
function letter(port: CompletionPort): Buffer {
  const block = port.allocate(LETTER.length);
  block.write(LETTER);
  return block;
}

// ---- released after the call

test('O2: bytes that are released right after a send are sent all the same', async () => {
  const port = newPort();
  const [alice, bob] = [await withRawPeer(port), await withRawPeer(port)];
  const [atAlice, atBob] = [collect(alice.peer), collect(bob.peer)];
  const m = letter(port);
  const sent = [alice.socket.send(m)];
  port.release(m);
  sent.push(bob.socket.send('bob: s3cr3t'));
  overwriteFree(port);
  await Promise.all(sent);
  await until(() => atAlice.bytes().length === 11 && atBob.bytes().length === 11);
  expect(atAlice.bytes().toString()).toBe(LETTER);
  expect(atBob.bytes().toString()).toBe('bob: s3cr3t');
  expect(port.stats().allocatedBytes).toBe(0);
});

const sends: Record<string, (handle: { send: Send; end: Send }, m: Buffer) => void> = {
  send: (handle, m) => handle.send(m),
  'vectored send': (handle, m) => handle.send([m.subarray(0, 4), m.subarray(4)]),
  end: (handle, m) => handle.end(m),
  'send of more slices than a record holds': (handle, m) =>
    handle.send(Array.from(m, (_, i) => m.subarray(i, i + 1))),
  'copied with other memory': (handle, m) => handle.send([Buffer.alloc(0), m]),
};
type Send = (data: Buffer | readonly Buffer[]) => unknown;

test.each(Object.keys(sends))('O2: released after the call, await style: %s', async (name) => {
  const port = newPort();
  const { socket, peer } = await withRawPeer(port);
  const arrived = collect(peer);
  const m = letter(port);
  sends[name]!(socket as never, m);
  port.release(m);
  overwriteFree(port);
  await until(() => arrived.bytes().length === LETTER.length);
  expect(arrived.bytes().toString()).toBe(LETTER);
  await until(() => port.stats().allocatedBytes === 0);
});

test.each(Object.keys(sends))('O2: released after the call, packets: %s', async (name) => {
  const port = newPort();
  const { socket, peer } = await keyedWithRawPeer(port, 1);
  const failed: unknown[] = [];
  port.consume((packet) => void (packet.failed && failed.push(packet.code)));
  const arrived = collect(peer);
  const m = letter(port);
  sends[name]!(socket as never, m);
  port.release(m);
  overwriteFree(port);
  await until(() => arrived.bytes().length === LETTER.length || failed.length > 0);
  expect(failed).toEqual([]);
  expect(arrived.bytes().toString()).toBe(LETTER);
  await until(() => port.stats().allocatedBytes === 0);
});

test('O2: released after a send that other sends are linked to', async () => {
  const port = newPort();
  const { socket, peer } = await withRawPeer(port);
  const arrived = collect(peer);
  const [a, b] = [letter(port), letter(port)];
  const sent = socket.link(() => {
    const first = socket.send(a);
    port.release(a);
    const second = socket.send(b, { release: true });
    return [first, second];
  });
  overwriteFree(port);
  await Promise.all(sent);
  await until(() => arrived.bytes().length === 2 * LETTER.length);
  expect(arrived.bytes().toString()).toBe(LETTER + LETTER);
  expect(port.stats().allocatedBytes).toBe(0);
});

test('O2: `release: true` releases what is the program’s, once, whatever else is sent with it', async () => {
  const port = newPort();
  const { socket, peer } = await withRawPeer(port);
  const arrived = collect(peer);
  const [a, b] = [letter(port), letter(port)];
  const sent = [
    socket.send([a.subarray(0, 5), a.subarray(5)], { release: true }),
    socket.send(['text, ', b], { release: true }),
  ];
  for (const view of [a, b]) {
    expect(codeOf(failureNow(() => port.release(view)))).toBe('ERR_BUFFER_RELEASED');
  }
  overwriteFree(port);
  await Promise.all(sent);
  await until(() => arrived.bytes().length === 2 * LETTER.length + 6);
  expect(arrived.bytes().toString()).toBe(`${LETTER}text, ${LETTER}`);
  expect(port.stats().allocatedBytes).toBe(0);
});

test('O2: bytes that are released right after a write are written all the same', async () => {
  const port = newPort();
  const name = temporaryFile();
  const file = await port.open(name, 'r+');
  const blocks = Array.from({ length: 4 }, () => letter(port));
  const [a, b, c, d] = blocks as [Buffer, Buffer, Buffer, Buffer];
  const written = [
    file.write(a, 0),
    file.writev([b.subarray(0, 3), b.subarray(3)], 11),
    file.write(c, 22, { sync: true }),
    ...file.link(() => [file.write(d, 33), file.sync()] as const),
  ];
  for (const block of blocks) port.release(block);
  overwriteFree(port);
  await Promise.all(written);
  expect(readFileSync(name, 'utf8')).toBe(LETTER.repeat(4));
  expect(port.stats().allocatedBytes).toBe(0);
});

test('O2: a read into memory that is released right afterwards reaches nobody else', async () => {
  const port = newPort();
  const file = await port.open(temporaryFile(Buffer.alloc(4096, 'f')));
  const into = port.allocate(4096);
  const reading = file.read(into, 0);
  port.release(into);
  const next = port.allocate(4096).fill('n');
  expect(await reading).toBe(4096);
  expect(next.every((byte) => byte === 'n'.charCodeAt(0))).toBe(true);
  port.release(next);
  expect(port.stats().allocatedBytes).toBe(0);
});

test('O2: bytes that are released before their connection is handed to another port', async () => {
  const [port, other] = [newPort(), newPort()];
  const { socket, peer } = await keyedWithRawPeer(port, 1);
  const arrived = collect(peer);
  const m = letter(port);
  socket.send(m);
  port.release(m);
  socket.handOff(other);
  overwriteFree(port);
  await until(() => arrived.bytes().length === LETTER.length);
  expect(arrived.bytes().toString()).toBe(LETTER);
  await until(() => port.stats().allocatedBytes === 0);
});

test('O2: many sends and releases in one turn, more than the submissions that gather', async () => {
  const port = newPort();
  const { socket, peer } = await withRawPeer(port);
  const arrived = collect(peer);
  const count = 2000;
  const sent: PromiseLike<number>[] = [];
  for (let i = 0; i < count; i++) {
    const block = port.allocate(4);
    block.writeUInt32LE(i);
    sent.push(socket.send(block));
    port.release(block);
  }
  await Promise.all(sent);
  await until(() => arrived.bytes().length === 4 * count);
  for (let i = 0; i < count; i++) expect(arrived.bytes().readUInt32LE(4 * i)).toBe(i);
  expect(port.stats().allocatedBytes).toBe(0);
});

// ---- lent, and used without an await

test('O2: bytes of a packet that are sent by its handler go out', async () => {
  const port = newPort({ buffers: { size: 1024, count: 4 } });
  const failed: unknown[] = [];
  port.consume((packet) => {
    if (packet.failed && packet.code !== 'ECANCELED') failed.push(packet.code);
    if (packet.type === 'received' && packet.data) (packet.handle as KeyedSocket).send(packet.data);
  });
  const { socket, peer } = await keyedWithRawPeer(port, 1);
  const arrived = collect(peer);
  const bytes = pattern(100_000);
  socket.receive({ multishot: true });
  peer.write(bytes);
  await until(() => arrived.bytes().length === bytes.length || failed.length > 0);
  expect(failed).toEqual([]);
  expect(arrived.bytes().equals(bytes)).toBe(true);
});

test.each([{ lend: true }, {}])(
  'O2: bytes of a loop that are sent without an await go out: %o',
  async (options) => {
    const port = newPort({ buffers: { size: 1024, count: 8 } });
    const { socket, peer } = await withRawPeer(port);
    const arrived = collect(peer);
    const bytes = pattern(200_000);
    const codes: unknown[] = [];
    const echo = (async () => {
      for await (const chunk of socket.chunks(options)) {
        socket.send(chunk).catch((error: unknown) => codes.push(codeOf(error)));
      }
    })();
    peer.end(bytes);
    await echo;
    await until(() => arrived.bytes().length === bytes.length || codes.length > 0);
    expect(codes).toEqual([]);
    expect(arrived.bytes().equals(bytes)).toBe(true);
  },
);

test.each([{ lend: true }, {}])(
  'O2: chunks of a file that are sent without an await go out: %o',
  async (options) => {
    const port = newPort();
    const bytes = pattern(3_000_000);
    const file = await port.open(temporaryFile(bytes));
    const { client, server } = await connectedPair(port);
    const received: Buffer[] = [];
    const reading = (async () => {
      for await (const chunk of server) received.push(chunk);
    })();
    const sent: PromiseLike<unknown>[] = [];
    for await (const chunk of file.chunks({ size: 10_000, ...options }))
      sent.push(client.send(chunk));
    sent.push(client.end());
    await Promise.all(sent);
    await reading;
    expect(Buffer.concat(received).equals(bytes)).toBe(true);
    await until(() => port.stats().allocatedBytes === 0);
  },
);

test('O2: chunks that are written to another file without an await', async () => {
  const port = newPort();
  const bytes = pattern(2_000_000);
  const from = await port.open(temporaryFile(bytes));
  const name = temporaryFile();
  const to = await port.open(name, 'r+');
  const written: PromiseLike<unknown>[] = [];
  for await (const chunk of from.chunks({ lend: true })) written.push(to.write(chunk));
  await Promise.all(written);
  expect(readFileSync(name).equals(bytes)).toBe(true);
  expect(port.stats().allocatedBytes).toBe(0);
});

test('O2: a thread that takes packets with `get` sends their bytes', async () => {
  const port = newPort({ concurrency: 2, buffers: { size: 1024, count: 8 } });
  const { socket, peer } = await keyedWithRawPeer(port, 1);
  const arrived = collect(peer);
  const echo = new Worker(
    `const { CompletionPort } = require(${JSON.stringify(fileURLToPath(library))});
    const port = CompletionPort.attach(require('node:worker_threads').workerData);
    for (;;) for (const packet of port.get()) {
      if (packet.type === 'posted') process.exit();
      if (packet.type !== 'received' || !packet.data) continue;
      packet.handle.send(packet.data.subarray(0, packet.bytes >> 1), { quiet: true });
      const kept = packet.keep();
      packet.handle.send(kept.subarray(packet.bytes >> 1), { quiet: true });
      port.release(kept);
    }`,
    { eval: true, workerData: port.token },
  );
  const bytes = pattern(300_000);
  socket.receive({ multishot: true });
  peer.write(bytes);
  await until(() => arrived.bytes().length === bytes.length);
  expect(arrived.bytes().equals(bytes)).toBe(true);
  port.post(2);
  await once(echo, 'exit');
});

// ---- bytes stay

test('M5: chunks of a socket that are pushed into an array hold what was received', async () => {
  const port = newPort({ buffers: { size: 1024, count: 4 } });
  const bytes = pattern(100_000);
  const server = await rawServer((socket) => socket.end(bytes));
  const socket = await port.connect({ host: '127.0.0.1', port: server.port });
  const chunks: Buffer[] = [];
  for await (const chunk of socket) chunks.push(chunk);
  expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
});

test('M5: chunks of a file: array, stream/consumers, stream.pipeline, Readable.from', async () => {
  const port = newPort();
  const bytes = pattern(1_000_000);
  const file = await port.open(temporaryFile(bytes));
  const chunks: Buffer[] = [];
  for await (const chunk of file.chunks({ size: 4096 })) chunks.push(chunk);
  expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
  expect((await consume(file.chunks({ size: 4096 }))).equals(bytes)).toBe(true);
  const piped: Buffer[] = [];
  const slow = new Writable({
    write(chunk: Buffer, _encoding, done) {
      setImmediate(() => (piped.push(chunk), done()));
    },
  });
  await pipeline(file.chunks({ size: 4096 }), slow);
  expect(Buffer.concat(piped).equals(bytes)).toBe(true);
  const passed = Readable.from(file.chunks({ size: 4096 })).pipe(new PassThrough());
  expect((await consume(passed)).equals(bytes)).toBe(true);
  expect(port.stats().allocatedBytes).toBe(0);
});

test('M5: they stay beyond the end of the port', async () => {
  const port = newPort();
  const bytes = pattern(300_000);
  const file = await port.open(temporaryFile(bytes));
  const chunks: Buffer[] = [];
  for await (const chunk of file.chunks()) chunks.push(chunk);
  await port.close();
  expect(Buffer.concat(chunks).equals(bytes)).toBe(true);
});

// ---- clones

/** What whoever is given a clone of `view`, or its ArrayBuffer, can see besides the view. */
function beyond(view: Buffer): Buffer {
  const clone = structuredClone(view);
  const all = Buffer.from(clone.buffer);
  const own = Buffer.from(view.buffer);
  expect(own.equals(all)).toBe(true);
  const end = view.byteOffset + view.length;
  return Buffer.concat([all.subarray(0, view.byteOffset), all.subarray(end)]);
}

test('M5: a clone of a view shows no bytes of another connection', async () => {
  const port = newPort({ buffers: { size: 4096, count: 2 } });
  const secret = Buffer.alloc(4096, 's3cr3t');
  const [alice, bob] = [await keyedWithRawPeer(port, 1), await keyedWithRawPeer(port, 2)];
  const seen: Buffer[] = [];
  let kept: Buffer | undefined;
  let count = 0;
  port.consume((packet) => {
    if (packet.type !== 'received' || !packet.data) return;
    count += packet.bytes;
    if (packet.key !== 2) return;
    seen.push(beyond(packet.data));
    if (count > 0 && kept === undefined) seen.push(beyond((kept = packet.keep())));
  });
  // Each buffer has held the secret once.
  alice.socket.receive({ multishot: true });
  for (let i = 1; i <= 8; i++) {
    alice.peer.write(secret);
    await until(() => count === 4096 * i);
  }
  bob.socket.receive({ multishot: true });
  for (let i = 1; i <= 4; i++) {
    bob.peer.write('hello');
    await until(() => count === 4096 * 8 + 5 * i);
  }
  expect(seen.length).toBe(5);
  for (const bytes of seen) expect(bytes.every((byte) => byte === 0)).toBe(true);
  port.release(kept!);

  // Blocks for programs that have held it, too.
  const blocks = Array.from({ length: 8 }, () => port.allocate(65536).fill('s3cr3t'));
  for (const block of blocks) port.release(block);
  const small = port.allocate(33_000);
  expect(beyond(small)).toHaveLength(0);
  port.release(small);
  const file = await port.open(temporaryFile('short'));
  for (const options of [{}, { lend: true }]) {
    for await (const chunk of file.chunks(options)) {
      expect(chunk.toString()).toBe('short');
      expect(beyond(chunk).every((byte) => byte === 0)).toBe(true);
    }
  }
  expect(beyond(await file.read({ length: 5, position: 0 }))).toHaveLength(0);
  const { socket, peer } = await withRawPeer(port);
  peer.write('a');
  expect(beyond(await socket.receive())).toHaveLength(0);
});

/** Node.js ignores it in a list of what to transfer, or throws. */
function tryToTransfer(view: Buffer): void {
  try {
    structuredClone(view, { transfer: [view.buffer as ArrayBuffer] });
  } catch {
    // so it is still here
  }
}

test('M5: memory of the port can’t be transferred', async () => {
  const port = newPort();
  const block = port.allocate(100).fill(7);
  tryToTransfer(block);
  expect(block.every((byte) => byte === 7) && block.length === 100).toBe(true);
  port.release(block);
  const { socket, peer } = await keyedWithRawPeer(port, 1);
  const seen: string[] = [];
  port.consume(({ data }) => {
    if (!data) return;
    tryToTransfer(data);
    seen.push(data.toString());
  });
  socket.receive();
  peer.write('still here');
  await until(() => seen.length === 1);
  expect(seen).toEqual(['still here']);
});

// ---- a program's own memory that it has given away

/** A view of a program's own memory, which goes to somebody else with `give`. */
interface GivenAway {
  readonly view: ArrayBufferView;
  give(): void;
}

function typedArray(): GivenAway {
  const view = new Uint8Array(100).fill(1);
  return { view, give: () => void structuredClone(view, { transfer: [view.buffer] }) };
}

function dataView(): GivenAway {
  const view = new DataView(new ArrayBuffer(100));
  const { buffer } = view;
  return { view, give: () => void structuredClone(view, { transfer: [buffer] }) };
}

/** It has no place any more in memory that has become smaller. */
function cutOff(): GivenAway {
  const memory = new (
    ArrayBuffer as unknown as new (
      bytes: number,
      options: { maxByteLength: number },
    ) => ArrayBuffer & { resize(bytes: number): void }
  )(200, { maxByteLength: 200 });
  return { view: new Uint8Array(memory, 100, 100), give: () => memory.resize(50) };
}

const givenAway = [typedArray, dataView, cutOff];

test('O3: a Buffer whose memory was transferred is refused by whatever it is given to', async () => {
  const port = newPort();
  const { socket } = await withRawPeer(port);
  const keyed = await keyedWithRawPeer(port, 1);
  const file = await port.open(temporaryFile('contents'), 'r+');
  const keyedFile = await port.open(temporaryFile('contents'), 'r+', { key: 2 });
  const own = port.allocate(100);
  const uses = (view: ArrayBufferView): (() => unknown)[] => [
    ...[socket, keyed.socket].flatMap((handle) => [
      () => handle.send(view),
      () => handle.send(['text', view]),
      () => handle.send([own, view]),
      () => handle.end(view),
    ]),
    () => socket.receive(view),
    ...[file, keyedFile as never as typeof file].flatMap((handle) => [
      () => handle.read(view, 0),
      () => handle.readv([own, view], 0),
      () => handle.write(view, 0),
      () => handle.write(view, 0, { sync: true }),
      () => handle.writev([own, view], 0),
    ]),
    () => port.release(view),
    () => port.lease(view as Buffer),
  ];
  for (const make of givenAway) {
    const { view, give } = make();
    give();
    for (const use of uses(view)) {
      const call = `${make.name}: ${use.toString()}`;
      expect([call, codeOf(failureNow(use))]).toEqual([call, 'ERR_INVALID_ARG_VALUE']);
    }
    expect(codeOf(await failureOf(() => file.writeFile(view)))).toBe('ERR_INVALID_ARG_VALUE');
  }
  // What is empty has nothing to lose.
  expect(await socket.send(new Uint8Array(0))).toBe(0);
  expect(await socket.send(new DataView(new ArrayBuffer(0)))).toBe(0);
});

test('O3: also while sends wait for their turn', async () => {
  const port = newPort();
  const { socket } = await withRawPeer(port);
  socket.highWaterMark = 1;
  void socket.send(Buffer.alloc(1 << 24)).catch(() => undefined);
  const { view, give } = typedArray();
  give();
  expect(codeOf(failureNow(() => socket.send(view)))).toBe('ERR_INVALID_ARG_VALUE');
  expect(codeOf(failureNow(() => socket.end(view)))).toBe('ERR_INVALID_ARG_VALUE');
});

test('what is read into memory that was transferred meanwhile fails: the bytes are nowhere', async () => {
  const port = newPort();
  const { socket, peer } = await withRawPeer(port);
  const file = await port.open(temporaryFile('contents'));
  for (const make of givenAway) {
    const [one, two] = [make(), make()];
    const read = failureOf(() => file.read(one.view, 0));
    const received = failureOf(() => socket.receive(two.view));
    one.give();
    two.give();
    peer.write('x');
    expect(codeOf(await read)).toBe('ERR_INVALID_STATE');
    expect(codeOf(await received)).toBe('ERR_INVALID_STATE');
  }
});

// ---- checked

test('COMPLETION_PORT_CHECK=memory: what was lent is overwritten and revoked', async () => {
  const file = temporaryFile(pattern(20_000));
  const output = await outputOf(
    `
    const port = new CompletionPort();
    const file = await port.open(${JSON.stringify(file)});
    let last, late = 0, right = 0;
    for await (const chunk of file.chunks({ size: 4096, lend: true })) {
      if (last?.length === 0) late++;
      if (chunk.readUInt32LE(0) % 4096 === 0) right++;
      last = chunk;
    }
    const listener = await port.listen({ host: '127.0.0.1', port: 0 });
    const client = await port.connect({ host: '127.0.0.1', port: listener.address().port, key: 1 });
    const server = await listener.accept();
    const views = [];
    const service = port.consume((packet) => {
      if (packet.type !== 'received' || !packet.data) return;
      views.push([packet.data, packet.data.toString()]);
      client.send(packet.data);
    });
    client.receive();
    await server.send('hello');
    console.log(late, right, (await server.receive()).toString(), views[0][1], views[0][0].length);
    service.stop();
    await port.close();
    `,
    { env: { COMPLETION_PORT_CHECK: 'memory' } },
  );
  expect(output).toBe('4 5 hello hello 0');
});

// ---- faults near by

test('O5: a file that is closed under a loop over its chunks ends the loop, and itself', async () => {
  for (const options of [{}, { lend: true }]) {
    const port = newPort();
    const file = await port.open(temporaryFile(pattern(1_000_000)));
    const chunks = file.chunks({ size: 4096, depth: 8, ...options });
    expect((await chunks.next()).value).toHaveLength(4096);
    const next = chunks.next();
    const closing = file.close();
    const rest = (async () => {
      if ((await next).done) return;
      for await (const chunk of chunks) expect(chunk.length).toBeGreaterThan(0);
    })();
    const code = await rest.then(
      () => 'ended',
      (error: unknown) => codeOf(error),
    );
    expect(['ended', 'ECANCELED', 'ERR_HANDLE_CLOSED']).toContain(code);
    await closing;
    await turns();
    expect(port.stats().allocatedBytes).toBe(0);
  }
});

test('O3: a wrong tag or quiet throws, and no memory is lost', async () => {
  const port = newPort();
  const { socket } = await keyedWithRawPeer(port, 1);
  const file = await port.open(temporaryFile(), 'r+', { key: 2 });
  for (const options of [{ tag: -1 }, { quiet: 1 }] as object[]) {
    for (const call of [
      () => socket.send('text', options),
      () => socket.end('text', options),
      () => file.write('text', 0, options),
      () => file.write('text', 0, { sync: true, ...options }),
      () => file.writev(['text', 'more'], 0, options),
    ]) {
      expect(codeOf(failureNow(call))).toMatch(/^ERR_(INVALID_ARG_TYPE|OUT_OF_RANGE)$/);
    }
  }
  expect(port.stats().allocatedBytes).toBe(0);
});

test('O9: a chain does not go on behind a member that was refused', async () => {
  const port = newPort({ memoryLimit: 1 << 20 });
  const name = temporaryFile('old contents');
  const file = await port.open(name, 'r+');
  const refusals = [
    () => file.write('new', 0, { signal: AbortSignal.abort() }),
    () => file.sync({ signal: AbortSignal.abort() }),
    () => file.write(Buffer.alloc(1 << 21), 0),
    () => file.read(Buffer.alloc(1 << 21), 0),
    () => file.write('new', 0, { sync: true, signal: AbortSignal.abort() }),
  ];
  for (const refused of refusals) {
    const answers = await Promise.allSettled(
      file.link(() => [
        file.sync(),
        refused(),
        file.write('x', 0, { sync: true }),
        file.truncate(0),
      ]),
    );
    const codes = answers.map((answer) =>
      answer.status === 'fulfilled' ? 'done' : codeOf(answer.reason),
    );
    expect(codes).toEqual([
      'done',
      expect.stringMatching(/ABORT_ERR|ERR_MEMORY_LIMIT/),
      'ECANCELED',
      'ECANCELED',
    ]);
    expect(readFileSync(name, 'utf8')).toBe('old contents');
  }
  expect(port.stats().allocatedBytes).toBe(0);
  await file.write('new contents', 0);
  expect(readFileSync(name, 'utf8')).toBe('new contents');
});

test('O9: a chain that is too long, or whose description throws, does not run at all', async () => {
  const port = newPort();
  const name = temporaryFile('old contents');
  const file = await port.open(name, 'r+');
  const keyed = await port.open(name, 'r+', { key: 1 });
  const { socket } = await keyedWithRawPeer(port, 2);
  const told: unknown[] = [];
  port.consume((packet) => void told.push(packet.type));
  const operations: PromiseLike<unknown>[] = [];
  const tooLong = (): unknown => {
    for (let i = 0; i < 513; i++) operations.push(file.write('x', i));
    return undefined;
  };
  expect(codeOf(failureNow(() => file.link(tooLong)))).toBe('ERR_OUT_OF_RANGE');
  expect(operations).toHaveLength(512);
  const codes = await Promise.all(operations.map((operation) => failureOf(() => operation)));
  expect(new Set(codes.map(codeOf))).toEqual(new Set(['ECANCELED']));
  expect(() =>
    keyed.link(() => {
      for (let i = 0; i < 513; i++) keyed.write('x', i);
    }),
  ).toThrow(RangeError);
  expect(() =>
    socket.link(() => {
      socket.send(['x', 'y']);
      socket.send(null as never);
    }),
  ).toThrow(TypeError);
  expect(() =>
    file.link(() => {
      void file.read(Buffer.alloc(5), 0);
      void file.write(['lost', 'and', 'gone'], 0, { sync: true });
      throw new Error('changed my mind');
    }),
  ).toThrow('changed my mind');
  await file.sync();
  await turns();
  expect(told).toEqual([]);
  expect(readFileSync(name, 'utf8')).toBe('old contents');
  expect(port.stats().allocatedBytes).toBe(0);
});

test('O2: what a program says of the length of its bytes takes no other memory', async () => {
  const port = newPort();
  const { client, server } = await connectedPair(port);
  const reading = (async () => {
    for await (const bytes of server) expect(bytes.length).toBeGreaterThan(0);
  })();
  // Blocks beside those that copies are made in.
  const own = Array.from({ length: 64 }, () => port.allocate(4096).fill(0x11));
  const liar = Buffer.alloc(8192, 0xee);
  for (const name of ['length', 'byteLength']) Object.defineProperty(liar, name, { value: 1 });
  for (let i = 0; i < 20; i++) {
    await client.send(liar).catch(() => undefined);
    await client.send([liar, 'x']).catch(() => undefined);
  }
  for (const block of own) expect(block.every((byte) => byte === 0x11)).toBe(true);
  await client.close();
  await reading;
});
