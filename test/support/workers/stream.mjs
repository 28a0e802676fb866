// Checks the bytes of multishot receives: each four are their position in the stream.
import { workerData } from 'node:worker_threads';
import { CompletionPort } from '../../../dist/index.js';

const { token, seen } = workerData;
const port = CompletionPort.attach(token);
const wrong = (key) => Atomics.add(seen, 2 * key + 1, 1);

try {
  for (;;) {
    for (const packet of port.get(8)) {
      if (packet.type !== 'received') continue;
      const { key, data } = packet;
      if (data === undefined) {
        if (packet.code !== 'ECANCELED') wrong(key);
        continue;
      }
      // This key's state is this thread's while it holds the packet (rule D8).
      let at = seen[2 * key];
      for (const byte of data) {
        if (byte !== (((at & ~3) >>> (8 * (at & 3))) & 0xff)) wrong(key);
        at++;
      }
      seen[2 * key] = at;
      if (!packet.more) packet.handle.receive({ multishot: true });
    }
  }
} catch (error) {
  if (error.code !== 'ERR_PORT_CLOSED') throw error;
}
