import { once } from 'node:events';
import { closeSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import {
  Collector,
  CompletionPort,
  failureOf,
  keyedWithRawPeer,
  newPort,
  rawClient,
  skipOnWindows,
  take,
  temporaryFile,
  turns,
  until,
} from '../support/harness';

describe('A1', () => {
  test('A1: a handle answers under its key, to its port and no other', async () => {
    const [port, other] = [newPort(), newPort()];
    const here = new Collector(port);
    const there = new Collector(other);
    const { socket, peer } = await keyedWithRawPeer(port, 17);
    socket.receive();
    peer.write('to the first port');
    const packet = await here.first('received');
    expect(packet).toMatchObject({ key: 17, handle: socket });
    expect(socket.port).toBe(port);
    await turns();
    expect(there.packets).toEqual([]);
  });

  test('A1: a handle that was handed off cannot be associated once more', async () => {
    const [port, other, third] = [newPort(), newPort(), newPort()];
    const { socket } = await keyedWithRawPeer(port, 1);
    socket.handOff(other);
    const error = await failureOf(() => socket.handOff(third));
    expect(['ERR_ALREADY_ASSOCIATED', 'ERR_HANDLE_CLOSED']).toContain(error.code);
    const [packet] = await take(other, 1);
    expect(packet).toMatchObject({ type: 'handedOff', key: 1 });
    await turns();
    expect([...third.get(64, 0)]).toEqual([]);
  });
});

describe('A2', () => {
  test('A2: two handles may have the same key', async () => {
    const port = newPort();
    const collector = new Collector(port);
    const one = await keyedWithRawPeer(port, 9);
    const two = await keyedWithRawPeer(port, 9);
    one.socket.receive();
    two.socket.receive();
    one.peer.write('one');
    two.peer.write('two');
    await until(() => collector.of('received').length === 2);
    const received = collector.of('received');
    expect(received.map((packet) => packet.key)).toEqual([9, 9]);
    const text = (handle: unknown): string | undefined =>
      received.find((packet) => packet.handle === handle)?.data?.toString();
    expect([text(one.socket), text(two.socket)]).toEqual(['one', 'two']);
  });

  test('A2: the keys that the library hands out are unique', async () => {
    const port = newPort();
    const file = temporaryFile('x');
    const keys = new Set<number>();
    for (let i = 0; i < 50; i++) {
      const { key } = await port.open(file, 'r', { key: 'unique' });
      expect(key).toBeGreaterThanOrEqual(0);
      expect(key).toBeLessThan(2 ** 32);
      keys.add(key);
    }
    expect(keys.size).toBe(50);
  });

  test('A2: accepted connections have keys of their own', async () => {
    const port = newPort();
    const collector = new Collector(port);
    const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 3 });
    for (let i = 0; i < 10; i++) await rawClient(listener.address()!.port);
    await until(() => collector.of('accepted').length === 10);
    const accepted = collector.of('accepted');
    expect(accepted.every((packet) => packet.key === 3)).toBe(true);
    expect(new Set(accepted.map((packet) => packet.accepted!.key)).size).toBe(10);
  });

  test.each([0, 1, 2 ** 31, 2 ** 32 - 1])('A2: %d is a key', async (key) => {
    const port = newPort();
    const file = await port.open(temporaryFile('abc'), 'r', { key });
    expect(file.key).toBe(key);
    file.read(port.allocate(3), 0);
    const [packet] = await take(port, 1);
    expect(packet).toMatchObject({ type: 'read', key, bytes: 3 });
  });
});

describe('A3', () => {
  test('A3: an operation in flight completes on the new port, behind a handedOff packet', async () => {
    const [from, to] = [newPort(), newPort()];
    const old = new Collector(from);
    const { socket, peer } = await keyedWithRawPeer(from, 5);
    socket.receive();
    await turns();
    socket.handOff(to, 6);
    const fresh = new Collector(to);
    peer.write('after the hand-off');
    await until(() => fresh.packets.length >= 2);
    expect(fresh.packets.map(({ type, key }) => [type, key])).toEqual([
      ['handedOff', 6],
      ['received', 6],
    ]);
    expect(fresh.packets[1]!.data!.toString()).toBe('after the hand-off');
    expect(old.packets).toEqual([]);
    expect(fresh.packets[0]!.handle!.port).toBe(to);
  });

  test('A3: packets that were queued move too, behind the handedOff packet and in order', async () => {
    const [from, to] = [newPort(), newPort()];
    const { socket, peer } = await keyedWithRawPeer(from, 5);
    for (const text of ['a', 'b', 'c']) socket.send(text);
    // Nobody takes them: they wait in the queue.
    await until(() => from.stats().queueDepth === 3);
    socket.receive();
    peer.write('x');
    await until(() => from.stats().queueDepth === 4);
    socket.handOff(to);
    expect([...from.get(64, 0)]).toEqual([]);
    const packets = await take(to, 5);
    expect(packets.map(({ type }) => type)).toEqual([
      'handedOff',
      'sent',
      'sent',
      'sent',
      'received',
    ]);
    expect(packets.every(({ key }) => key === 5)).toBe(true);
    expect(packets[4]!.data!.toString()).toBe('x');
  });

  test('A3: the connection goes on working on the new port', async () => {
    const [from, to] = [newPort(), newPort()];
    const { socket, peer } = await keyedWithRawPeer(from, 5);
    let echoed = '';
    peer.on('data', (bytes) => (echoed += bytes.toString()));
    socket.handOff(to.token, 'unique');
    expect(socket.closed).toBe(true);
    const collector = new Collector(to, (packet) => {
      const handle = packet.handle;
      if (handle?.kind !== 'socket') return;
      if (packet.type === 'handedOff') handle.receive({ multishot: true });
      if (packet.type === 'received' && packet.bytes > 0) packet.sendTo(handle);
    });
    for (const text of ['one ', 'two ', 'three']) {
      peer.write(text);
      await turns();
    }
    await until(() => echoed === 'one two three');
    peer.end();
    await until(() => collector.of('received').some((packet) => packet.bytes === 0));
    expect(new Set(collector.packets.map(({ key }) => key)).size).toBe(1);
  });

  test('A3: a file is handed off with its reads', async () => {
    const [from, to] = [newPort(), newPort()];
    const name = temporaryFile();
    writeFileSync(name, 'contents');
    const file = await from.open(name, 'r', { key: 1 });
    file.read(from.allocate(8), 0);
    file.handOff(to, 2);
    const packets = await take(to, 2);
    expect(packets.map(({ type, key, bytes }) => [type, key, bytes])).toEqual([
      ['handedOff', 2, expect.any(Number)],
      ['read', 2, 8],
    ]);
    expect([...from.get(64, 0)]).toEqual([]);
  });

  test('A3: a listener is handed off: the connections come to the new port', async () => {
    const [from, to] = [newPort(), newPort()];
    const listener = await from.listen({ host: '127.0.0.1', port: 0, key: 1 });
    const { port } = listener.address()!;
    listener.handOff(to, 2);
    const collector = new Collector(to);
    await rawClient(port);
    const accepted = await collector.first('accepted');
    expect(accepted.key).toBe(2);
    expect(accepted.accepted!.port).toBe(to);
    expect(collector.packets[0]!.type).toBe('handedOff');
  });

  test('A3: a handle of await style, or of another port, cannot be handed off', async () => {
    const [port, other] = [newPort(), newPort()];
    const file = await port.open(temporaryFile());
    const error = await failureOf(() =>
      (file as unknown as { handOff(p: unknown): void }).handOff(other),
    );
    expect(error.code).toBe('ERR_INVALID_STATE');
  });

  test('A3: handing off to a port that is closed leaves the handle where it is', async () => {
    const [port, other] = [newPort(), newPort()];
    await other.close();
    const { socket, peer } = await keyedWithRawPeer(port, 5);
    expect((await failureOf(() => socket.handOff(other.token))).code).toBe('ERR_PORT_CLOSED');
    socket.receive();
    peer.write('still here');
    const [packet] = await take(port, 1);
    expect(packet!.data!.toString()).toBe('still here');
  });
});

describe('A2: a handle is the same in each thread', () => {
  const cases = [
    [
      'opened with a path',
      (port: CompletionPort, path: string) => port.open(path, 'a', { key: 5 }),
    ],
    [
      'of a descriptor',
      async (port: CompletionPort, path: string) => {
        const descriptor = openSync(path, 'a');
        const file = await port.open(descriptor, 'r', { key: 5 });
        closeSync(descriptor);
        return file;
      },
    ],
  ] as const;
  test.for(cases)(
    'a file that appends does so in another thread: %s',
    async ([name, open], context) => {
      if (name === 'of a descriptor') {
        skipOnWindows(context, 'a descriptor of node:fs is not overlapped');
      }
      const port = newPort();
      const path = temporaryFile('');
      const file = await open(port, path);
      const worker = new Worker(new URL('../support/workers/appender.mjs', import.meta.url), {
        workerData: { token: port.token },
        execArgv: [],
      });
      const told: unknown[] = [];
      worker.on('message', (message) => told.push(message));
      const exited = once(worker, 'exit');
      await until(() => told.length > 0);
      file.write('first ');
      await exited;
      const expected = name === 'of a descriptor' ? undefined : path;
      expect(told).toEqual([
        'ready',
        { type: 'written', path: expected },
        { type: 'written', code: undefined },
      ]);
      expect(readFileSync(path, 'utf8')).toBe('first second');
    },
  );
});
