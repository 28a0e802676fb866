/**
 * The echo server in `--threads` workers: on one port for all of them, on a port for each, or a
 * stage with so many threads.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { CompletionPort } from 'completion-port';
import { Pipeline } from 'completion-port/stages';
import { echoStep } from '../echo-step.mjs';
import { readOptions } from '../options.mjs';
import { assertDriver, makePort } from '../ports.mjs';
import { serve } from '../server.mjs';

const where = { host: '127.0.0.1', port: 0, backlog: 4096 };
const stage = new URL('./stages/echo.stage.mjs', import.meta.url);

/** Resolves when the worker takes packets of the port. */
async function take(port) {
  const worker = new Worker(new URL(import.meta.url), { workerData: port.token });
  worker.on('error', (error) => {
    throw error;
  });
  await new Promise((resolve) => worker.once('message', resolve));
}

/** All threads on one port. */
async function share({ driver, threads }) {
  const port = makePort({ driver, concurrency: threads });
  for (let i = 0; i < threads; i++) await take(port);
  const listener = await port.listen({ ...where, key: 1 });
  return listener.address().port;
}

/** Each thread on a port of its own; the system spreads the connections. */
async function divide({ driver, threads }) {
  let number = 0;
  for (let i = 0; i < threads; i++) {
    const port = makePort({ driver, concurrency: 1 });
    await take(port);
    const listener = await port.listen({ ...where, port: number, key: 1, reusePort: true });
    number = listener.address().port;
  }
  return number;
}

async function pipe({ driver, threads }) {
  assertDriver(driver);
  const pipeline = new Pipeline({ echo: { stage, threads } }, { driver });
  await pipeline.ready();
  return (await pipeline.listen('echo', where)).port;
}

function work(token) {
  const port = CompletionPort.attach(token);
  parentPort.postMessage('ready');
  for (;;) for (const packet of port.get()) echoStep(packet);
}

const styles = { shared: share, own: divide, pipeline: pipe };

if (isMainThread) {
  const { style, ...options } = readOptions();
  serve(await styles[style](options));
} else {
  work(workerData);
}
