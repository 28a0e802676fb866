import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { inspect } from 'node:util';
import { expect, test } from 'vitest';
import {
  Collector,
  CompletionPort,
  failureOf,
  keyedWithRawPeer,
  newPort,
  outputOf,
  root,
  skipUnderWine,
  take,
  temporaryDirectory,
  temporaryFile,
  turns,
  until,
  type Packet,
  type ReceivedPacket,
} from './support/harness';

test('require and import give the same classes', async () => {
  const required = createRequire(import.meta.url)(
    '../dist/index.js',
  ) as typeof import('../dist/index.js');
  expect(required.CompletionPort).toBe(CompletionPort);
  const output = await outputOf(`
    import { createRequire } from 'node:module';
    const imported = await import('completion-port');
    const required = createRequire(import.meta.url)('completion-port');
    console.log(imported.CompletionPort === required.CompletionPort);`);
  expect(output).toBe('true');
});

const released = expect.objectContaining({ code: 'ERR_PACKET_RELEASED' });

/** Each way to ask a packet for something. */
const readers: Record<string, (packet: ReceivedPacket) => unknown> = {
  type: (packet) => packet.type,
  key: (packet) => packet.key,
  handle: (packet) => packet.handle,
  bytes: (packet) => packet.bytes,
  value: (packet) => packet.value,
  failed: (packet) => packet.failed,
  code: (packet) => packet.code,
  error: (packet) => packet.error,
  tag: (packet) => packet.tag,
  more: (packet) => packet.more,
  accepted: (packet) => packet.accepted,
  data: (packet) => packet.data,
  keep: (packet) => packet.keep(),
  release: (packet) => packet.release(),
  toObject: (packet) => packet.toObject(),
};

test('value is that of numbers and timers: what has none says so, and not how long it is', async () => {
  const port = newPort();
  const file = await port.open(import.meta.filename, 'r', { key: 3 });
  port.timer({ key: 4 }).start(1);
  port.post(1, 7);
  port.post(2, 'text');
  file.read(port.allocate(64), 0);
  file.close();
  const seen: Record<string, unknown> = {};
  while (Object.keys(seen).length < 5) {
    for (const packet of port.get(64, 5000)) {
      expect(packet.toObject().value).toBe(packet.value);
      seen[packet.type] = packet.value;
    }
  }
  expect(seen).toEqual({
    posted: 7,
    message: undefined,
    fired: 1,
    read: undefined,
    closed: undefined,
  });
});

test('a packet is at hand until the next; toObject() stays', async () => {
  const port = newPort();
  for (let i = 0; i < 3; i++) port.post(i, i * 10);
  const copies = [];
  for (const packet of port.get(3)) copies.push(packet.toObject());
  expect(copies.map(({ key, value }) => [key, value])).toEqual([
    [0, 0],
    [1, 10],
    [2, 20],
  ]);
});

test.each(Object.keys(readers))('%s of a packet that is no longer at hand throws', (name) => {
  const port = newPort();
  for (let i = 0; i < 3; i++) port.post(i, i * 10);
  const packets = [...port.get(3)];
  expect(packets.length).toBe(3);
  for (const packet of packets) {
    expect(() => readers[name]!(packet as unknown as ReceivedPacket)).toThrow(released);
  }
  expect(inspect(packets[0])).toBe('Packet { released }');
});

test('a packet kept in a loop of get() throws, and does not read as the next', () => {
  const port = newPort();
  for (let i = 0; i < 100; i++) port.post(i, i);
  let last: Packet | undefined;
  let taken = 0;
  while (taken < 100) {
    for (const packet of port.get(32)) {
      taken++;
      if (last !== undefined) expect(() => last!.key).toThrow(released);
      last = packet;
    }
  }
});

test('a handler of consume() that goes on later finds its packet gone', async () => {
  const port = newPort();
  const kept: Packet[] = [];
  const seen: number[] = [];
  port.consume((packet) => {
    kept.push(packet);
    seen.push(packet.key);
  });
  for (let i = 0; i < 5; i++) port.post(i);
  await until(() => seen.length === 5);
  for (const packet of kept) expect(() => packet.key).toThrow(released);
});

test('a packet that was kept of a full batch is not at hand again at its place in the next', () => {
  const port = newPort();
  const before: Packet[] = [];
  for (let i = 0; i < 128; i++) port.post(i, i);
  for (const packet of port.get(64, 0)) before.push(packet);
  let at = 0;
  for (const packet of port.get(64, 0)) {
    expect(packet.value).toBe(64 + at);
    expect(() => before[at]!.value).toThrow(released);
    at++;
  }
  expect([before.length, at]).toEqual([64, 64]);
});

test('COMPLETION_PORT_CHECK=memory: a packet that was kept is told, however many came since', async () => {
  const output = await outputOf(
    `const port = new CompletionPort();
    for (let i = 0; i < 1000; i++) port.post(i, i);
    const codes = new Set();
    let kept;
    for (let taken = 0; taken < 1000;) {
      for (const packet of port.get(256, 0)) {
        taken++;
        kept ??= packet;
        if (packet === kept && taken === 1) continue;
        try {
          codes.add(kept.value);
        } catch (error) {
          codes.add(error.code);
        }
      }
    }
    console.log([...codes].join());
    await port.close();`,
    { env: { COMPLETION_PORT_CHECK: 'memory' } },
  );
  expect(output).toBe('ERR_PACKET_RELEASED');
});

test('packets() gives an object for each packet', async () => {
  const port = newPort();
  for (let i = 0; i < 40; i++) port.post(i, i * 10);
  const late: string[] = [];
  const objects = new Set<Packet>();
  const handle = async (packet: Packet): Promise<void> => {
    expect(packet.value).toBe(packet.key * 10);
    await turns(2);
    try {
      late.push(`read ${packet.key}`);
    } catch (error) {
      late.push((error as NodeJS.ErrnoException).code ?? '');
    }
  };
  const handled: Promise<void>[] = [];
  for await (const packet of port.packets()) {
    objects.add(packet);
    handled.push(handle(packet));
    if (objects.size === 40) break;
  }
  await Promise.all(handled);
  expect(late).toEqual(new Array(40).fill('ERR_PACKET_RELEASED'));
});

test('a packet of packets() stays at hand over an await', async () => {
  const port = newPort();
  for (let i = 0; i < 10; i++) port.post(i, i * 10);
  let count = 0;
  for await (const packet of port.packets()) {
    const { key } = packet;
    await turns(2);
    expect([packet.key, packet.value]).toEqual([key, key * 10]);
    if (++count === 10) break;
  }
});

test('an async handler of consume() is refused once, and told what to do', async () => {
  const output = await outputOf(`
    const port = new CompletionPort();
    const caught = [];
    process.on('uncaughtException', (error) => caught.push(error));
    let calls = 0;
    port.consume(async () => { calls++; });
    for (let i = 0; i < 3; i++) port.post(i);
    while (calls < 3) await new Promise((resolve) => setImmediate(resolve));
    await new Promise((resolve) => setImmediate(resolve));
    console.log(caught.length, caught[0].code, caught[0].message.includes('packets()'));
    await port.close();`);
  expect(output).toBe('1 ERR_INVALID_RETURN_VALUE true');
});

test('received bytes are lent, kept, sent on or released', async () => {
  const port = newPort();
  const { socket, peer } = await keyedWithRawPeer(port, 1);
  let echoed = '';
  peer.on('data', (bytes) => (echoed += bytes.toString()));
  const seen: string[] = [];
  const kept: Buffer[] = [];
  port.consume((packet) => {
    if (packet.type !== 'received' || packet.data === undefined) return;
    const text = packet.data.toString();
    seen.push(text);
    if (text === 'keep') kept.push(packet.keep());
    else if (text === 'release') packet.release();
    else if (text === 'send') {
      for (const wrong of [undefined, null, {}, port]) {
        expect(() => packet.sendTo(wrong as never)).toThrow(
          expect.objectContaining({ code: 'ERR_INVALID_ARG_TYPE' }),
        );
      }
      packet.sendTo(socket);
    }
    if (text === 'release' || text === 'send')
      expect(() => packet.data).toThrow(expect.objectContaining({ code: 'ERR_BUFFER_RELEASED' }));
    if (text !== 'lend')
      expect(() => packet.keep()).toThrow(expect.objectContaining({ code: 'ERR_BUFFER_RELEASED' }));
    socket.receive();
  });
  socket.receive();
  for (const text of ['lend', 'keep', 'release', 'send']) {
    peer.write(text);
    await until(() => seen.includes(text)); // two that come together would be one packet
  }
  await until(() => echoed === 'send');
  expect(kept.map(String)).toEqual(['keep']);
  for (const buffer of kept) port.release(buffer);
  expect(() => port.release(kept[0]!)).toThrow(
    expect.objectContaining({ code: 'ERR_BUFFER_RELEASED' }),
  );
});

test('a tag comes back with the packet of its operation', async () => {
  const port = newPort();
  const name = temporaryFile('0123456789');
  const file = await port.open(name, 'r', { key: 1 });
  const buffers = [3, 1, 2].map((tag) => ({ tag, memory: port.allocate(4) }));
  for (const { tag, memory } of buffers) file.read(memory, tag, { tag });
  for (let left = buffers.length; left > 0;) {
    for (const packet of port.get(8)) {
      const { memory } = buffers.find(({ tag }) => tag === packet.tag)!;
      expect(memory.toString()).toBe('0123456789'.slice(packet.tag, packet.tag + 4));
      left--;
    }
  }
  for (const { memory } of buffers) port.release(memory);
});

test('quiet: success has no packet, failure has one', async () => {
  const port = newPort();
  const { socket, peer } = await keyedWithRawPeer(port, 1);
  const seen: [string, string | undefined][] = [];
  port.consume((packet) => seen.push([packet.type, packet.code]));
  let arrived = '';
  peer.on('data', (bytes) => (arrived += bytes.toString()));
  socket.send('one', { quiet: true });
  socket.send('two');
  await until(() => arrived === 'onetwo' && seen.length > 0);
  expect(seen).toEqual([['sent', undefined]]);
  socket.end(undefined, { quiet: true });
  socket.send('three', { quiet: true });
  await until(() => seen.length > 1);
  expect(seen[1]).toEqual(['sent', 'EPIPE']);
});

test('one consumer for each thread', async () => {
  const port = newPort();
  const service = port.consume(() => undefined);
  expect((await failureOf(() => port.consume(() => undefined))).code).toBe('ERR_INVALID_STATE');
  expect((await failureOf(() => port.packets())).code).toBe('ERR_INVALID_STATE');
  service.stop();
  service.stop();
  port.post(1, 5);
  for await (const packet of port.packets()) {
    expect(packet.value).toBe(5);
    break;
  }
  new Collector(port).stop();
});

test('a handler that throws is an uncaught exception; packets go on', async () => {
  const output = await outputOf(`
    const port = new CompletionPort();
    const seen = [];
    process.on('uncaughtException', (error) => seen.push(error.message));
    port.consume((packet) => { if (packet.value % 2) throw new Error('odd ' + packet.value); seen.push(packet.value); });
    for (let i = 0; i < 6; i++) port.post(1, i);
    while (seen.length < 6) await new Promise((r) => setTimeout(r, 1));
    console.log(seen.join());
    await port.close();`);
  expect(output).toBe('0,odd 1,2,odd 3,4,odd 5');
});

test('util.inspect tells what a thing is', async () => {
  const port = newPort({ concurrency: 2 });
  expect(inspect(port)).toMatch(/^CompletionPort \{[^]*concurrency: 2[^]*state: 'open'/);
  const { socket } = await keyedWithRawPeer(port, 77);
  expect(inspect(socket)).toMatch(/^KeyedSocket \{[^]*key: 77[^]*remote: '127.0.0.1:\d+'/);
  const file = await port.open(temporaryFile('', 'name.txt'));
  expect(inspect(file)).toMatch(/^FileHandle \{[^]*name\.txt/);
  const operation = file.stat();
  expect(inspect(operation)).toBe('Operation { pending }');
  await operation;
  expect(inspect(operation)).toBe('Operation { fulfilled }');
  port.post(5, 6);
  for (const packet of port.get(1))
    expect(inspect(packet)).toMatch(/^Packet \{[^]*type: 'posted'[^]*key: 5/);
  const timer = port.timer();
  expect(inspect(timer)).toMatch(/^TimerHandle \{/);
  const chunks = file.chunks();
  expect(inspect(chunks)).toBe('AsyncLoop { read, open }');
  await chunks.return();
  expect(inspect(chunks)).toBe('AsyncLoop { read, ended }');
  expect(inspect(port.lease(10))).toBe('Lease { bytes: 10 }');
  const consumer = port.consume(() => undefined);
  expect(inspect(consumer)).toBe('Consumer { taking packets }');
  consumer.stop();
  expect(inspect(consumer)).toBe('Consumer { stopped }');
  const packets = port.packets();
  expect(inspect(packets)).toBe('AsyncLoop { packets, open }');
  await packets.return();
  await file.close();
  expect(inspect(file)).toMatch(/state: 'closed'/);
  await port.close();
  for (const thing of [port, socket, file, timer]) expect(inspect(thing)).toMatch(/closed|Gone/i);
});

test('types: packet style methods return no operations, unknown options are rejected', (context) => {
  skipUnderWine(context, 'the compiler is not installed there');
  const directory = temporaryDirectory();
  const file = path.join(directory, 'types.mts');
  writeFileSync(
    file,
    `
import { CompletionPort, type KeyedSocket, type Operation, type SocketHandle } from ${JSON.stringify(`${root}dist/index.js`)};
declare const port: CompletionPort;
const keyed = await port.connect({ port: 1, key: 1 });
const awaited = await port.connect({ port: 1 });
const below: boolean = keyed.send('x');
const bytes: Operation<number> = awaited.send('x');
const buffer: Buffer = await awaited.receive();
const into: number = await awaited.receive(new Uint8Array(1));
const key: number = keyed.key;
const none: undefined = awaited.key;
const socket: KeyedSocket = keyed;
// @ts-expect-error packet style gives no promise
keyed.send('x').then();
// @ts-expect-error packet style gives no bytes
const wrong: Buffer = await keyed.receive();
// @ts-expect-error a misspelt option
new CompletionPort({ concurency: 2 });
// @ts-expect-error a misspelt option
await port.listen({ port: 1, reuseport: true });
// @ts-expect-error the port is needed
await port.connect({ host: 'x' });
// @ts-expect-error no such driver
new CompletionPort({ driver: 'kqueue' });
// @ts-expect-error loops are for await style
for await (const chunk of keyed.chunks()) chunk;
// @ts-expect-error not assignable to the other style
const other: SocketHandle = keyed;
// @ts-expect-error stat is for await style
(await port.open('x', 'r', { key: 1 })).stat();
// @ts-expect-error timers without a key wait
port.timer().start(1);
void [below, bytes, buffer, into, key, none, socket, wrong, other];
`,
  );
  const options = [
    '--noEmit',
    '--strict',
    '--skipLibCheck',
    '--target',
    'es2022',
    '--module',
    'nodenext',
  ];
  const types = [
    '--lib',
    'ES2023,ESNext.Disposable',
    '--types',
    'node',
    '--typeRoots',
    `${root}node_modules/@types`,
  ];
  const tsc = createRequire(import.meta.url).resolve('typescript/bin/tsc');
  const result = spawnSync(process.execPath, [tsc, ...options, ...types, file], {
    cwd: directory,
    encoding: 'utf8',
  });
  expect(result.stdout).toBe('');
  expect(result.status).toBe(0);
});

test('a message posted inside of a handler comes later', async () => {
  const port = newPort();
  port.post(1, 3);
  const order: string[] = [];
  port.consume((packet) => {
    order.push(`begin ${packet.value}`);
    const value = packet.value!;
    if (value > 0) port.post(1, value - 1);
    order.push(`end ${value}`);
  });
  await until(() => order.length === 8);
  expect(order.join()).toBe('begin 3,end 3,begin 2,end 2,begin 1,end 1,begin 0,end 0');
  const other = newPort();
  other.post(1);
  expect(await take(other, 1)).toHaveLength(1);
});

test('toObject() keeps a failure', async () => {
  const port = newPort();
  const name = path.join(temporaryDirectory(), 'file');
  writeFileSync(name, 'x');
  const file = await port.open(name, 'r', { key: 1 });
  file.write('y', 0);
  const copies = [];
  for (const packet of port.get(1)) copies.push(packet.toObject());
  expect(copies).toMatchObject([{ type: 'written', failed: true, code: 'EBADF', bytes: 0 }]);
  expect(copies[0]!.error).toMatchObject({ code: 'EBADF' });
});

test.each(['consume', 'blocking'] as const)(
  '%s refuses generators, whose body would not run',
  (name) => {
    const port = newPort();
    const refused = expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }) as Error;
    const call = port[name].bind(port) as (fn: unknown) => unknown;
    expect(() => call(function* () {})).toThrow(refused);
    expect(() => call(async function* () {})).toThrow(refused);
  },
);
