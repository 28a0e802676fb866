/**
 * `c.close()` after `c.send()`: what was sent arrives, or the peer is told that it did not.
 */
import { describe, expect, test } from 'vitest';
import { defineStage } from '../../dist/stages.js';
import { failureOf, newPort, pattern, rawClient, sleep, until } from '../support/harness';
import { newPipeline } from '../support/stages';

const MiB = 1 << 20;

/** Answers the first bytes with `length` bytes and closes. */
async function answering(length: number) {
  const stage = defineStage({
    states: {
      open: {
        received(c) {
          c.send(pattern(length));
          return c.close();
        },
      },
    },
  });
  const pipeline = newPipeline({ one: { stage, threads: 0 } });
  const failures: string[] = [];
  pipeline.on('failed', ({ event, error }) => {
    failures.push(`${event} ${(error as NodeJS.ErrnoException).code}`);
  });
  const { port } = await pipeline.listen('one', { host: '127.0.0.1', port: 0 });
  return { pipeline, port, failures };
}

describe('closing after a send', () => {
  test('a steady reader gets all, however long it takes', async () => {
    const length = 24 * MiB;
    const { pipeline, port, failures } = await answering(length);
    const client = await rawClient(port);
    client.pause();
    client.write('x');
    let got = 0;
    let ended = false;
    client.on('end', () => (ended = true));
    // Slower than two seconds for all of it, and never still for so long.
    while (!ended) {
      const bytes = client.read() as Buffer | null;
      got += bytes?.length ?? 0;
      await sleep(got < 12 * MiB ? 25 : 1);
    }
    expect(got).toBe(length);
    client.end();
    await until(() => pipeline.stats().connections === 0);
    expect(failures).toEqual([]);
  });

  test('a peer that takes nothing is reset and told of as failed', async () => {
    const { pipeline, port, failures } = await answering(64 * MiB);
    const here = newPort();
    const client = await here.connect({ host: '127.0.0.1', port });
    await client.send('x');
    await until(() => failures.length > 0);
    expect(failures).toEqual(['close ETIMEDOUT']);
    await until(() => pipeline.stats().connections === 0);
    const failure = await failureOf(async () => {
      while ((await client.receive()).length > 0);
    });
    expect(failure.code).toBe('ECONNRESET');
  });

  test('an answer reaches a client that still uploads', async () => {
    const { pipeline, port, failures } = await answering(8 * MiB);
    for (let round = 0; round < 5; round++) {
      const client = await rawClient(port);
      const parts: Buffer[] = [];
      let ended = false;
      client.on('data', (chunk) => parts.push(chunk));
      client.on('end', () => (ended = true));
      const upload = (): void => {
        if (ended || client.destroyed) return;
        client.write(Buffer.alloc(65536), (error) => error ?? upload());
      };
      upload();
      await until(() => ended || client.destroyed);
      expect(Buffer.concat(parts).equals(pattern(8 * MiB))).toBe(true);
      client.end();
      await until(() => pipeline.stats().connections === 0);
    }
    expect(failures).toEqual([]);
  });

  test('a client that uploads for ever is closed all the same', async () => {
    const { pipeline, port } = await answering(10);
    const client = await rawClient(port);
    const upload = (): void => {
      if (client.destroyed) return;
      client.write(Buffer.alloc(65536), (error) => error ?? upload());
    };
    client.resume();
    upload();
    await until(() => client.destroyed);
    await until(() => pipeline.stats().connections === 0);
  });
});
