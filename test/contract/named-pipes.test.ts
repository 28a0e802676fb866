/** Named pipes, as far as they are not what UNIX sockets are. */
import net from 'node:net';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  codeOf,
  failureNow,
  failureOf,
  newPort,
  pattern,
  skipUnderWine,
  windows,
} from '../support/harness';
import { newSocketPath } from '../support/socket-path';

describe.runIf(windows)('named pipes', () => {
  test('addresses and options', async () => {
    const port = newPort();
    const path = newSocketPath();
    const listener = await port.listen({ path, recvBufferSize: 10_000, sendBufferSize: 20_000 });
    expect(listener.address()).toEqual({ address: path, port: 0, family: 'unix' });
    const accepting = listener.accept();
    const client = await port.connect({ path });
    const server = await accepting;
    expect([client.localAddress, client.remoteAddress]).toEqual([undefined, undefined]);
    expect(client.setNoDelay().setKeepAlive(true)).toBe(client);
    expect(server.type).toBe('stream');
    expect(failureNow(() => client.setOptions({ recvBufferSize: 1 })).code).toBe('ENOTSUP');
    const sized = await failureOf(() => port.connect({ path, recvBufferSize: 1 }));
    expect(sized.code).toBe('ENOTSUP');
    expect(await failureOf(() => server.sendHandle([0], 'x'))).toMatchObject({ code: 'ENOTSUP' });
  });

  test('names', async () => {
    const port = newPort();
    const codeFor = async (path: string): Promise<unknown> => [
      codeOf(await failureOf(() => port.listen({ path }))),
      codeOf(await failureOf(() => port.connect({ path }))),
    ];
    for (const wrong of ['C:\\pipe', '/tmp/socket', '\\\\.\\pipe\\', '\0abstract']) {
      expect(await codeFor(wrong)).toEqual(['EINVAL', 'EINVAL']);
    }
    const long = `\\\\.\\pipe\\${'x'.repeat(300)}`;
    expect(await codeFor(long)).toEqual(['ENAMETOOLONG', 'ENAMETOOLONG']);
    const seqpacket = { path: newSocketPath(), type: 'seqpacket' } as const;
    expect(failureNow(() => void port.listen(seqpacket)).code).toBe('ENOTSUP');
    expect(failureNow(() => void port.connect(seqpacket)).code).toBe('ENOTSUP');
    const path = newSocketPath().replace('\\\\.\\', '\\\\?\\');
    const listener = await port.listen({ path });
    const client = await port.connect({ path });
    await client.send('by the other prefix');
    const server = await listener.accept();
    expect(String(await server.receive())).toBe('by the other prefix');
  });

  test('a name that somebody has', async (context) => {
    skipUnderWine(context, 'FILE_FLAG_FIRST_PIPE_INSTANCE has no effect');
    const port = newPort();
    const path = newSocketPath();
    const listener = await port.listen({ path });
    const taken = { code: 'EADDRINUSE', syscall: 'listen', address: path };
    expect(await failureOf(() => port.listen({ path }))).toMatchObject(taken);
    const byNode = net.createServer().listen(path);
    expect(codeOf((await once(byNode, 'error'))[0])).toBe('EADDRINUSE');
    await listener.close();
    const server = net.createServer().listen(path);
    await once(server, 'listening');
    onTestFinished(() => void server.close());
    expect(await failureOf(() => port.listen({ path }))).toMatchObject(taken);
  });

  test('a name that nobody has', async () => {
    const port = newPort();
    const path = newSocketPath();
    const nobody = { code: 'ENOENT', syscall: 'connect', address: path };
    expect(await failureOf(() => port.connect({ path }))).toMatchObject(nobody);
    const listener = await port.listen({ path });
    await listener.close();
    expect(await failureOf(() => port.connect({ path }))).toMatchObject(nobody);
  });

  test('who finds no instance waits for one, and can give up', async () => {
    const port = newPort();
    const path = newSocketPath();
    const listener = await port.listen({ path });
    const first = await port.connect({ path });
    expect(codeOf(await failureOf(() => port.connect({ path, timeout: 100 })))).toBe('ETIMEDOUT');
    const second = port.connect({ path });
    const third = port.connect({ path });
    third.cancel();
    expect(codeOf(await failureOf(() => third))).toBe('ECANCELED');
    await first.send('1');
    expect(String(await (await listener.accept()).receive())).toBe('1');
    await (await second).send('2');
    expect(String(await (await listener.accept()).receive())).toBe('2');
  });

  test('readableAll and writableAll', async () => {
    const port = newPort();
    const path = newSocketPath();
    const listener = await port.listen({ path, readableAll: true, writableAll: true });
    const client = await port.connect({ path });
    await client.send('let in');
    expect(String(await (await listener.accept()).receive())).toBe('let in');
  });

  test('O12 the peer hears of an end when the pipe is closed', async () => {
    const port = newPort();
    const path = newSocketPath();
    const listener = await port.listen({ path });
    const client = await port.connect({ path });
    const server = await listener.accept();
    await client.end('a question');
    expect(codeOf(await failureOf(() => client.send('more')))).toBe('EPIPE');
    expect(String(await server.receive())).toBe('a question');
    const receiving = server.receive();
    await server.send('an answer');
    expect(String(await client.receive())).toBe('an answer');
    await client.close();
    expect(await receiving).toHaveLength(0);
  });

  test('O12 nothing follows a send that was cancelled on its way', async () => {
    const port = newPort();
    const path = newSocketPath();
    const listener = await port.listen({ path });
    const client = await port.connect({ path });
    const server = await listener.accept();
    const sending = client.send(pattern(4_000_000));
    await sleep(100);
    sending.cancel();
    expect(codeOf(await failureOf(() => sending))).toBe('ECANCELED');
    expect(codeOf(await failureOf(() => client.send('more')))).toBe('ECONNABORTED');
    await client.close();
    await server.close();
  });
});
