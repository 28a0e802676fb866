/**
 * Asks an echo or http server, on each connection again when all of the answer is there. Tells how
 * many answers came in the time that is measured.
 */
import net from 'node:net';
import { readOptions } from '../options.mjs';
import { report } from '../stopwatch.mjs';

const { port, kind, connections, path = '/', warmUp, seconds } = readOptions();
const end = (warmUp + seconds) * 1000;
const echoed = { echo: 64, long: 24 << 20 }[kind];
const question = echoed
  ? Buffer.alloc(echoed, 'e')
  : Buffer.from(`GET ${path} HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n`);
let began;
let messages = 0;

function answered() {
  began ??= performance.now();
  const now = performance.now() - began;
  if (now >= warmUp * 1000) messages++;
  if (now < end) return;
  report({ messages, seconds: (now - warmUp * 1000) / 1000 });
  process.exit(0);
}

/** Bytes of an answer, by its first piece. */
function lengthOf(piece) {
  if (echoed) return question.length;
  const head = piece.toString('latin1');
  const body = Number(/content-length: (\d+)/i.exec(head)[1]);
  return head.indexOf('\r\n\r\n') + 4 + body;
}

function connect() {
  let left = 0;
  const callback = (length, buffer) => {
    if (left === 0) left = lengthOf(buffer.subarray(0, length));
    left -= length;
    if (left < 0) throw new Error('more bytes than the answer has');
    if (left > 0) return true;
    answered();
    socket.write(question);
    return true;
  };
  const onread = { buffer: Buffer.allocUnsafe(256 * 1024), callback };
  const socket = net.connect({ host: '127.0.0.1', port, noDelay: true, onread });
  socket.on('end', () => {
    throw new Error('the server has ended the connection');
  });
  socket.write(question);
}

for (let i = 0; i < connections; i++) connect();
