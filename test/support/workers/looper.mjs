// Waits for packets on the event loop until the port is closed, and tells why it ended.
import { parentPort, workerData } from 'node:worker_threads';
import { CompletionPort } from '../../../dist/index.js';

const port = CompletionPort.attach(workerData);
try {
  for await (const packet of port.packets()) parentPort.postMessage(packet.type);
} catch (error) {
  parentPort.postMessage(error.code);
}
