// Micro-threads that wait for the port when another thread closes it; tells how each ended.
import { parentPort, workerData } from 'node:worker_threads';
import { CompletionPort } from '../../../dist/index.js';
import { each, spawn } from '../../../dist/micro.js';

const port = CompletionPort.attach(workerData.token);
const socket = await port.connect({ host: '127.0.0.1', port: workerData.peer });
const other = await port.connect({ host: '127.0.0.1', port: workerData.peer });
const listener = await port.listen({ host: '127.0.0.1', port: 0 });
const seen = [];
const threads = [
  spawn(function* receives() {
    try {
      yield* socket.receive();
    } catch (error) {
      seen.push(error.code);
    }
  }),
  spawn(function* accepts() {
    try {
      for (const accepted of yield* each(listener)) {
        yield* accepted.close();
        yield* each.next();
      }
    } catch (error) {
      seen.push(error.code);
    }
  }),
  spawn(function* loops() {
    try {
      for (const bytes of yield* each(other)) {
        seen.push(bytes.length);
        yield* each.next();
      }
    } catch (error) {
      seen.push(error.code);
    }
  }),
];
parentPort.postMessage('ready');
const ends = await Promise.allSettled(threads);
parentPort.postMessage({ seen, ends: ends.map(({ reason }) => reason?.code) });
