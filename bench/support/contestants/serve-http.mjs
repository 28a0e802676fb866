/**
 * An http server that answers 100 bytes, or who it is: in `--servers` threads, this one among
 * them or not, in so many processes of node:cluster, or in this thread alone.
 */
import cluster from 'node:cluster';
import { once } from 'node:events';
import { createServer } from 'node:http';
import { isMainThread, parentPort, threadId, Worker, workerData } from 'node:worker_threads';
import { serve as share, shareListener } from 'completion-port/node';
import { readOptions } from '../options.mjs';
import { serve } from '../server.mjs';

const text = 'x'.repeat(100);
const host = '127.0.0.1';
const me = `${process.pid}:${threadId};`;
const newServer = () =>
  createServer(({ url }, response) => response.end(url === '/who' ? me : text));

async function startWorkers({ token }, count) {
  const workers = Array.from({ length: count }, () => {
    const worker = new Worker(new URL(import.meta.url), { workerData: token });
    worker.on('error', (error) => {
      throw error;
    });
    return once(worker, 'message');
  });
  await Promise.all(workers);
}

const styles = {
  async workers(count) {
    const listener = await shareListener({ host, port: 0, backlog: 4096 });
    await startWorkers(listener, count);
    serve(listener.address().port);
  },

  async threads(count) {
    const listener = await shareListener({ host, port: 0, backlog: 4096 });
    await startWorkers(listener, count - 1);
    await share(newServer(), listener);
    serve(listener.address().port);
  },

  async cluster(count) {
    cluster.setupPrimary({ silent: true });
    const workers = Array.from({ length: count }, () => cluster.fork());
    const told = workers.map((worker) => once(worker, 'listening'));
    const [[{ port }]] = await Promise.all(told);
    serve(port, undefined, [process.pid, ...workers.map((worker) => worker.process.pid)]);
  },

  async alone() {
    const server = newServer().listen({ host, port: 0, backlog: 4096 });
    await once(server, 'listening');
    serve(server.address().port);
  },
};

if (!isMainThread) {
  await share(newServer(), workerData);
  parentPort.postMessage('listens');
} else if (cluster.isPrimary) {
  const { style, servers } = readOptions();
  await styles[style](servers);
} else {
  newServer().listen({ host, port: 0, backlog: 4096 });
}
