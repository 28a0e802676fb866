// Has all kinds of I/O in flight until it is ended. `mode`: what it is in the middle of.
import { parentPort, workerData } from 'node:worker_threads';
import { CompletionPort } from '../../../dist/index.js';

const { token, tcpPort, mode } = workerData;
const port = CompletionPort.attach(token);
const target = { host: '127.0.0.1', port: tcpPort };
const ignore = () => undefined;

// A keyed connection whose packets go to whoever takes them, and an awaited one.
const keyed = await port.connect({ ...target, key: 'unique' });
keyed.receive({ multishot: true });
keyed.send('echo this');
const socket = await port.connect(target);
socket.receive().catch(ignore);
const timer = port.timer();
timer.wait(3_600_000).catch(ignore);
const file = await port.open('/dev/zero');

parentPort.postMessage('busy');
if (mode === 'get') {
  for (;;) {
    for (const packet of port.get(8)) {
      if (packet.type !== 'received' || packet.failed || packet.bytes === 0) continue;
      packet.handle?.send(packet.data);
    }
  }
} else if (mode === 'await') {
  for (;;) {
    await socket.send('x'.repeat(1000));
    await new Promise(setImmediate);
  }
} else if (mode === 'files') {
  for (;;) {
    const reads = [];
    for (let i = 0; i < 8; i++) reads.push(file.read(new Uint8Array(300_000), 0));
    await Promise.all(reads);
  }
} else {
  for await (const chunk of file.chunks({ size: 1 << 20, depth: 8 })) chunk[0] = 1;
}
