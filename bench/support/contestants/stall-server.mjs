/**
 * An echo server in `--threads` threads, whose handler is busy for `--busy` milliseconds when a
 * message begins with an 'H': packets that threads block for, packets on event loops, or a stage.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { CompletionPort } from 'completion-port';
import { Pipeline } from 'completion-port/stages';
import { HEAVY, measureWork, prepareWork } from '../busy.mjs';
import { echoStep } from '../echo-step.mjs';
import { readOptions } from '../options.mjs';
import { assertDriver, makePort } from '../ports.mjs';
import { serve } from '../server.mjs';

const where = { host: '127.0.0.1', port: 0 };
const stage = new URL('./stages/busy.stage.mjs', import.meta.url);

async function inWorkers({ driver, threads, style, kind, amount }) {
  const port = makePort({ driver, concurrency: threads });
  for (let i = 0; i < threads; i++) {
    const data = { token: port.token, style, kind, amount };
    const worker = new Worker(new URL(import.meta.url), { workerData: data });
    worker.on('error', (error) => {
      throw error;
    });
    await new Promise((resolve) => worker.once('message', resolve));
  }
  const listener = await port.listen({ ...where, key: 1 });
  return listener.address().port;
}

async function inStage({ driver, threads, kind, amount }) {
  assertDriver(driver);
  const pipeline = new Pipeline({ echo: { stage, threads, data: { kind, amount } } }, { driver });
  await pipeline.ready();
  return (await pipeline.listen('echo', where)).port;
}

function work({ token, style, kind, amount }) {
  const port = CompletionPort.attach(token);
  const keepBusy = prepareWork(kind, amount);
  const step = (packet) => {
    if (packet.type === 'received' && packet.bytes > 0 && packet.data[0] === HEAVY) keepBusy();
    echoStep(packet);
  };
  parentPort.postMessage('ready');
  if (style === 'loop') return port.consume(step);
  for (;;) for (const packet of port.get()) step(packet);
}

async function main() {
  const { busy, ...options } = readOptions();
  const start = options.style === 'stage' ? inStage : inWorkers;
  serve(await start({ ...options, amount: measureWork(options.kind, busy) }));
}

if (isMainThread) await main();
else work(workerData);
