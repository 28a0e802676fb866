// Takes packets, and may be busy with one for as long as the test likes. `style`: 'get', 'serve' or
// 'packets'.
// A packet whose data begin with '!' is heavy: `heavy` names what its handler does until the test
// raises `gate`. Everything else that was received is answered.
import { parentPort, workerData } from 'node:worker_threads';
import { CompletionPort } from '../../../dist/index.js';
import { heavyWork } from '../heavy-work.mjs';

const { token, index, style, heavy, gate, pipe, file, stop, max, prepares } = workerData;
const port = CompletionPort.attach(token);

const busy = {
  ...heavyWork(gate, pipe),
  forever() {
    for (;;) Math.sqrt(2);
  },
  blocking() {
    port.blocking(() => port.blocking(busy.wait));
    port.blocking(busy.wait);
  },
  /** An answer that was written, and nothing more from this thread. */
  answered(packet) {
    packet.handle.send('!');
    busy.wait();
  },
  closing(packet) {
    packet.handle.close();
    busy.wait();
    return 'closed';
  },
  /** Bytes that come while it waits. */
  file() {
    opened.read(port.allocate(64), 0);
    busy.wait();
  },
  posting() {
    port.post(5, 123);
    busy.wait();
  },
};

function handle(packet) {
  const { type, key, code, value } = packet;
  const text = packet.data?.toString();
  if (type === 'accepted') packet.accepted?.receive({ multishot: true });
  // The thread it was received in has been ended.
  const ended = type === 'received' && code === 'ECANCELED';
  if (ended && packet.handle && !packet.handle.closed) packet.handle.receive({ multishot: true });
  parentPort.postMessage({ index, type, key, value, code, text });
  if (type !== 'received' || !text) return;
  if (text === 'close') return packet.handle.close();
  if (text.startsWith('!') && busy[heavy](packet) === 'closed') return;
  packet.handle.send(text);
}

/** What is to happen in this thread's lane while it is busy. */
async function prepare({ timer, silent }) {
  const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 1 });
  listener.accept({ multishot: true });
  if (timer) port.timer({ key: 2 }).start(timer, { repeat: timer });
  if (silent) {
    const socket = await port.connect({ host: '127.0.0.1', port: silent.port, key: 3 });
    socket.receive({ timeout: silent.timeout });
  }
  return listener.address().port;
}

const opened = file ? await port.open(file, 'r', { key: 4 }) : undefined;
const listening = prepares ? await prepare(prepares) : 0;
parentPort.postMessage({ ready: true, listening });
if (style === 'packets') {
  for await (const packet of port.packets()) {
    if (packet.key === stop) break;
    handle(packet);
  }
} else if (style === 'serve') {
  const service = port.consume((packet) => {
    handle(packet);
    if (packet.key === stop) service.stop();
  });
} else {
  for (let going = true; going;) {
    for (const packet of port.get(max)) {
      if (packet.key === stop) {
        going = false;
        break;
      }
      handle(packet);
    }
  }
  port.detach();
}
