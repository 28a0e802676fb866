// Begins to close the port, and ends before that is done.
import { workerData } from 'node:worker_threads';
import { CompletionPort } from '../../../dist/index.js';

void CompletionPort.attach(workerData).close();
process.exit();
