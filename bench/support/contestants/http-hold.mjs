/**
 * Asks an http server once on each of many connections, a few at a time, says so when all are
 * answered, and holds them until its input ends.
 */
import { once } from 'node:events';
import net from 'node:net';
import { readOptions } from '../options.mjs';

const { port, connections } = readOptions();
const AT_ONCE = 64;
const question = 'GET / HTTP/1.1\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n';
const held = [];

async function ask() {
  const socket = net.connect({ host: '127.0.0.1', port, noDelay: true });
  socket.on('end', () => {
    throw new Error('the server has ended the connection');
  });
  socket.write(question);
  let answer = '';
  while (!/\r\n\r\nx{100}$/.test(answer)) {
    const [bytes] = await once(socket, 'data');
    answer += bytes.toString('latin1');
  }
  held.push(socket);
}

let begun = 0;
async function askSome() {
  while (begun++ < connections) await ask();
}

process.on('SIGTERM', () => process.exit(0));
process.stdin.on('end', () => process.exit(0)).resume();
await Promise.all(Array.from({ length: AT_ONCE }, askSome));
process.stdout.write(`${JSON.stringify({ connections: held.length })}\n`);
