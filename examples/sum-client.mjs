/**
 * Clients of the sum server, or of any other that speaks its protocol: each asks, one connection after
 * the other.
 *
 *     node examples/sum-client.mjs 8 --n 25000 --seconds 5
 */
import net from 'node:net';
import { duration, integer, option, readArguments } from './support/arguments.mjs';
import { runProgram } from './support/program.mjs';

/** Sends `n`, and resolves to the answer. */
function ask(host, port, n) {
  return new Promise((resolve, reject) => {
    let answer = '';
    const socket = net.connect({ host, port, allowHalfOpen: true });
    socket.setEncoding('latin1').on('data', (text) => (answer += text));
    socket.once('error', reject);
    socket.once('end', () => {
      socket.end();
      resolve(answer);
    });
    socket.write(`${n}\n`);
  });
}

async function main() {
  const {
    host,
    port,
    n,
    seconds,
    arguments: given,
  } = readArguments('sum-client', {
    usage: '[options] CLIENTS',
    about: 'Asks a sum server again and again, and says how often it was answered.',
    options: {
      host: option('HOST', '127.0.0.1', 'address of the server'),
      port: option('PORT', '7010', 'port of the server', integer(1, 65535)),
      n: option('N', '25000', 'up to which number', integer(0, 99_999_999)),
      seconds: option('TIME', '3s', 'how long', duration),
    },
    arguments: [1, 1],
  });
  const clients = integer(1, 1000)(given[0]);
  const right = String((n * (n + 1)) / 2);
  const end = performance.now() + seconds;
  let answers = 0;
  const client = async () => {
    do {
      const answer = await ask(host, port, n);
      if (answer !== right) throw new Error(`${answer} instead of ${right}`);
      answers++;
    } while (performance.now() < end);
  };
  const began = performance.now();
  await Promise.all(Array.from({ length: clients }, client));
  const rate = answers / ((performance.now() - began) / 1000);
  console.log(`${answers} answers, ${Math.round(rate)} a second`);
}

await runProgram('sum-client', main);
