/**
 * Two workers that post jobs to each other.
 */
import { isMainThread, MessageChannel, Worker, workerData } from 'node:worker_threads';
import { readOptions } from '../options.mjs';
import { observe, report } from '../stopwatch.mjs';

async function main() {
  const { keys, ...times } = readOptions();
  const hops = new Int32Array(new SharedArrayBuffer(8));
  const { port1, port2 } = new MessageChannel();
  [port1, port2].forEach((port, index) => {
    const data = { port, hops, index, keys };
    const options = { workerData: data, transferList: [port] };
    new Worker(new URL(import.meta.url), options);
  });
  report(await observe({ ...times, count: () => (hops[0] >>> 0) + (hops[1] >>> 0) }));
  process.exit();
}

function work({ port, hops, index, keys }) {
  port.on('message', (job) => {
    job.hops++;
    hops[index]++;
    port.postMessage(job);
  });
  if (index > 0) return;
  for (let key = 1; key <= keys; key++) port.postMessage({ key, phase: 0, hops: 0 });
}

if (isMainThread) await main();
else work(workerData);
