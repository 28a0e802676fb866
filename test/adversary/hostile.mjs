/**
 * Hostile clients:
 *
 *     node test/adversary/hostile.mjs PORT FRAMED SCALE KIND…
 *
 * Says so when they are in place, and goes on until it is killed. What it is to take is the server's,
 * not the processor that the honest clients run on: it runs at a lower priority, or idly.
 */
import { once } from 'node:events';
import net from 'node:net';
import os from 'node:os';
import { setTimeout as sleep } from 'node:timers/promises';

const [portText, framedText, scaleText, ...chosen] = process.argv.slice(2);
const port = Number(portText);
const framed = framedText === 'true';
/** 1: as many as the attack is known for. */
const scale = Number(scaleText);
const KiB = 1024;
const MiB = 2 ** 20;
/** The longest document that the servers take. */
const LONG = MiB - 4;
/** At one time, so that no backlog is full because of it. */
const CONNECTING = 64;
/** Milliseconds. */
const AGAIN = 10;

const some = (count) => Math.max(1, Math.round(count * scale));

function document(length, fill = 'x') {
  if (!framed) return Buffer.alloc(length, fill);
  const bytes = Buffer.alloc(4 + length, fill);
  bytes.writeUInt32BE(length);
  return bytes;
}

/** Being sent away, or not let in, is no reason to give up. */
async function connect(options = {}) {
  const socket = net.connect({ port, host: '127.0.0.1', noDelay: true, ...options });
  socket.on('error', () => undefined);
  await Promise.race([once(socket, 'connect'), once(socket, 'close')]).catch(() => undefined);
  return socket;
}

/** `count` connections that are used so, each opened again when it was closed. */
async function many(count, use, options) {
  const sockets = new Set();
  const open = async () => {
    const socket = await connect(options);
    const again = () => {
      sockets.delete(socket);
      setTimeout(open, AGAIN);
    };
    if (socket.closed) return again();
    sockets.add(socket);
    socket.once('close', again);
    use(socket);
  };
  for (let opened = 0; opened < count; opened += CONNECTING) {
    const next = Math.min(CONNECTING, count - opened);
    await Promise.all(Array.from({ length: next }, open));
  }
  return sockets;
}

/** Writes `bytes` again and again, as fast as they are taken. */
function flood(socket, bytes, total) {
  let written = 0;
  const more = () => {
    while (written < total && !socket.destroyed) {
      written += bytes.length;
      if (!socket.write(bytes)) return void socket.once('drain', more);
    }
  };
  more();
}

const kinds = {
  async 'never read'() {
    await many(some(128), (socket) => {
      socket.pause();
      flood(socket, document(LONG), 100 * MiB);
    });
    await sleep(1000 * scale);
  },

  async 'one byte a second'() {
    const onread = { buffer: Buffer.alloc(1), callback: () => false };
    const sockets = await many(some(128), (socket) => flood(socket, document(LONG), 100 * MiB), {
      onread,
    });
    setInterval(() => sockets.forEach((socket) => socket.resume()), 1000);
    await sleep(1000 * scale);
  },

  async 'as fast as it goes'() {
    await many(some(32), (socket) => {
      socket.resume();
      flood(socket, document(LONG), Infinity);
    });
    await sleep(500 * scale);
  },

  async 'announce and stall'() {
    const sockets = await many(some(512), (socket) => {
      socket.resume();
      socket.write(document(LONG).subarray(0, 32 * KiB));
    });
    setInterval(() => sockets.forEach((socket) => socket.write('x')), 1000);
    await sleep(1000 * scale);
  },

  async 'reset in the middle'() {
    await many(some(16), (socket) => {
      socket.write(document(LONG).subarray(0, 100 * KiB));
      setTimeout(() => socket.resetAndDestroy(), 1);
    });
    await sleep(200 * scale);
  },

  async 'a byte over'() {
    const byte = document(1);
    await many(some(700), (socket) => {
      socket.write(framed ? Buffer.concat([byte, byte.subarray(0, 1)]) : byte);
    });
  },

  async 'say nothing'() {
    await many(some(5000), (socket) => socket.resume());
  },

  async 'a million empties'() {
    const empties = framed ? Buffer.alloc(4 * KiB) : Buffer.from('x');
    const total = framed ? 4 * some(1e6) : some(1e6);
    const sockets = await many(2, (socket) => {
      socket.resume();
      flood(socket, empties, total);
    });
    const again = (socket) => socket.writableLength === 0 && flood(socket, empties, total);
    setInterval(() => sockets.forEach(again), 20);
    await sleep(100 * scale);
  },
};

os.setPriority(5);
process.on('disconnect', () => process.exit());
await Promise.all(chosen.map((kind) => kinds[kind]()));
process.send('in place');
