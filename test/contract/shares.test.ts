/**
 * The memory limit is shared among connections: what one has to send makes no other's send fail
 * (rule M7).
 */
import type net from 'node:net';
import { describe, expect, test } from 'vitest';
import {
  codeOf,
  Collector,
  failureNow,
  keyedWithRawPeer,
  newPort,
  pattern,
  rawClient,
  until,
  withRawPeer,
  type CompletionPort,
} from '../support/harness';
import { newPipeline } from '../support/stages';
import { defineStage, frames } from '../../dist/stages.js';

const MiB = 1 << 20;
const LIMIT = 16 * MiB;
/** More than the kernel keeps for a connection in both directions. */
const much = 24 * MiB;

/** What everybody sends, from its beginning on. */
const text = pattern(10 * LIMIT);

function part(from: number, length: number): Buffer {
  return text.subarray(from, from + length);
}

/** Counts what a client gets, and whether it is `text`. */
class Reader {
  bytes = 0;
  right = true;

  constructor(client: net.Socket) {
    client.on('data', (bytes: Buffer) => {
      const expected = part(this.bytes, bytes.length);
      this.right &&= bytes.equals(expected);
      this.bytes += bytes.length;
    });
    client.resume();
  }

  async has(bytes: number): Promise<void> {
    await until(() => this.bytes >= bytes);
    expect([this.bytes, this.right]).toEqual([bytes, true]);
  }
}

/** Sends pieces of `pattern` until that is refused; how much was sent. */
function sendAll(send: (bytes: Buffer) => boolean): { sent: number; code?: string; told: boolean } {
  const size = 256 * 1024;
  for (let sent = 0, told = false; ; sent += size) {
    let below = true;
    const error = sent < 10 * LIMIT ? tryTo(() => (below = send(part(sent, size)))) : undefined;
    if (error !== undefined) return { sent, code: codeOf(error)!, told };
    if (sent >= 10 * LIMIT) return { sent, told };
    told ||= !below;
  }
}

function tryTo(fn: () => unknown): NodeJS.ErrnoException | undefined {
  try {
    fn();
    return undefined;
  } catch (error) {
    return error as NodeJS.ErrnoException;
  }
}

/** Takes what is left of the limit. */
function takeRest(port: CompletionPort): Buffer[] {
  const taken: Buffer[] = [];
  for (let size = LIMIT; size >= 4096; size /= 2) {
    while (tryTo(() => taken.push(port.allocate(size))) === undefined);
  }
  return taken;
}

describe('M7: one that has taken all it could makes no other one’s send fail', () => {
  test('M7: packets', async () => {
    const port = newPort({ memoryLimit: LIMIT });
    port.consume(() => undefined);
    const greedy = await keyedWithRawPeer(port, 1);
    greedy.peer.pause();
    const { sent, code, told } = sendAll((bytes) => greedy.socket.send(bytes));
    expect({ code, told }).toEqual({ code: 'ERR_MEMORY_LIMIT', told: true });
    const other = await keyedWithRawPeer(port, 2);
    other.peer.pause();
    expect(other.socket.send(part(0, LIMIT))).toBe(false);
    const small = await keyedWithRawPeer(port, 3);
    const reader = new Reader(small.peer);
    for (let i = 0; i < 1000; i++) small.socket.send(part(i * 100, 100));
    small.socket.send(part(100_000, MiB));
    await reader.has(100_000 + MiB);
    await new Reader(other.peer).has(LIMIT);
    await new Reader(greedy.peer).has(sent);
    await until(() => port.stats().allocatedBytes === 0);
  });

  test('M7: await style: neither its sends nor those of others fail', async () => {
    const port = newPort({ memoryLimit: LIMIT });
    const greedy = await withRawPeer(port);
    greedy.peer.pause();
    greedy.socket.highWaterMark = 2 ** 30;
    const sends: Promise<number>[] = [];
    for (let sent = 0; sent < 2 * much; sent += MiB) {
      sends.push(greedy.socket.send(part(sent, MiB)).then());
    }
    // What is free is as much as it took.
    expect(port.stats().allocatedBytes).toBeLessThanOrEqual(LIMIT / 2 + MiB);
    const taken = takeRest(port);
    const other = await withRawPeer(port);
    const reader = new Reader(other.peer);
    for (let i = 0; i < 8; i++) {
      expect(await other.socket.send(part(i * MiB, MiB))).toBe(MiB);
    }
    expect(await other.socket.send(part(8 * MiB, 100))).toBe(100);
    await reader.has(8 * MiB + 100);
    for (const buffer of taken) port.release(buffer);
    const all = new Reader(greedy.peer);
    expect(await Promise.all(sends)).toEqual(sends.map(() => MiB));
    await all.has(2 * much);
    await until(() => port.stats().allocatedBytes === 0);
  });

  test('M7: stages', async () => {
    const told: { sent: number; code?: string; told: boolean }[] = [];
    const stage = defineStage({
      states: {
        open: {
          received(c, bytes) {
            if (bytes.toString() === 'all') return void told.push(sendAll((some) => c.send(some)));
            c.send(part(0, MiB));
          },
        },
      },
    });
    const pipeline = newPipeline({ one: { stage, threads: 0 } }, { memoryLimit: LIMIT });
    const failures: unknown[] = [];
    pipeline.on('failed', ({ error }) => failures.push(error));
    const { port } = await pipeline.listen('one', { host: '127.0.0.1', port: 0 });
    const greedy = await rawClient(port);
    greedy.pause();
    greedy.write('all');
    await until(() => told.length === 1);
    expect(told[0]).toMatchObject({ code: 'ERR_MEMORY_LIMIT', told: true });
    for (let i = 0; i < 4; i++) {
      const client = await rawClient(port);
      client.write('one');
      await new Reader(client).has(MiB);
    }
    await new Reader(greedy).has(told[0]!.sent);
    expect(failures).toEqual([]);
    await until(() => pipeline.stats().stages['one']!.port.allocatedBytes === 0);
  });

  test('M7: answers of documents', async () => {
    const answer = 12 * MiB;
    let replies = 0;
    const stage = defineStage({
      states: {
        work: {
          handedOff(c) {
            const reply = c.reply(part(0, answer));
            replies++;
            return reply;
          },
        },
      },
    });
    const pipeline = newPipeline(
      {
        spool: { native: frames({ length: 'u32be', stallTimeout: 0, minRate: 0 }), next: 'work' },
        work: { stage, threads: 0 },
      },
      { memoryLimit: LIMIT },
    );
    const failures: unknown[] = [];
    pipeline.on('failed', ({ error }) => failures.push(error));
    const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
    const clients = await Promise.all(Array.from({ length: 4 }, () => rawClient(port)));
    for (const client of clients) {
      client.pause();
      client.write(Buffer.from([0, 0, 0, 1, 120]));
    }
    await until(() => replies + failures.length === clients.length);
    expect(failures).toEqual([]);
    for (const client of clients) await new Reader(client).has(answer);
    await until(() => pipeline.stats().stages['work']!.port.allocatedBytes === 0);
  });
});

describe('M7: where memory is short a connection has enough sooner', () => {
  test('M7: send tells it, and a drain packet follows', async () => {
    const port = newPort({ memoryLimit: LIMIT });
    const collector = new Collector(port);
    const { socket, peer } = await keyedWithRawPeer(port, 1);
    peer.pause();
    const taken = takeRest(port);
    expect(socket.send(part(0, 1000))).toBe(true);
    expect(socket.send(part(1000, 100_000))).toBe(false);
    // It has less than its mark, so that is not refused; what follows is, as long as there is none.
    expect(socket.send(part(101_000, LIMIT))).toBe(false);
    expect(codeOf(failureNow(() => socket.send(part(0, 5000))))).toBe('ERR_MEMORY_LIMIT');
    for (const buffer of taken) port.release(buffer);
    await new Reader(peer).has(101_000 + LIMIT);
    expect((await collector.first('drain')).key).toBe(1);
    await until(() => port.stats().allocatedBytes === 0);
  });

  test('M7: one send of more than the limit is refused always', async () => {
    const port = newPort({ memoryLimit: MiB });
    const { socket } = await keyedWithRawPeer(port, 1);
    for (const data of [Buffer.alloc(MiB + 1), 'x'.repeat(2 * MiB), [Buffer.alloc(MiB), 'x']]) {
      expect(codeOf(failureNow(() => socket.send(data)))).toBe('ERR_MEMORY_LIMIT');
    }
    expect(port.stats().allocatedBytes).toBe(0);
  });
});
