/**
 * A server's threads, its ready line and its end.
 */
import { Worker } from 'node:worker_threads';
import { untilSignal } from './program.mjs';

/**
 * Starts `count` workers that run the program `url`, and waits until each has said 'ready'. They get
 * the port's token and `settings` as their workerData.
 */
export async function startWorkers(url, count, port, settings) {
  const workerData = { token: port.token, settings };
  const workers = Array.from({ length: count }, () => new Worker(new URL(url), { workerData }));
  await Promise.all(
    workers.map(
      (worker) =>
        new Promise((resolve, reject) => {
          worker.once('message', resolve);
          worker.once('error', reject);
        }),
    ),
  );
  return workers;
}

/** Says that the server is ready. */
export function announce({ address, family, port }, driver, threads) {
  const host = family === 'IPv6' ? `[${address}]` : address;
  console.log(`listening on ${host}:${port} driver=${driver} threads=${threads}`);
}

/**
 * Says that the server is ready, waits for a signal, calls `atEnd`, and closes the port, which ends
 * connections and workers.
 */
export async function serveUntilSignal(port, { address, threads, workers = [], atEnd }) {
  const signalled = untilSignal(); // whoever reads the ready line may send one at once
  announce(address, port.driver, threads);
  await signalled;
  atEnd?.();
  const ended = workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)));
  await port.close();
  await Promise.all(ended);
  process.exit(); // at once: while Node.js ends by itself, one more signal would kill it
}

/**
 * Reserves the TCP port that several threads are going to listen on with `reusePort`: a listener to
 * be closed when they do. Fails when another program listens there, which `reusePort` would allow.
 */
export async function reservePort(port, { host, port: wanted }) {
  const probe = await port.listen({ host, port: wanted });
  const { port: number } = probe.address();
  await probe.close();
  if (process.platform === 'win32') {
    const text =
      '--threads has to be 1 on Windows, which does not spread connections over listeners';
    throw Object.assign(new Error(text), { code: 'ENOTSUP' });
  }
  return port.listen({ host, port: number, reusePort: true });
}
