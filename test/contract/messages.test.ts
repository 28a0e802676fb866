/**
 * UNIX sockets that keep the borders of messages: `type: 'seqpacket'`.
 */
import { describe, expect, test } from 'vitest';
import net from '../../dist/node-net.js';
import {
  newPort,
  temporaryDirectory,
  windows,
  type CompletionPort,
  type KeyedSocket,
  type SocketHandle,
} from '../support/harness';
import { fixture, newPipeline } from '../support/stages';

async function pairOf(port: CompletionPort): Promise<[SocketHandle, SocketHandle]> {
  const path = `${temporaryDirectory()}/socket`;
  const listener = await port.listen({ path, type: 'seqpacket' });
  const [client, server] = await Promise.all([
    port.connect({ path, type: 'seqpacket' }),
    listener.accept(),
  ]);
  await listener.close();
  return [client, server];
}

describe.skipIf(windows)('messages', () => {
  test('O11: each send is a message, and each receive brings one', async () => {
    const port = newPort();
    const [client, server] = await pairOf(port);
    expect([client.type, server.type]).toEqual(['seqpacket', 'seqpacket']);
    for (const message of ['one', ['t', Buffer.from('wo')], 'three'.repeat(1000)]) {
      await client.send(message);
    }
    expect(String(await server.receive())).toBe('one');
    expect(String(await server.receive())).toBe('two');
    const memory = Buffer.alloc(6000);
    expect(await server.receive(memory)).toBe(5000);
    await port.close();
  });

  test('O11: a loop gives message after message, and ends with end()', async () => {
    const port = newPort();
    const [client, server] = await pairOf(port);
    const sizes = Array.from({ length: 300 }, (_, i) => 1 + ((i * 7919) % 9000));
    const sent = (async () => {
      for (const size of sizes) await client.send(Buffer.alloc(size, size));
      await client.end();
    })();
    const received: number[] = [];
    for await (const bytes of server) {
      expect(bytes.every((byte) => byte === bytes.length % 256)).toBe(true);
      received.push(bytes.length);
    }
    expect(received).toEqual(sizes);
    await sent;
    await port.close();
  });

  test('O11: a multishot receive gives a packet for each message', async () => {
    const port = newPort();
    const path = `${temporaryDirectory()}/socket`;
    await port.listen({ path, type: 'seqpacket', key: 1 });
    const client = await port.connect({ path, type: 'seqpacket' });
    const received: string[] = [];
    const all = (async () => {
      for await (const packet of port.packets()) {
        if (packet.type === 'accepted') packet.accepted!.receive({ multishot: true });
        else if (packet.type === 'received' && packet.bytes > 0) received.push(String(packet.data));
        else if (packet.type === 'received') return;
      }
    })();
    const sent = Array.from({ length: 200 }, (_, i) => `message ${i}`);
    await Promise.all(sent.map((message) => client.send(message)));
    await client.end();
    await all;
    expect(received).toEqual(sent);
    await port.close();
  });

  test('O11: nothing to send is no message, which would be the end', async () => {
    const port = newPort();
    const [client, server] = await pairOf(port);
    expect(await client.send('')).toBe(0);
    await client.send('after');
    expect(String(await server.receive())).toBe('after');

    const path = `${temporaryDirectory()}/socket`;
    const listener = await port.listen({ path, type: 'seqpacket' });
    const keyed = await port.connect({ path, type: 'seqpacket', key: 3 });
    const accepted = await listener.accept();
    keyed.send('');
    keyed.send('x');
    expect(String(await accepted.receive())).toBe('x');
    await port.close();
  });

  test('O11: a message that has no room is EMSGSIZE, and the next one comes whole', async () => {
    const port = newPort({ buffers: { size: 4096 } });
    const [client, server] = await pairOf(port);
    for (const size of [5000, 4096, 100, 10]) await client.send(Buffer.alloc(size, 'x'));
    await expect(server.receive()).rejects.toMatchObject({ code: 'EMSGSIZE' });
    expect(await server.receive()).toHaveLength(4096);
    await expect(server.receive(Buffer.alloc(99))).rejects.toMatchObject({ code: 'EMSGSIZE' });
    expect(String(await server.receive())).toBe('x'.repeat(10));
    const tooLong = client.send(Buffer.alloc(16 * 1024 * 1024));
    await expect(tooLong).rejects.toMatchObject({ code: 'EMSGSIZE' });
    await client.send('still there');
    expect(String(await server.receive())).toBe('still there');
    await port.close();
  });

  test('O11: what is made of a stream says ENOTSUP, and a listener of the other type EPROTOTYPE', async () => {
    const port = newPort();
    const [client] = await pairOf(port);
    const file = await port.open('/etc/hostname');
    await expect(client.sendFile(file)).rejects.toMatchObject({ code: 'ENOTSUP' });
    expect(() => new net.Socket({ handle: client })).toThrow(
      expect.objectContaining({ code: 'ENOTSUP' }),
    );
    const pipeline = newPipeline({ echo: { stage: fixture('echo.mjs'), threads: 1 } });
    const path = `${temporaryDirectory()}/socket`;
    await expect(pipeline.listen('echo', { path, type: 'seqpacket' })).rejects.toMatchObject({
      code: 'ENOTSUP',
    });
    const already = await port.listen({ path, type: 'seqpacket' });
    await expect(pipeline.listen('echo', { fd: already.fd })).rejects.toMatchObject({
      code: 'ENOTSUP',
    });
    await already.close();
    await pipeline.close();
    const listener = await port.listen({ path: `${path}2` });
    const other = port.connect({ path: `${path}2`, type: 'seqpacket' });
    await expect(other).rejects.toMatchObject({ code: 'EPROTOTYPE' });
    expect(() => port.listen({ port: 0, type: 'seqpacket' } as never)).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
    );
    await listener.close();
    await port.close();
  });

  test('O11: messages go along in a hand-off', async () => {
    const port = newPort();
    const other = newPort();
    const path = `${temporaryDirectory()}/socket`;
    await port.listen({ path, type: 'seqpacket', key: 1 });
    const client = await port.connect({ path, type: 'seqpacket' });
    await client.send('first');
    await client.send('second');
    port.consume((packet) => {
      if (packet.type === 'accepted') packet.accepted!.handOff(other, 7);
    });
    const got: string[] = [];
    for await (const packet of other.packets()) {
      if (packet.type === 'received') got.push(String(packet.data));
      if (got.length === 2) break;
      (packet.handle as KeyedSocket).receive();
    }
    expect(got).toEqual(['first', 'second']);
    await port.close();
    await other.close();
  });
});
