/**
 * Rule O8 where something else than the receive was told of the end first.
 */
import { describe, expect, test } from 'vitest';
import {
  Collector,
  failureOf,
  keyedWithRawPeer,
  newPort,
  pattern,
  sleep,
  temporaryFile,
  until,
  withRawPeer,
  type SocketHandle,
  skipOnWindows,
} from '../support/harness';

const large = pattern(8 << 20);

const senders = {
  send: (socket: SocketHandle) => socket.send(large),
  'several sends': (socket: SocketHandle) =>
    Promise.all(Array.from({ length: 8 }, () => socket.send(large.subarray(0, 1 << 20)))),
  end: (socket: SocketHandle) => socket.end(large),
  sendFile: async (socket: SocketHandle) => {
    const file = await socket.port.open(temporaryFile(large));
    try {
      return await socket.sendFile(file);
    } finally {
      await file.close();
    }
  },
};

describe('O8: a reset is ECONNRESET from every receive after it', () => {
  for (const [name, send] of Object.entries(senders)) {
    test(`O8: also when ${name} that waited heard of it first`, async () => {
      const port = newPort();
      for (let round = 0; round < 20; round++) {
        const { socket, peer } = await withRawPeer(port);
        peer.pause();
        const failing = failureOf(() => send(socket));
        await sleep(20);
        peer.resetAndDestroy();
        expect(['ECONNRESET', 'EPIPE']).toContain((await failing).code);
        for (let i = 0; i < 3; i++) {
          expect((await failureOf(() => socket.receive())).code).toBe('ECONNRESET');
        }
        await socket.close();
      }
    });
  }

  test('O8: what had come before the reset is received first', async () => {
    const port = newPort();
    for (let round = 0; round < 20; round++) {
      const { socket, peer } = await withRawPeer(port);
      peer.pause();
      peer.write('last words');
      const failing = failureOf(() => socket.send(large));
      await sleep(20);
      peer.resetAndDestroy();
      await failing;
      expect((await socket.receive()).toString()).toBe('last words');
      expect((await failureOf(() => socket.receive())).code).toBe('ECONNRESET');
      await socket.close();
    }
  });

  test('O8: with sends and receives of packet style', async () => {
    const port = newPort();
    const collector = new Collector(port);
    for (let round = 0; round < 20; round++) {
      const { socket, peer } = await keyedWithRawPeer(port, 100 + round);
      const mine = (type: string) =>
        collector.packets.filter((it) => it.key === 100 + round && it.type === type);
      peer.pause();
      socket.send(large);
      await sleep(5);
      peer.resetAndDestroy();
      await until(() => mine('sent').length > 0);
      socket.receive();
      await until(() => mine('received').length > 0);
      expect(mine('received')[0]!.error).toMatchObject({ code: 'ECONNRESET' });
      socket.close();
      await until(() => mine('closed').length > 0);
    }
  });

  test('O8: an orderly end before it stays one, though later sends fail', async (context) => {
    skipOnWindows(context, 'there a reset throws away what had come before it');
    const port = newPort();
    for (let round = 0; round < 20; round++) {
      const { socket, peer } = await withRawPeer(port);
      peer.end('last words');
      peer.destroySoon();
      await until(() => peer.destroyed);
      await failureOf(async () => {
        for (;;) {
          await socket.send('x');
          await sleep(1);
        }
      });
      expect((await socket.receive()).toString()).toBe('last words');
      expect(await socket.receive()).toHaveLength(0);
      expect(await socket.receive()).toHaveLength(0);
      await socket.close();
    }
  });
});

describe('O8: end() when there is nobody left to be told', () => {
  test('O8: after a reset it fails with ECONNRESET', async (context) => {
    skipOnWindows(context, 'shutdown does not tell of it there');
    const port = newPort();
    for (let round = 0; round < 20; round++) {
      const { socket, peer } = await withRawPeer(port);
      const failing = failureOf(() => socket.receive());
      peer.resetAndDestroy();
      await failing;
      expect((await failureOf(() => socket.end())).code).toBe('ECONNRESET');
      await socket.close();
    }
  });

  test('O8: what is linked behind it runs when nobody was left', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    peer.resume().end();
    await socket.receive();
    await socket.end();
    await until(() => peer.destroyed);
    const [ended, received] = socket.link(() => [socket.end(), socket.receive()] as const);
    await ended;
    expect(await received).toHaveLength(0);
  });

  test('O8: after both sides have ended it succeeds', async () => {
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    peer.resume().end();
    expect(await socket.receive()).toHaveLength(0);
    await socket.end();
    await until(() => peer.destroyed);
    await sleep(5);
    await socket.end();
    await socket.end();
  });
});
