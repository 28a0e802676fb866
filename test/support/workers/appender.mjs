/** Goes on with whatever file it meets in a packet, and tells what it knows of it. */
import { parentPort, workerData } from 'node:worker_threads';
import { CompletionPort } from '../../../dist/index.js';

const port = CompletionPort.attach(workerData.token);
parentPort.postMessage('ready');
for (const { type, handle } of port.get(1, 60_000)) {
  const answer = { type, path: handle.path };
  try {
    handle.write('second');
  } catch (error) {
    answer.error = error.message;
  }
  parentPort.postMessage(answer);
}
const [written] = port.get(1, 60_000);
parentPort.postMessage({ type: written.type, code: written.code });
port.detach();
