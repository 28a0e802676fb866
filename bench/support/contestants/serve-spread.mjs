/**
 * Clients of several servers that stay, and of whom half go, whichever, and as many come anew.
 * Reports how many connections the server with most has for each of the one with least.
 */
import { once } from 'node:events';
import net from 'node:net';
import { setTimeout as sleep } from 'node:timers/promises';
import { randomNumbers } from '../data.mjs';
import { readOptions } from '../options.mjs';
import { report } from '../stopwatch.mjs';

const { port, connections, servers, seed } = readOptions();
/** Until all servers know that connections have ended. */
const NOTICED = 200;

/** A connection, and who has it. */
async function connect() {
  const socket = net.connect({ host: '127.0.0.1', port }).setEncoding('latin1');
  await once(socket, 'connect');
  socket.write('GET /who HTTP/1.1\r\nHost: x\r\n\r\n');
  let answer = '';
  while (!/\r\n\r\n\d+:\d+;$/.test(answer)) answer += (await once(socket, 'data'))[0];
  return { socket, who: answer.slice(answer.lastIndexOf('\n') + 1) };
}

const random = randomNumbers(2 ** 16, seed);
const clients = [];
const fill = async () => {
  while (clients.length < connections) clients.push(await connect());
};
await fill();
for (let gone = 0; gone < connections / 2; gone++) {
  const [{ socket }] = clients.splice(random() % clients.length, 1);
  socket.destroy();
}
await sleep(NOTICED);
await fill();

const counts = new Map();
for (const { who } of clients) counts.set(who, (counts.get(who) ?? 0) + 1);
const least = counts.size < servers ? 0 : Math.min(...counts.values());
report({ spread: Math.max(...counts.values()) / least });
process.exit(0);
