/**
 * Messages on one port: each of `--threads` takes 64 at most and posts every one of them on, to a
 * random key of 1,024 or to the key it came with.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { CompletionPort } from 'completion-port';
import { randomNumbers } from '../data.mjs';
import { readOptions } from '../options.mjs';
import { makePort } from '../ports.mjs';
import { observe, report } from '../stopwatch.mjs';

const BATCH = 64;
const KEYS = 1024;
/** A thread's count has a cache line of its own. */
const LINE = 8;

async function main() {
  const { driver, threads, keys, ...times } = readOptions();
  const port = makePort({ driver, concurrency: threads, queueLimit: 1 << 20 });
  const counts = new Float64Array(new SharedArrayBuffer(8 * LINE * threads));
  for (let i = 0; i < threads; i++) {
    const data = { token: port.token, counts, at: i * LINE, keys };
    const worker = new Worker(new URL(import.meta.url), { workerData: data });
    worker.on('error', (error) => {
      throw error;
    });
    await new Promise((resolve) => worker.once('message', resolve));
  }
  for (let i = 0; i < BATCH * threads; i++) port.post(1 + (i % KEYS), i);
  const count = () => counts.reduce((sum, each) => sum + each, 0);
  report(await observe({ ...times, count }));
  process.exit(); // nothing is lost but what goes round
}

function work({ token, counts, at, keys }) {
  const port = CompletionPort.attach(token);
  const random = randomNumbers(KEYS, 0x9e3779b9 + at);
  parentPort.postMessage('ready');
  for (;;) {
    let taken = 0;
    for (const packet of port.get(BATCH)) {
      taken++;
      port.post(keys === 'random' ? 1 + random() : packet.key, packet.value);
    }
    counts[at] += taken;
  }
}

if (isMainThread) await main();
else work(workerData);
