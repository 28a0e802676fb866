/** Sockets at a path, UNIX sockets and Windows' named pipes: what TCP has, where there is a path. */
import { once } from 'node:events';
import fs, { existsSync, statSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { buffer } from 'node:stream/consumers';
import { inspect } from 'node:util';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { frames } from '../../dist/stages.js';
import {
  Collector,
  failureNow,
  failureOf,
  newPort,
  pattern,
  until,
  windows,
} from '../support/harness';
import { newSocketPath as newPath } from '../support/socket-path';
import { fixture, newPipeline } from '../support/stages';

/** Asking for the status of a named pipe would connect to it. */
const fileIsThere = (path: string): boolean => !windows && existsSync(path);
const newName = (): string => `\0completion-port ${process.pid} ${Math.random()}`;

/** A client of node:net. */
async function nodeClient(path: string): Promise<net.Socket> {
  const socket = net.connect({ path, allowHalfOpen: true }).on('error', () => undefined);
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  return socket;
}

describe('sockets at a path', () => {
  test.skipIf(windows).each([
    ['a file', newPath],
    ['an abstract name', newName],
  ])('%s: what is awaited, from end to end', async (_name, place) => {
    const port = newPort();
    const path = place();
    const listener = await port.listen({ path });
    expect(listener.address()).toEqual({ address: path, port: 0, family: 'unix' });
    const accepting = listener.accept();
    const client = await port.connect({ path });
    const server = await accepting;
    const bytes = pattern(1_000_000);
    const sent = client.end(bytes);
    const parts: Buffer[] = [];
    for await (const part of server) parts.push(part);
    await sent;
    expect(Buffer.concat(parts).equals(bytes)).toBe(true);
    await server.end('done');
    expect(await client.receive()).toEqual(Buffer.from('done'));
    expect(await client.receive()).toHaveLength(0);
    const { localAddress, remoteAddress, remotePort, remoteFamily } = client;
    expect([localAddress, remoteAddress, remotePort, remoteFamily]).toEqual(
      Array.from({ length: 4 }, () => undefined),
    );
    expect(client.setNoDelay().setKeepAlive(true)).toBe(client);
    expect(inspect(client)).toContain('open');
  });

  test('packets, with a client of node:net', async () => {
    const port = newPort();
    const path = newPath();
    const collector = new Collector(port, (packet) => {
      if (packet.type === 'accepted') packet.accepted!.receive({ multishot: true });
      if (packet.type === 'received' && packet.bytes > 0) packet.sendTo(packet.handle);
    });
    await port.listen({ path, key: 1, keepAlive: true, maxConnections: 1 });
    const client = await nodeClient(path);
    client.write('there');
    expect(String((await once(client, 'data'))[0])).toBe('there');
    const refused = await nodeClient(path);
    refused.resume();
    await once(refused, 'end');
    client.end();
    await until(() => collector.of('received').length === 2);
    const [, end] = collector.of('received');
    expect([end!.bytes, end!.error]).toEqual([0, undefined]);
  });

  test('a keyed client of a server of node:net', async () => {
    const path = newPath();
    const server = net.createServer((socket) => socket.pipe(socket)).listen(path);
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    const port = newPort();
    const collector = new Collector(port);
    const socket = await port.connect({ path, key: 5 });
    socket.send('there and back');
    socket.receive();
    const { key, data } = await collector.first('received');
    expect([key, String(data)]).toEqual([5, 'there and back']);
    socket.close();
    await collector.first('closed');
  });

  test('a stage listens there', async () => {
    const pipeline = newPipeline({ echo: { stage: fixture('echo.mjs'), threads: 1 } });
    const path = newPath();
    const listener = await pipeline.listen('echo', { path });
    expect(listener).toMatchObject({ address: path, port: 0, family: 'unix' });
    const client = await nodeClient(path);
    client.write('to a stage');
    expect(String((await once(client, 'data'))[0])).toBe('to a stage');
    client.destroy();
    await listener.close();
    expect(fileIsThere(path)).toBe(false);
  });

  test('frames listen there', async () => {
    const native = frames({ length: 'u8', maxLength: 100 });
    const work = { stage: fixture('digest.mjs'), threads: 1 };
    const pipeline = newPipeline({ spool: { native, next: 'work', threads: 1 }, work });
    const path = newPath();
    await pipeline.listen('spool', { path });
    const client = await nodeClient(path);
    client.write('\x07text hi');
    expect(String((await once(client, 'data'))[0])).toBe('hi');
    client.destroy();
    await pipeline.close();
    expect(fileIsThere(path)).toBe(false);
  });

  test('frames tell a client there why it is sent away, and a stage that closes, too', async () => {
    const native = frames({ length: 'u8', maxLength: 100, tooLarge: 'too large' });
    const work = { stage: fixture('digest.mjs'), threads: 1 };
    const pipeline = newPipeline({ spool: { native, next: 'work', threads: 1 }, work });
    const path = newPath();
    await pipeline.listen('spool', { path });
    for (const [sent, answer] of [
      ['\xc8', 'too large'],
      ['\x05close', ''],
    ] as const) {
      const client = await nodeClient(path);
      client.write(sent, 'latin1');
      expect(String(await buffer(client))).toBe(answer);
    }
  });

  test.skipIf(windows)(
    'the file goes with the listener, with the port, and when the listener was handed on',
    async () => {
      const first = newPath();
      const port = newPort();
      const listener = await port.listen({ path: first });
      expect(existsSync(first)).toBe(true);
      await listener.close();
      expect(existsSync(first)).toBe(false);

      const other = newPort();
      const second = newPath();
      const keyed = await port.listen({ path: second, key: 1 });
      keyed.handOff(other);
      await port.close();
      expect(existsSync(second)).toBe(true);
      await other.close();
      expect(existsSync(second)).toBe(false);

      const third = newPath();
      const left = newPort();
      await left.listen({ path: third });
      left.detach();
      expect(existsSync(third)).toBe(false);
    },
  );

  test.skipIf(windows)('errors are those of node:net', async () => {
    const port = newPort();
    const path = newPath();
    const asNode = async (path: string): Promise<unknown> => {
      const server = net.createServer().listen({ path });
      const [error] = (await once(server, 'error')) as [NodeJS.ErrnoException];
      const { code, errno, syscall, message } = error;
      return { code, errno, syscall, message, address: path };
    };
    await port.listen({ path });
    const stale = newPath();
    writeFileSync(stale, '');
    for (const taken of [path, stale, '/no such directory/socket']) {
      const error = await failureOf(() => port.listen({ path: taken }));
      expect(error).toMatchObject((await asNode(taken)) as object);
    }
    expect(existsSync(stale)).toBe(true);
    const missing = newPath();
    const text = `connect ENOENT ${missing}`;
    expect(await failureOf(() => port.connect({ path: missing }))).toMatchObject({
      ...{ code: 'ENOENT', syscall: 'connect', message: text, address: missing },
    });
    const refused = await failureOf(() => port.connect({ path: stale }));
    expect(refused.code).toBe('ECONNREFUSED');
    const long = `/tmp/${'x'.repeat(110)}`;
    expect(await failureOf(() => port.listen({ path: long }))).toMatchObject({ code: 'EINVAL' });
    expect(await failureOf(() => port.connect({ path: long }))).toMatchObject({ code: 'EINVAL' });
  });

  test.skipIf(windows)('the rights of the file', async () => {
    const port = newPort();
    const path = newPath();
    await port.listen({ path, readableAll: true, writableAll: true });
    expect(statSync(path).mode & 0o666).toBe(0o666);
  });

  test.skipIf(windows)('a listener whose file can’t be given them is closed', async () => {
    const port = newPort();
    const chmod = vi.spyOn(fs, 'chmodSync').mockImplementation(() => {
      throw Object.assign(new Error('EPERM'), { code: 'EPERM' });
    });
    onTestFinished(() => chmod.mockRestore());
    for (const key of [undefined, 1]) {
      const path = newPath();
      const listening = failureOf(() => port.listen({ path, readableAll: true, key }));
      expect((await listening).code).toBe('EPERM');
      await until(() => port.stats().handles === 0);
      expect(existsSync(path)).toBe(false);
    }
  });

  test('wrong places are refused at once', () => {
    const port = newPort();
    const listen = (options: object): unknown =>
      failureNow(() => void port.listen(options as { port: number }));
    const invalid = { code: 'ERR_INVALID_ARG_VALUE' };
    expect(listen({ path: '' })).toMatchObject(invalid);
    expect(listen({ path: 'a\0b' })).toMatchObject(invalid);
    expect(listen({ path: 'a', port: 1 })).toMatchObject(invalid);
    expect(listen({ path: 'a', fd: 1 })).toMatchObject(invalid);
    expect(listen({ fd: 1, host: 'x' })).toMatchObject(invalid);
    expect(listen({ port: 0, readableAll: true })).toMatchObject(invalid);
    expect(listen({ path: 5 })).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
    expect(listen({ fd: -1 })).toMatchObject({ code: 'ERR_OUT_OF_RANGE' });
    expect(listen({ port: 0, type: 'seqpacket' })).toMatchObject(invalid);
    expect(listen({})).toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
  });
});
