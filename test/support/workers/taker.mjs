// Takes packets with a blocking `get` and tells the main thread of each. The key `stop` ends it.
// `gate`: it goes on from a packet only when the main thread has raised the number there.
import { parentPort, workerData } from 'node:worker_threads';
import { CompletionPort } from '../../../dist/index.js';

const { token, index, max, gate, blocking, stop } = workerData;
const port = CompletionPort.attach(token);
let passed = 0;

/** Waits, without the event loop, until it may pass once more. */
function pass() {
  const number = ++passed;
  for (;;) {
    const open = Atomics.load(gate, 0);
    if (open >= number) return;
    Atomics.wait(gate, 0, open);
  }
}

parentPort.postMessage({ ready: true });
try {
  for (let going = true; going;) {
    let batch = 0;
    for (const packet of port.get(max)) {
      const { type, key, value, code } = packet;
      if (key === stop) {
        going = false;
        break;
      }
      const text = packet.data?.toString();
      batch++;
      parentPort.postMessage({ index, type, key, value, code, text, place: batch });
      if (!gate) continue;
      if (blocking) port.blocking(pass);
      else pass();
    }
  }
  port.detach();
  parentPort.postMessage({ ended: 'stopped' });
} catch (error) {
  parentPort.postMessage({ ended: error.code ?? String(error) });
}
