/** `JSON.stringify` of what the library gives: short, without internals, and it never throws. */
import { expect, test } from 'vitest';
import { Channel, spawn } from '../dist/micro.js';
import {
  Collector,
  connectedPair,
  newPort,
  rawClient,
  temporaryFile,
  turns,
  type Packet,
} from './support/harness';

const parsed = (value: unknown): Record<string, unknown> =>
  JSON.parse(JSON.stringify(value)) as Record<string, unknown>;

test('handles, ports, operations and loops: open, and when the port is closed', async () => {
  const port = newPort();
  const { client, server } = await connectedPair(port);
  const file = await port.open(temporaryFile('x'));
  const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 5 });
  const timer = port.timer({ key: 6 });
  await client.send('abc');
  await server.receive();
  const receiving = client.receive();
  receiving.catch(() => undefined);
  const things = { port, client, file, listener, timer, receiving, chunks: file.chunks() };
  const more = { lines: file.readLines(), lease: port.lease(8), packets: port.packets() };
  const open = parsed({ ...things, ...more });
  expect(open).toMatchObject({
    port: { driver: port.driver, state: 'open' },
    client: { kind: 'socket', id: client.id, state: 'open', bytesWritten: 3 },
    file: { kind: 'file', path: file.path },
    listener: { kind: 'listener', key: 5, address: listener.address() },
    timer: { kind: 'timer', key: 6 },
    receiving: { state: 'pending' },
    chunks: { state: 'open' },
    lines: { loop: 'lines', state: 'open' },
    lease: { bytes: 8 },
    packets: { loop: 'packets', state: 'open' },
  });
  await port.close();
  const closed = parsed({ ...things, ...more });
  expect(closed).toMatchObject({
    port: { state: 'closed' },
    client: { state: 'closed', bytesWritten: 3 },
    listener: { state: 'closed' },
    receiving: { state: 'rejected' },
  });
  for (const [name, json] of Object.entries({ ...open, ...closed })) {
    expect(JSON.stringify(json), name).not.toMatch(/"(lane|native|words|token|memory)"/);
  }
});

test('packets: at hand, copied, and released', async () => {
  const port = newPort();
  const seen: Record<string, unknown>[] = [];
  let kept: Packet | undefined;
  const collector = new Collector(port, (packet) => {
    seen.push(parsed(packet));
    kept = packet;
    if (packet.type === 'accepted') packet.accepted!.receive({ tag: 7 });
  });
  expect(parsed(port.post(1, 2) ?? {})).toEqual({});
  const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 5 });
  (await rawClient(listener.address()!.port)).write('secret');
  await collector.first('received');
  expect(seen[0]).toEqual({ type: 'posted', key: 1, value: 2, tag: 0, more: false });
  const received = seen.find(({ type }) => type === 'received')!;
  expect(received).toMatchObject({ bytes: 6, tag: 7, more: false });
  await turns();
  expect(parsed(kept)).toEqual({ released: true });
  for (const packet of collector.packets) {
    expect(parsed(packet)).toMatchObject({ type: packet.type, key: packet.key });
  }
});

test('what is copied of a handle, a packet or a port is what is public', async () => {
  const port = newPort();
  const { client } = await connectedPair(port);
  void [client.remoteAddress, client.bytesRead];
  const file = await port.open(temporaryFile('x'));
  const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 5 });
  const timer = port.timer({ key: 6 });
  const lease = port.lease(8);
  const handle = ['cancel', 'id', 'asyncResource'];
  const copied: [object, string[]][] = [
    [port, ['driver', 'driverReason', 'concurrency', 'token']],
    [client, handle],
    [file, [...handle, 'path']],
    [listener, handle],
    [timer, handle],
    [lease, []],
  ];
  for (const [thing, names] of copied) expect(Object.keys(thing).sort()).toEqual(names.sort());
  port.post(1);
  for await (const packet of port.packets()) {
    expect(Object.keys(packet)).toEqual(['toObject']);
    break;
  }
  port.post(1);
  for (const packet of port.get()) expect(Object.keys(packet)).toEqual(['toObject']);
  const consumer = port.consume(() => undefined);
  expect(Object.keys(consumer)).toEqual([]);
});

test('micro-threads and channels', async () => {
  const channel = new Channel<number>(3);
  const thread = spawn(function* waits() {
    try {
      yield* channel.take();
    } catch {
      // It is closed.
    }
  });
  expect(parsed({ channel, thread })).toMatchObject({
    channel: { size: 0, capacity: 3, closed: false },
    thread: { name: 'waits' },
  });
  channel.close();
  await thread;
});
