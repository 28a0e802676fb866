/**
 * An http server in several threads of one process, behind one listener.
 *
 *     node examples/http-threads.mjs 3000 2
 *     curl http://127.0.0.1:3000/
 */
import { createServer } from 'node:http';
import { availableParallelism } from 'node:os';
import { isMainThread, parentPort, threadId, Worker, workerData } from 'node:worker_threads';
import { serve, shareListener } from 'completion-port/node';

if (isMainThread) {
  const [port = 3000, threads = availableParallelism()] = process.argv.slice(2).map(Number);
  const listener = await shareListener({ host: '127.0.0.1', port });
  const workers = Array.from({ length: threads }, () => {
    return new Worker(new URL(import.meta.url), { workerData: listener.token });
  });
  await Promise.all(workers.map((worker) => new Promise((told) => worker.once('message', told))));
  console.log(`${threads} threads listen at http://127.0.0.1:${listener.address().port}/`);
  // Connections may end, and with them the threads.
  for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void listener.close());
} else {
  const server = createServer((request, response) => {
    response.end(`Thread ${threadId} says hello.\n`);
  });
  await serve(server, workerData);
  parentPort.postMessage('listens');
}
