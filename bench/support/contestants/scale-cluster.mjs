/**
 * The echo server on node:net, in `--threads` processes of node:cluster.
 */
import cluster from 'node:cluster';
import { readOptions } from '../options.mjs';
import { serve } from '../server.mjs';

async function start({ threads }) {
  // Their output is not this program's.
  cluster.setupPrimary({ silent: true });
  const workers = Array.from({ length: threads }, () => cluster.fork());
  const addresses = workers.map(
    (worker) => new Promise((resolve) => worker.once('listening', resolve)),
  );
  const [{ port }] = await Promise.all(addresses);
  serve(port, undefined, [process.pid, ...workers.map((worker) => worker.process.pid)]);
}

if (cluster.isPrimary) await start(readOptions());
else await import('./echo-net.mjs');
