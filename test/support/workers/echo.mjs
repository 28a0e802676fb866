/** One of several threads that send back whatever any of their connections receives. */
import { workerData } from 'node:worker_threads';
import { CompletionPort } from '../../../dist/index.js';

const port = CompletionPort.attach(workerData);
try {
  for (;;) {
    for (const packet of port.get(64)) {
      const { handle, type } = packet;
      if (type === 'accepted') packet.accepted?.receive({ multishot: true });
      else if (type === 'received' && packet.bytes > 0) {
        packet.sendTo(handle);
        if (!packet.more) handle.receive({ multishot: true });
      }
    }
  }
} catch (error) {
  if (error.code !== 'ERR_PORT_CLOSED') throw error;
}
