/**
 * The services that are looked at while everything goes wrong, all in one process:
 *
 *     proxy    worker threads in await style, each with a listener of its own, before an echo
 *     spool    a native stage that spools documents to `directory`, and one that answers with their hash
 *     wander   three stages that hand connections to and fro
 *     pool     numbers, each answered with the sum of those up to it, which a pool of threads computes
 *
 * The first message to the parent is the ports; then each message of the parent is answered.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { cpu, pool, setApply } from '../../../dist/cpu-esm.mjs';
import { CompletionPort } from '../../../dist/esm.mjs';
import { frames, Pipeline } from '../../../dist/stages-esm.mjs';
import { wanderers } from '../../support/wandering.mjs';
import { look } from '../support/looks.mjs';
import { Random } from '../support/random.mjs';
import { dies, sumn } from './work.tasks.mjs';

const { directory, seed } = JSON.parse(process.argv[2]);
const HOST = '127.0.0.1';
const PROXIES = 2;
const MiB = 2 ** 20;

/** What went wrong that no client explains: the parent takes it for a failure. */
const failures = [];

// ---- proxy

const port = new CompletionPort({ concurrency: PROXIES + 1 });

async function echo(socket) {
  try {
    for await (const bytes of socket) await socket.send(bytes);
  } catch (error) {
    if (error.code === undefined) failures.push(`echo: ${error.stack}`);
  } finally {
    await socket.close();
  }
}
/** One that finds no descriptor is told so, and goes on. */
async function accept(listener, serve) {
  for (;;) {
    try {
      for await (const socket of listener) void serve(socket);
      return;
    } catch (error) {
      if (!['EMFILE', 'ENFILE'].includes(error.code)) throw error;
    }
  }
}
const upstream = await port.listen({ host: HOST, port: 0, backlog: 1024 });
void accept(upstream, echo);
const reserved = await port.listen({ host: HOST, port: 0, reusePort: true });
const proxyPort = reserved.address().port;
const proxies = [];
let replaced = 0;

async function startProxy(place) {
  const worker = new Worker(new URL('./proxy.mjs', import.meta.url), {
    workerData: { token: port.token, host: HOST, port: proxyPort, target: upstream.address().port },
  });
  worker.on('error', (error) => failures.push(`proxy: ${error.stack}`));
  proxies[place] = worker;
  await once(worker, 'message');
}
for (let place = 0; place < PROXIES; place++) await startProxy(place);
await reserved.close();

async function killProxy(place) {
  await proxies[place].terminate();
  replaced++;
  await startProxy(place);
}

// ---- spool, wander

const digest = new URL('../../stage/fixtures/digest.mjs', import.meta.url);
const spool = new Pipeline(
  {
    spool: {
      native: frames({
        length: 'u32be',
        maxLength: 4 * MiB,
        spool: 'file',
        memoryThreshold: 16 * 1024,
        directory,
        failed: 'failed\n',
      }),
      threads: 2,
      next: 'work',
    },
    work: { stage: digest, threads: 2 },
  },
  { maxConnections: 512, memoryLimit: 32 * MiB },
);
const crashes = new SharedArrayBuffer(4);
const wander = wanderers(new Random(seed), { crashes });
for (const pipeline of [spool, wander]) {
  pipeline.on('error', (error) => failures.push(`pipeline: ${error.stack}`));
}
const at = { host: HOST, port: 0, backlog: 1024 };
const spoolListener = await spool.listen('spool', at);
const wanderListener = await wander.listen('one', at);
/** Messages, one in sixty of which ends a thread while `crashes` are left. */
const messages = setInterval(() => {
  if (wander.closed) return; // it has failed, which the parent is told
  for (const { key } of wander.connections().slice(0, 5)) {
    wander.tryPost(key, Math.trunc(Math.random() * 60));
  }
}, 5);

// ---- pool

const threads = pool({ threads: 2, queueLimit: 64 });
setApply(threads);

async function answer(text) {
  if (text === 'die') await cpu(dies);
  return String(await cpu(sumn, Number(text)));
}
async function compute(socket) {
  try {
    let text = '';
    for await (const bytes of socket) {
      text += bytes.toString('latin1');
      if (!text.endsWith('\n')) continue;
      await socket.send(`${await answer(text.trim()).catch((error) => error.code)}\n`);
      text = '';
    }
  } catch (error) {
    if (error.code === undefined) failures.push(`pool: ${error.stack}`);
  } finally {
    await socket.close();
  }
}
const poolListener = await port.listen(at);
void accept(poolListener, compute);

// ---- the parent

const pipelines = { spool, wander };
/** One that has closed by itself has failed, which the parent is told. */
const inAll = (count) =>
  Object.values(pipelines).reduce((sum, one) => sum + (one.closed ? 0 : count(one.stats())), 0);
function held(collects) {
  const stats = port.stats();
  return {
    ...look(collects),
    connections: inAll(({ connections }) => connections),
    restarts: replaced + inAll(({ restarts }) => restarts),
    handles: stats.handles,
    allocatedBytes: stats.allocatedBytes,
    failures,
  };
}
const commands = {
  look: () => held(true),
  /** Null where no descriptor is left to look with. */
  sample() {
    try {
      return held(false);
    } catch (error) {
      if (error.code !== 'EMFILE') throw error;
      return null;
    }
  },
  'end a proxy': () => killProxy(Math.trunc(Math.random() * PROXIES)),
  'end stages': () => Atomics.store(new Int32Array(crashes), 0, 2),
  async end() {
    clearInterval(messages);
    await Promise.all(Object.values(pipelines).map((pipeline) => pipeline.close()));
    await threads.close();
    port.close();
    await Promise.all(proxies.map((worker) => worker.terminate()));
  },
};
process.on('message', async ({ id, command }) => {
  try {
    process.send({ id, answer: (await commands[command]()) ?? null });
    if (command === 'end') process.disconnect();
  } catch (error) {
    process.send({ id, failure: error.stack });
  }
});
process.send({
  proxy: proxyPort,
  spool: spoolListener.port,
  wander: wanderListener.port,
  pool: poolListener.address().port,
});
