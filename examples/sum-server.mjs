/**
 * A server that computes: a client sends n as digits, and gets the sum of 1 to n. Where that is
 * computed is a matter of one option.
 *
 *     node examples/sum-server.mjs --apply pool --threads 2
 *     echo 1000 | nc 127.0.0.1 7010
 */
import { CompletionPort } from 'completion-port';
import { cpu, inline, pool, setApply } from 'completion-port/cpu';
import { each, spawn } from 'completion-port/micro';
import { integer, option, readArguments, serverOptions } from './support/arguments.mjs';
import { isClosed, runProgram } from './support/program.mjs';
import { serveUntilSignal } from './support/server.mjs';
import { sumn } from './sum.tasks.mjs';

/** Digits of the largest n whose sum is exact. */
const MOST_DIGITS = 8;

/** The digits up to a line feed, or to the end. */
function* readNumber(socket) {
  let text = '';
  while (!text.includes('\n') && text.length <= MOST_DIGITS + 2) {
    const bytes = yield* socket.receive();
    if (bytes.length === 0) break;
    text += bytes.toString('latin1');
  }
  const digits = text.trim();
  return /^\d+$/.test(digits) && digits.length <= MOST_DIGITS ? Number(digits) : undefined;
}

function* serve(socket) {
  try {
    const n = yield* readNumber(socket);
    yield* socket.send(n === undefined ? 'a whole number, please' : String(yield* cpu(sumn, n)));
    yield* socket.end();
  } catch (error) {
    if (!isClosed(error) && error.code !== 'ECONNRESET' && error.code !== 'EPIPE') throw error;
  } finally {
    yield* socket.close();
  }
}

function policyOf(text) {
  if (['inline', 'pool'].includes(text)) return text;
  throw new Error('has to be inline or pool');
}

async function main() {
  const {
    host,
    port: number,
    threads,
    apply,
    driver,
  } = readArguments('sum-server', {
    usage: '[options]',
    about: 'Answers a number with the sum of all numbers up to it.',
    options: {
      ...serverOptions(7010),
      apply: option('POLICY', 'inline', 'where sums are computed: inline or pool', policyOf),
      threads: option('N', '2', 'threads of the pool', integer(1, 64)),
    },
  });
  setApply(apply === 'pool' ? pool({ threads }) : inline());
  const port = new CompletionPort({ driver });
  const listener = await port.listen({ host, port: number });
  spawn(function* server() {
    for (const socket of yield* each(listener)) {
      spawn(serve(socket), { name: 'serve' });
      yield* each.next();
    }
  });
  await serveUntilSignal(port, { address: listener.address(), threads });
}

await runProgram('sum-server', main);
