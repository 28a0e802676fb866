// Closes the port when it is told to.
import { parentPort, workerData } from 'node:worker_threads';
import { CompletionPort } from '../../../dist/index.js';

const port = CompletionPort.attach(workerData);
parentPort.once('message', () => port.close());
parentPort.postMessage('ready');
