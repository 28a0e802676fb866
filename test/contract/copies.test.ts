/**
 * What is sent or written from a program's own memory is copied, and the copies follow their size
 * (rule M6).
 */
import type net from 'node:net';
import { describe, expect, test } from 'vitest';
import {
  keyedWithRawPeer,
  newPort,
  pattern,
  rawClient,
  temporaryFile,
  turns,
  until,
  withRawPeer,
  type CompletionPort,
  type KeyedSocket,
} from '../support/harness';
import { newPipeline } from '../support/stages';
import { defineStage } from '../../dist/stages.js';

const MiB = 1 << 20;
/** More than the kernel keeps for a connection in both directions. */
const much = Buffer.alloc(32 * MiB);
/** Bytes of the pool that a send of one byte may take. */
const FOR_ONE_BYTE = 64;

/** The byte that send number `i` sends. */
function letter(i: number): string {
  return String.fromCharCode(97 + (i % 26));
}

/** All that comes after the first `skipped` bytes, as soon as there are `length` of them. */
async function rest(peer: net.Socket, skipped: number, length: number): Promise<Buffer> {
  const parts: Buffer[] = [];
  let bytes = 0;
  peer.on('data', (part: Buffer) => {
    if (bytes + part.length > skipped) parts.push(part.subarray(Math.max(0, skipped - bytes)));
    bytes += part.length;
  });
  peer.resume();
  await until(() => bytes >= skipped + length);
  return Buffer.concat(parts);
}

function lettersInOrder(bytes: Buffer): boolean {
  return bytes.every((byte, i) => byte === 97 + (i % 26));
}

describe('M6: copies take as much of the pool as they have bytes', () => {
  test('M6: 200,000 queued sends of one byte take less than 64 bytes each (packets)', async () => {
    const count = 200_000;
    const port = newPort();
    const { socket, peer } = await keyedWithRawPeer(port, 1);
    port.consume(() => undefined);
    peer.pause();
    socket.send(much, { quiet: true });
    const before = port.stats().allocatedBytes;
    for (let i = 0; i < count; i++) {
      socket.send(i % 2 === 0 ? letter(i) : Buffer.from(letter(i)), { quiet: true });
      if (i % 5000 === 0) await turns(1);
    }
    await turns(1);
    expect(socket.bufferedAmount).toBeGreaterThan(count);
    expect(port.stats().allocatedBytes - before).toBeLessThan(count * FOR_ONE_BYTE);
    socket.close();
    await until(() => port.stats().allocatedBytes === 0);
  });

  test('M6: one send in each turn does, too (await style)', async () => {
    const count = 2000;
    const port = newPort();
    const { socket, peer } = await withRawPeer(port);
    socket.highWaterMark = 64 * MiB;
    peer.pause();
    const sends = [socket.send(much)];
    const before = port.stats().allocatedBytes;
    for (let i = 0; i < count; i++) {
      sends.push(socket.send(i % 2 === 0 ? letter(i) : [Buffer.from(letter(i)), '']));
      await turns(1);
    }
    expect(port.stats().allocatedBytes - before).toBeLessThan(count * FOR_ONE_BYTE);
    expect(lettersInOrder(await rest(peer, much.length, count))).toBe(true);
    await Promise.all(sends);
    await until(() => port.stats().allocatedBytes === 0);
  });

  test('M6: those of a stage do, too', async () => {
    const count = 4000;
    let sent = 0;
    const stage = defineStage({
      states: {
        open: {
          entered(c) {
            c.send(much);
            for (let i = 0; i < count; i++, sent++) c.send(letter(i));
          },
          received() {
            // Nothing.
          },
        },
      },
    });
    const pipeline = newPipeline({ one: { stage, threads: 0 } });
    const stats = () => pipeline.stats().stages['one']!.port;
    const { port } = await pipeline.listen('one', { host: '127.0.0.1', port: 0 });
    const client = await rawClient(port);
    client.pause();
    await until(() => sent === count);
    expect(stats().allocatedBytes - much.length).toBeLessThan(count * FOR_ONE_BYTE);
    expect(lettersInOrder(await rest(client, much.length, count))).toBe(true);
    await until(() => stats().allocatedBytes === 0);
  });

  test('M6: so do those that are written to files', async () => {
    const count = 1000;
    const port = newPort();
    const file = await port.open(temporaryFile(), 'r+');
    const writes = Array.from({ length: count }, (_, i) => file.write(letter(i), i));
    expect(port.stats().allocatedBytes).toBeLessThan(count * FOR_ONE_BYTE);
    await Promise.all(writes);
    expect(lettersInOrder(await file.read({ position: 0, length: count }))).toBe(true);
    await until(() => port.stats().allocatedBytes === 0);
  });
});

/** Sends messages of `from`, each with its number, and checks that `peer` gets them as they were. */
async function talk(
  port: CompletionPort,
  socket: KeyedSocket,
  peer: net.Socket,
  sizes: readonly number[],
): Promise<void> {
  const parts: Buffer[] = [];
  let [sent, got] = [0, 0];
  peer.on('data', (part: Buffer) => {
    parts.push(part);
    got += part.length;
  });
  const own = Buffer.alloc(Math.max(...sizes));
  for (const size of sizes) {
    pattern(size, sent).copy(own);
    socket.send(own.subarray(0, size), { quiet: true });
    own.fill(0xee);
    sent += size;
    if (size % 3 === 0) await turns(1);
  }
  await until(() => got === sent);
  expect(Buffer.concat(parts).equals(Buffer.concat(sizes.map(piecesFrom())))).toBe(true);
  await until(() => port.stats().allocatedBytes === 0);
}

function piecesFrom(): (size: number) => Buffer {
  let at = 0;
  return (size) => {
    const piece = pattern(size, at);
    at += size;
    return piece;
  };
}

test('M6: a block that copies share is used again when the last of them is out, not before', async () => {
  const port = newPort({ memoryLimit: 64 * 1024 });
  const slow = await keyedWithRawPeer(port, 1);
  const fast = await keyedWithRawPeer(port, 2);
  port.consume(() => undefined);
  const sizes = Array.from({ length: 3000 }, (_, i) => 1 + ((i * 37) % 1100));
  await talk(port, fast.socket, fast.peer, sizes);
  // What the slow one waits to send lies in blocks between those of the fast one.
  const other = newPort();
  const keyed = await keyedWithRawPeer(other, 3);
  other.consume(() => undefined);
  keyed.peer.pause();
  keyed.socket.send(much, { quiet: true });
  const quick = await keyedWithRawPeer(other, 4);
  const heard: Buffer[] = [];
  quick.peer.on('data', (part: Buffer) => heard.push(part));
  for (let i = 0; i < 2000; i++) {
    keyed.socket.send(letter(i), { quiet: true });
    quick.socket.send('quick', { quiet: true });
    if (i % 7 === 0) await turns(1);
  }
  await until(() => heard.reduce((sum, part) => sum + part.length, 0) === 10_000);
  expect(Buffer.concat(heard).toString()).toBe('quick'.repeat(2000));
  expect(lettersInOrder(await rest(keyed.peer, much.length, 2000))).toBe(true);
  await until(() => other.stats().allocatedBytes === 0);
  await talk(port, slow.socket, slow.peer, sizes);
});

test('M6: copies of a chain that does not run are taken back, and those after it are right', async () => {
  const port = newPort();
  const { socket, peer } = await withRawPeer(port);
  for (let i = 0; i < 100; i++) {
    expect(() =>
      socket.link(() => {
        socket.send('x'.repeat(900)).catch(() => undefined);
        throw new Error('no chain');
      }),
    ).toThrow('no chain');
  }
  const sends = socket.link(() => Array.from({ length: 200 }, (_, i) => socket.send(letter(i))));
  expect(lettersInOrder(await rest(peer, 0, 200))).toBe(true);
  await Promise.all(sends);
  await until(() => port.stats().allocatedBytes === 0);
});
