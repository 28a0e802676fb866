/**
 * Descriptors that go along with bytes over UNIX sockets: `sendHandle` and `receiveHandle`.
 */
import { spawn as spawnProcess } from 'node:child_process';
import { once } from 'node:events';
import { closeSync, openSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { sleep, spawn } from '../../dist/micro.js';
import {
  codeOf,
  connectedPair,
  library,
  newPort,
  pattern,
  root,
  temporaryDirectory,
  until,
  windows,
  type CompletionPort,
  type SocketHandle,
} from '../support/harness';

const openDescriptors = (): number => readdirSync('/proc/self/fd').length;

async function pairOf(
  port: CompletionPort,
  type: 'stream' | 'seqpacket' = 'stream',
): Promise<[SocketHandle, SocketHandle]> {
  const place = `${temporaryDirectory()}/socket`;
  const listener = await port.listen({ path: place, type });
  const [client, server] = await Promise.all([
    port.connect({ path: place, type }),
    listener.accept(),
  ]);
  await listener.close();
  return [client, server];
}

/** The socket to a process that connects and does `what`. */
async function withProcess(port: CompletionPort, what: string): Promise<SocketHandle> {
  const place = `${temporaryDirectory()}/socket`;
  const listener = await port.listen({ path: place });
  const program = path.join(root, 'test/support/pass.mjs');
  const child = spawnProcess(process.execPath, [program, library, place, what], {
    stdio: 'inherit',
  });
  onTestFinished(() => void child.kill());
  const socket = await listener.accept();
  await listener.close();
  return socket;
}

function fileOf(text: string): string {
  const file = path.join(temporaryDirectory(), 'file');
  writeFileSync(file, text);
  return file;
}

describe.skipIf(windows)('descriptors between processes', () => {
  test('A5: another process takes files, and what was given may be closed at once', async () => {
    const port = newPort();
    const socket = await withProcess(port, 'take');
    const before = openDescriptors();
    const first = await port.open(fileOf('first'));
    const second = openSync(fileOf('second'), 'r');
    const sent = socket.sendHandle([first, second], 'both');
    await first.close();
    closeSync(second);
    expect(await sent).toBe(4);
    const answer = JSON.parse(String(await socket.receive())) as object;
    expect(answer).toEqual({ data: 'both', texts: ['first', 'second'], truncated: false });
    await until(() => openDescriptors() === before);
    await port.close();
  });

  test('A5: another process goes on with a listener', async () => {
    const port = newPort();
    const socket = await withProcess(port, 'serve');
    const listener = await port.listen({ port: 0, host: '127.0.0.1' });
    const { port: number } = listener.address()!;
    await socket.sendHandle(listener);
    await listener.close();
    const client = net.connect(number, '127.0.0.1').setEncoding('utf8');
    let said = '';
    for await (const text of client) said += text as string;
    expect(said).toMatch(/^process \d+$/);
    expect(said).not.toBe(`process ${process.pid}`);
    await port.close();
  });

  test('A5: what another process gives is this one’s, and no child process inherits it', async () => {
    const port = newPort();
    const socket = await withProcess(port, 'give');
    const { data, descriptors } = await socket.receiveHandle();
    expect(String(data)).toBe('two of them');
    expect(descriptors).toHaveLength(2);
    for (const descriptor of descriptors) {
      const flags = /^flags:\s+0?(\d+)$/m.exec(
        readFileSync(`/proc/self/fdinfo/${descriptor}`, 'utf8'),
      )![1]!;
      expect(parseInt(flags, 8) & 0o2000000).not.toBe(0); // O_CLOEXEC
      const file = await port.open(descriptor);
      closeSync(descriptor);
      expect(await file.readFile('utf8')).toBe(readFileSync('/etc/hostname', 'utf8'));
    }
    await port.close();
  });

  test('A5: a descriptor that comes with bytes which are received plainly is closed', async () => {
    const port = newPort();
    const socket = await withProcess(port, 'ignore');
    await socket.receive();
    const listener = await port.listen({ port: 0, host: '127.0.0.1' });
    const { port: number } = listener.address()!;
    await socket.sendHandle(listener);
    await listener.close();
    // When nobody has it any more the number is free again.
    for (let taken = true; taken;) {
      const server = net.createServer().listen(number, '127.0.0.1');
      taken = await once(server, 'listening').then(
        () => false,
        () => true,
      );
      server.close();
    }
    await port.close();
  });

  test('A5: handles keep their place among the sends, and bytes from behind them', async () => {
    for (const type of ['stream', 'seqpacket'] as const) {
      const port = newPort();
      const [client, server] = await pairOf(port, type);
      const file = await port.open(fileOf('text'));
      void client.send('before');
      void client.sendHandle(file, 'with');
      void client.sendHandle([file, file], 'more');
      await client.send('behind');
      // The kernel glues bytes from before them to theirs, in a stream.
      const glued = type === 'stream' ? '' : 'before';
      if (glued !== '') expect(String(await server.receive())).toBe(glued);
      const first = await server.receiveHandle();
      const text = glued === '' ? 'beforewith' : 'with';
      expect([String(first.data), first.descriptors.length]).toEqual([text, 1]);
      const second = await server.receiveHandle();
      expect([String(second.data), second.descriptors.length]).toEqual(['more', 2]);
      const plain = await server.receiveHandle();
      expect([String(plain.data), plain.descriptors]).toEqual(['behind', []]);
      await client.end();
      const end = await server.receiveHandle();
      expect([end.data.length, end.descriptors]).toEqual([0, []]);
      for (const descriptor of [...first.descriptors, ...second.descriptors]) closeSync(descriptor);
      await port.close();
    }
  });

  test('A5: as many as the kernel takes go at once', async () => {
    const port = newPort();
    const [client, server] = await pairOf(port);
    const file = await port.open(fileOf('text'));
    const before = openDescriptors();
    await client.sendHandle(Array.from({ length: 253 }, () => file));
    const { descriptors } = await server.receiveHandle();
    expect(new Set(descriptors).size).toBe(253);
    for (const descriptor of descriptors) closeSync(descriptor);
    await until(() => openDescriptors() === before);
    expect(() => client.sendHandle(Array.from({ length: 254 }, () => file))).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
    );
    await port.close();
  });

  test('A5: nothing is left of what is cancelled, closed, or never received', async () => {
    const before = openDescriptors();
    const port = newPort();
    const open = openDescriptors(); // with the port's own
    const file = await port.open(fileOf('text'));
    const [client, server] = await pairOf(port);
    const cancelled = server.receiveHandle();
    cancelled.cancel();
    await expect(cancelled).rejects.toMatchObject({ code: 'ECANCELED' });
    const late = server.receiveHandle({ timeout: 1 });
    await expect(late).rejects.toMatchObject({ code: 'ETIMEDOUT' });
    // The peer never reads: the kernel takes what has room, the rest waits here.
    const waiting = Array.from({ length: 20 }, () =>
      client.sendHandle([file, file], Buffer.alloc(60_000)).catch((error: unknown) => error),
    );
    await client.close();
    const ends = await Promise.all(waiting);
    expect(ends.some((end) => typeof end !== 'number')).toBe(true);
    await server.close();
    await file.close();
    await until(() => openDescriptors() <= open);
    await port.close();
    await until(() => openDescriptors() <= before);
  });

  test('M4: what goes along with handles counts among what a socket has to send', async () => {
    const port = newPort();
    const [client, server] = await pairOf(port);
    client.highWaterMark = 200_000;
    const bytes = Buffer.alloc(60_000);
    const before = openDescriptors();
    const sent = Array.from({ length: 20 }, () => client.sendHandle(0, bytes));
    expect(client.bufferedAmount).toBe(20 * bytes.length);
    let out = false;
    const behind = client.send('behind').then(() => (out = true));
    expect(client.bufferedAmount).toBe(20 * bytes.length + 6);
    await sent[0];
    expect(client.bufferedAmount).toBeGreaterThan(client.highWaterMark);
    expect(out).toBe(false);
    let received = 0;
    while (received < 20 * bytes.length + 6) {
      const { data, descriptors } = await server.receiveHandle({ length: 2 ** 20 });
      received += data.length;
      for (const descriptor of descriptors) closeSync(descriptor);
    }
    await Promise.all([...sent, behind]);
    expect(client.bufferedAmount).toBe(0);
    await until(() => openDescriptors() === before);
    await port.close();
  });

  test('M6: what handles come with lies in the memory of the port, and goes back', async () => {
    const port = newPort({ memoryLimit: 4 << 20 });
    const [client, server] = await pairOf(port);
    const file = await port.open(fileOf('text'));
    const { allocatedBytes: before } = port.stats();
    const allocated = (): number => port.stats().allocatedBytes - before;
    const receiving = [0, 1, 2].map(() => server.receiveHandle({ length: 2 ** 20 }));
    const refused = server.receiveHandle({ length: 2 ** 20 }).catch((error: unknown) => error);
    const another = server.receiveHandle({ length: 2 ** 20 }).catch((error: unknown) => error);
    expect(codeOf(await another)).toBe('ERR_MEMORY_LIMIT');
    expect(allocated()).toBeGreaterThanOrEqual(3 << 20);
    for (const text of ['one', 'two']) {
      await client.sendHandle(file, text);
      const { data, descriptors } = await receiving.shift()!;
      expect([String(data), descriptors.length]).toEqual([text, 1]);
      descriptors.forEach((descriptor) => closeSync(descriptor));
    }
    receiving[0]!.cancel();
    await expect(receiving[0]).rejects.toMatchObject({ code: 'ECANCELED' });
    await Promise.all([client.close(), server.close(), refused]);
    await until(() => allocated() === 0);
    await port.close();
  });

  test('A5: what is sent in part goes on without its descriptors, which are closed', async () => {
    const port = newPort();
    const [client, server] = await pairOf(port);
    const open = openDescriptors();
    const bytes = pattern(4 << 20);
    const sent = client.sendHandle([0, 0, 0], bytes);
    const first = await server.receiveHandle({ length: 1000 });
    expect(first.descriptors).toHaveLength(3);
    first.descriptors.forEach((descriptor) => closeSync(descriptor));
    // The duplicates went with the first byte: they are not kept until the last.
    await until(() => openDescriptors() === open);
    expect(sent.pending).toBe(true);
    const parts = [first.data];
    for (let length = first.data.length; length < bytes.length;) {
      const { data, descriptors } = await server.receiveHandle({ length: 2 ** 20 });
      expect(descriptors).toEqual([]);
      parts.push(data);
      length += data.length;
    }
    expect(Buffer.concat(parts).equals(bytes)).toBe(true);
    expect(await sent).toBe(bytes.length);
    await port.close();
  });

  test('A5: nothing is left of a chain whose description throws', async () => {
    const port = newPort();
    const [client, server] = await pairOf(port);
    const before = openDescriptors();
    const sent: Promise<unknown>[] = [];
    const describing = (): void => {
      sent.push(client.send('before'), client.sendHandle([0, 1, 2], 'with'));
      throw new Error('described badly');
    };
    expect(() => client.link(describing)).toThrow('described badly');
    for (const one of sent) await expect(one).rejects.toMatchObject({ code: 'ECANCELED' });
    await until(() => openDescriptors() === before);
    await client.sendHandle(0, 'x');
    const { data, descriptors } = await server.receiveHandle();
    expect([String(data), descriptors.length]).toEqual(['x', 1]);
    closeSync(descriptors[0]!);
    await port.close();
  });

  test('A5: a worker that ends leaves nothing open', async () => {
    const port = newPort();
    const place = `${temporaryDirectory()}/socket`;
    const listener = await port.listen({ path: place });
    const { Worker } = await import('node:worker_threads');
    const source = `
      const { workerData } = require('node:worker_threads');
      import(workerData.library).then(async ({ CompletionPort }) => {
        const socket = await new CompletionPort().connect({ path: workerData.place });
        socket.receiveHandle().then(() => undefined, () => undefined);
        await socket.send('ready');
        Atomics.wait(workerData.sent, 0, 0); // it does nothing when the descriptors come
        process.exit();
      });`;
    const file = await port.open(fileOf('text'));
    const before = openDescriptors();
    const sent = new Int32Array(new SharedArrayBuffer(4));
    const worker = new Worker(source, { eval: true, workerData: { library, place, sent } });
    const socket = await listener.accept();
    await socket.receive();
    await socket.sendHandle([file, file, file]);
    Atomics.store(sent, 0, 1);
    Atomics.notify(sent, 0);
    await once(worker, 'exit');
    await socket.close();
    await until(() => openDescriptors() <= before);
    await port.close();
  });

  test('A5: a micro-thread that has seen descriptors has them, whatever ends its worker', async () => {
    const port = newPort();
    const place = `${temporaryDirectory()}/socket`;
    const listener = await port.listen({ path: place });
    const source = `
      const { workerData } = require('node:worker_threads');
      Promise.all([import(workerData.library), import(workerData.micro)]).then(
        ([{ CompletionPort }, { spawn }]) => spawn(function* () {
          const socket = yield* new CompletionPort().connect({ path: workerData.place });
          const { descriptors } = yield* socket.receiveHandle();
          workerData.seen[0] = descriptors[0];
          process.exit();
        }));`;
    const seen = new Int32Array(new SharedArrayBuffer(4));
    const { Worker } = await import('node:worker_threads');
    const micro = new URL('../../dist/micro-esm.mjs', import.meta.url).href;
    const worker = new Worker(source, { eval: true, workerData: { library, micro, place, seen } });
    const socket = await listener.accept();
    const file = fileOf('seen');
    const given = openSync(file, 'r');
    await socket.sendHandle(given);
    await once(worker, 'exit');
    closeSync(given);
    expect(seen[0]).toBeGreaterThan(0);
    expect(readFileSync(seen[0]!, 'utf8')).toBe('seen');
    closeSync(seen[0]!);
    await port.close();
  });

  test('A5: what comes for a micro-thread that has left is closed', async () => {
    const port = newPort();
    const [client, server] = await pairOf(port);
    const before = openDescriptors();
    const waiter = { wake: (): void => undefined };
    const operation = await spawn(function* () {
      yield* sleep(0);
      const receiving = server.receiveHandle();
      const inside = receiving as unknown as {
        stop(): void;
        hear(by: typeof waiter): void;
        abandon(by: typeof waiter): boolean;
        leave(by: typeof waiter): void;
      };
      inside.stop = () => undefined; // the cancel comes too late
      inside.hear(waiter);
      expect(inside.abandon(waiter)).toBe(false);
      inside.leave(waiter);
      return { receiving };
    });
    await client.sendHandle([0, 1]);
    await until(() => !operation.receiving.pending);
    await until(() => openDescriptors() === before);
    expect(await operation.receiving).toMatchObject({ descriptors: [], truncated: true });
    await port.close();
  });

  test('A5: what cannot be sent says so at once', async () => {
    const port = newPort();
    const [client, server] = await pairOf(port);
    const codeOf = (given: unknown, data?: string): string => {
      try {
        void client.sendHandle(given as number, data);
      } catch (error) {
        return (error as { code: string }).code;
      }
      return 'none';
    };
    const file = await port.open(fileOf('text'));
    await file.close();
    expect(codeOf(file)).toBe('ERR_HANDLE_CLOSED');
    expect(codeOf(0x7fffffff)).toBe('EBADF');
    expect(codeOf(-1)).toBe('ERR_OUT_OF_RANGE');
    expect(codeOf([])).toBe('ERR_OUT_OF_RANGE');
    expect(codeOf({})).toBe('ERR_INVALID_ARG_TYPE');
    expect(codeOf(port.timer())).toBe('ERR_INVALID_ARG_TYPE');
    expect(codeOf(1, '')).toBe('ERR_INVALID_ARG_VALUE');
    expect(() => server.receiveHandle({ length: 0 })).toThrow(
      expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
    );
    const unknown = { code: 'ERR_INVALID_ARG_VALUE' };
    const misspelt = { timout: 5 } as object;
    expect(() => client.sendHandle(1, 'x', misspelt)).toThrow(expect.objectContaining(unknown));
    expect(() => server.receiveHandle(misspelt)).toThrow(expect.objectContaining(unknown));
    const { client: tcp } = await connectedPair(port);
    expect(() => tcp.sendHandle(1)).toThrow(expect.objectContaining({ code: 'ENOTSUP' }));
    expect(() => tcp.receiveHandle()).toThrow(expect.objectContaining({ code: 'ENOTSUP' }));
    await client.send('x');
    expect(String(await server.receive())).toBe('x');
    await port.close();
  });
});
