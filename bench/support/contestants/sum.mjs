/**
 * The sum server: ours, in micro-threads, under a policy, which may be a queue on Redis that another
 * process serves; or node:net with piscina.
 */
import net from 'node:net';
import { fileURLToPath } from 'node:url';
import { readOptions } from '../options.mjs';
import { cpuTime } from '../processes.mjs';
import { serve } from '../server.mjs';
import { startQueue } from './sum-bullmq.mjs';

const { apply, threads } = readOptions();

/** Other processes that take part. */
const others = [];

/** What it has used so far, in µs. */
function stats() {
  const { user, system } = process.cpuUsage();
  return { cpu: others.reduce((sum, pid) => sum + cpuTime(pid), user + system) };
}

/** Every thread has started, and V8 has seen the loop, before anything is counted. */
const warm = (run) => Promise.all(Array.from({ length: 4 * threads }, () => run(2_000_000)));

/** Sends tasks to a process of its own. */
async function startBullmq() {
  const queue = 'sums';
  const started = await startQueue({ queue, threads });
  if (started === undefined) {
    process.stdout.write(`${JSON.stringify({ notMeasured: 'redis-server is not installed' })}\n`);
    process.exit(0);
  }
  others.push(...started.pids);
  const { bullmq } = await import('completion-port/bullmq');
  return bullmq({ queue, connection: started.url });
}

async function startOurs() {
  const { CompletionPort } = await import('completion-port');
  const { cpu, exclusive, inline, pool, setApply } = await import('completion-port/cpu');
  const { each, spawn } = await import('completion-port/micro');
  const { sumn } = await import('./sum-tasks.mjs');
  const policies = { exclusive, inline, pool: () => pool({ threads }), bullmq: startBullmq };
  setApply(await policies[apply]());
  await warm((n) => cpu(sumn, n));
  const port = new CompletionPort();
  const listener = await port.listen({ host: '127.0.0.1', port: 0 });
  function* answer(socket) {
    const bytes = yield* socket.receive();
    yield* socket.send(String(yield* cpu(sumn, Number(bytes.toString('latin1')))));
    yield* socket.end();
    yield* socket.close();
  }
  spawn(function* () {
    for (const socket of yield* each(listener)) {
      spawn(answer(socket));
      yield* each.next();
    }
  });
  return listener.address().port;
}

async function startNet() {
  const { Piscina } = await import('piscina');
  const filename = fileURLToPath(new URL('sum-piscina.mjs', import.meta.url));
  const pool = new Piscina({ filename, minThreads: threads, maxThreads: threads });
  await warm((n) => pool.run(n));
  const server = net.createServer((socket) => {
    socket.on('error', () => undefined);
    socket.once('data', async (bytes) => {
      socket.end(String(await pool.run(Number(bytes.toString('latin1')))));
    });
  });
  await new Promise((done) => server.listen(0, '127.0.0.1', done));
  return server.address().port;
}

serve(await (apply === 'piscina' ? startNet() : startOurs()), stats);
