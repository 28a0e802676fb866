/**
 * The client of file servers: asks with a byte, and again when all of the file is there, on each
 * connection. Tells how many bytes came in the time that is measured, and in all.
 */
import net from 'node:net';
import { checkChunk } from '../data.mjs';
import { readOptions } from '../options.mjs';
import { report } from '../stopwatch.mjs';

const { port, size, connections, warmUp, seconds } = readOptions();
const ROOM = 256 * 1024;
const end = (warmUp + seconds) * 1000;
let began;
let bytes = 0;
let all = 0;

/** The first chunk there begins the time: servers are up, but may have to get going. */
function take(chunk, position) {
  checkChunk(chunk, position);
  began ??= performance.now();
  const now = performance.now() - began;
  all += chunk.length;
  if (now >= warmUp * 1000) bytes += chunk.length;
  if (now < end) return;
  report({ bytes, all, seconds: (now - warmUp * 1000) / 1000 });
  process.exit(0);
}

function connect() {
  let position = 0;
  const callback = (length, buffer) => {
    take(buffer.subarray(0, length), position);
    position += length;
    if (position > size) throw new Error('more bytes than the file has');
    if (position === size) {
      position = 0;
      socket.write('.');
    }
    return true;
  };
  const onread = { buffer: Buffer.allocUnsafe(ROOM), callback };
  const socket = net.connect({ host: '127.0.0.1', port, noDelay: true, onread });
  socket.on('end', () => {
    throw new Error('the server has ended the connection');
  });
  socket.write('.');
}

for (let i = 0; i < connections; i++) connect();
