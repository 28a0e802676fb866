import type net from 'node:net';
import { describe, expect, test } from 'vitest';
import { newSeed, pattern, Random, rawClient, sleep } from '../support/harness';
import { describeDrivers, outcome, startServer, stopped, write } from '../support/examples';

/** Sends in chunks of random sizes, now and then with a pause, and then the end. */
async function sendRandomly(socket: net.Socket, bytes: Buffer, random: Random): Promise<void> {
  for (let at = 0; at < bytes.length;) {
    const most = [8, 2000, 100_000][random.below(3)]!;
    const end = at + 1 + random.below(most);
    await write(socket, bytes.subarray(at, end));
    if (random.below(8) === 0) await sleep(1);
    at = end;
  }
  socket.end();
}

describeDrivers('echo', (driver) => {
  describe.each([1, 2])('threads: %i', (threads) => {
    test('sends back every byte, to 20 connections at a time', async () => {
      const server = await startServer('echo', driver, threads);
      const seed = newSeed(`echo, ${driver}, ${threads}`);
      const work = Array.from({ length: 20 }, async (_, i) => {
        const random = new Random(seed + i * 7919);
        const bytes = random.bytes(random.below(600_000));
        const socket = await rawClient(server.port);
        socket.setNoDelay();
        const received = outcome(socket);
        await sendRandomly(socket, bytes, random);
        const { bytes: answer, how } = await received;
        expect(how).toBe('end');
        expect(answer.equals(bytes), `connection ${i}: ${answer.length} of ${bytes.length}`).toBe(
          true,
        );
      });
      await Promise.all(work);
      expect(await server.stop()).toMatchObject(stopped);
    });

    test('an end that comes with the first bytes, or alone, is answered with the end', async () => {
      const server = await startServer('echo', driver, threads);
      const alone = await rawClient(server.port);
      alone.end();
      expect(await outcome(alone)).toEqual({ bytes: Buffer.alloc(0), how: 'end' });
      const both = await rawClient(server.port);
      both.end('hello');
      expect(await outcome(both)).toEqual({ bytes: Buffer.from('hello'), how: 'end' });
    });

    test('a client that reads only when it has sent everything gets everything', async () => {
      const server = await startServer('echo', driver, threads);
      const bytes = pattern(64 * 2 ** 20);
      const socket = await rawClient(server.port);
      let drained = false;
      socket.end(bytes, () => (drained = true));
      await sleep(50);
      // More than the kernel holds: the server has stopped receiving.
      expect(drained).toBe(false);
      const { bytes: answer, how } = await outcome(socket);
      expect(how).toBe('end');
      expect(answer.equals(bytes)).toBe(true);
    });

    test('clients that reset their connections disturb nobody', async () => {
      const server = await startServer('echo', driver, threads);
      const steady = await rawClient(server.port);
      const received = outcome(steady);
      const rounds = 20;
      for (let i = 0; i < rounds; i++) {
        const client = await rawClient(server.port);
        if (i % 4 > 0) client.write(pattern(i % 4 === 1 ? 10 : 500_000));
        if (i % 4 === 3) await new Promise((resolve) => client.once('data', resolve));
        client.resetAndDestroy();
        await write(steady, Buffer.from(`round ${i}\n`));
      }
      steady.end();
      const { bytes, how } = await received;
      expect(how).toBe('end');
      expect(String(bytes)).toBe(Array.from({ length: rounds }, (_, i) => `round ${i}\n`).join(''));
      expect(await server.stop()).toMatchObject(stopped);
    });
  });
});
