// One of many threads that post numbered messages, or take them and note what they see.
import { workerData } from 'node:worker_threads';
import { CompletionPort } from '../../../dist/index.js';

const { token, role, producer, messages, keys, total, shared, stop } = workerData;
const { state, counts, log, holders } = shared;
const [TAKEN, RUNNING, MOST, CLASHES] = [0, 1, 2, 3];
const port = CompletionPort.attach(token);

if (role === 'poster') {
  for (let i = 0; i < messages; i++) {
    const number = producer * messages + i;
    while (!port.tryPost(number % keys, number)) Atomics.wait(state, CLASHES, 0, 1);
  }
} else {
  for (let going = true; going;) {
    const running = Atomics.add(state, RUNNING, 1);
    // Not running: waiting in get.
    Atomics.sub(state, RUNNING, 1);
    if (running < 0) throw new Error('counted wrongly');
    let counted = false;
    for (const packet of port.get(16)) {
      if (!counted) {
        counted = true;
        const now = Atomics.add(state, RUNNING, 1) + 1;
        for (let most = Atomics.load(state, MOST); now > most; most = Atomics.load(state, MOST)) {
          Atomics.compareExchange(state, MOST, most, now);
        }
      }
      const { key, value } = packet;
      if (key === stop) {
        going = false;
        break;
      }
      if (Atomics.add(holders, key, 1) !== 0) Atomics.add(state, CLASHES, 1);
      Atomics.add(counts, value, 1);
      const place = Atomics.add(state, TAKEN, 1);
      if (place < total) {
        log[2 * place] = key;
        log[2 * place + 1] = value;
      }
      // Long enough for others to come between.
      if (value % 16 === 0) Atomics.wait(state, RUNNING, -1, 0.01);
      Atomics.sub(holders, key, 1);
      // The last one tells the others.
      if (place === total - 1) {
        for (let i = 0; i < 16; i++) port.post(stop);
      }
    }
    Atomics.sub(state, RUNNING, counted ? 1 : 0);
  }
}
port.detach();
