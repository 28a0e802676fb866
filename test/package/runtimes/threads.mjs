// A thread that blocks in `get`.
import { once } from 'node:events';
import { isMainThread, Worker, workerData } from 'node:worker_threads';
import { CompletionPort } from 'completion-port';

if (isMainThread) {
  const port = new CompletionPort({ concurrency: 1 });
  const worker = new Worker(new URL(import.meta.url), { workerData: port.token });
  for (let i = 1; i <= 10; i++) port.post(1, i);
  const [sum] = await once(worker, 'message');
  await port.close();
  console.log(sum);
} else {
  const { parentPort } = await import('node:worker_threads');
  const port = CompletionPort.attach(workerData);
  let sum = 0;
  for (let n = 0; n < 10;) for (const packet of port.get()) ((sum += packet.value), n++);
  port.detach();
  parentPort.postMessage(sum);
}
