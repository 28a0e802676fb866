// `server`: echoes, and says how many connections it held at once. `server crew`: two workers do, and
// are busy now and then. `client PORT COUNT [SIZE]`: opens them all, and only then talks on each.
import { Worker, isMainThread, workerData } from 'node:worker_threads';
import { CompletionPort } from '../../dist/index.js';

const [given, tcpPort, count, size = '0'] = process.argv.slice(2);
const crew = given === 'server' && tcpPort === 'crew';
const role = isMainThread ? given : 'worker';
const port = isMainThread
  ? new CompletionPort(crew ? { concurrency: 3 } : {})
  : CompletionPort.attach(workerData.token);

/** Bytes of one connection, unlike those of any other. */
function textOf(number) {
  const text = `connection ${number}`;
  return text.repeat(1 + Math.floor(Number(size) / text.length));
}

if (role === 'worker') {
  let turn = 0;
  for (let going = true; going;) {
    for (const packet of port.get(64)) {
      const { type, handle } = packet;
      if (type === 'posted') {
        going = false;
        break; // what it has not begun is the other's
      }
      if (type === 'accepted' && packet.accepted) {
        packet.accepted.receive({ multishot: true });
        Atomics.add(workerData.open, 0, 1);
      }
      if (type !== 'received') continue;
      // The other one does what completes here meanwhile.
      if (++turn % 500 === 0) Atomics.wait(workerData.open, 1, 0, 5);
      if (packet.data !== undefined) packet.sendTo(handle);
      if (!packet.more) handle.close();
    }
  }
  port.detach();
} else if (crew) {
  const open = new Int32Array(new SharedArrayBuffer(8));
  const token = { token: port.token, open };
  const workers = [1, 2].map(() => new Worker(new URL(import.meta.url), { workerData: token }));
  const ended = workers.map((worker) => new Promise((resolve) => worker.once('exit', resolve)));
  const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 1, backlog: 4096 });
  listener.accept({ multishot: true });
  console.log(`port ${listener.address().port}`);
  await new Promise((resolve) => process.stdin.once('end', resolve).resume());
  console.log(`most at once: ${open[0]}`);
  for (const key of [2, 3]) port.post(key);
  await Promise.all(ended);
} else if (role === 'server') {
  const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 1, backlog: 4096 });
  let open = 0;
  let most = 0;
  port.consume((packet) => {
    if (packet.type === 'accepted' && packet.accepted !== undefined) {
      most = Math.max(most, ++open);
      packet.accepted.receive({ multishot: true });
    } else if (packet.type === 'received') {
      if (packet.data !== undefined) packet.sendTo(packet.handle);
      if (packet.more) return;
      open--;
      packet.handle.close();
    }
  });
  console.log(`port ${listener.address().port}`);
  await new Promise((resolve) => process.stdin.once('end', resolve).resume());
  console.log(`most at once: ${most}`);
} else {
  const sockets = [];
  const connect = async () => {
    while (sockets.length < Number(count)) {
      const place = sockets.push(undefined) - 1;
      sockets[place] = await port.connect({ host: '127.0.0.1', port: Number(tcpPort) });
    }
  };
  await Promise.all(Array.from({ length: 64 }, connect));
  const echo = async (socket, number) => {
    const text = textOf(number);
    await socket.send(text);
    let answer = '';
    while (answer.length < text.length) answer += String(await socket.receive());
    return answer === text ? 1 : 0;
  };
  let echoed = 0;
  for (const good of await Promise.all(sockets.map(echo))) echoed += good;
  console.log(`echoed ${echoed}`);
}
if (isMainThread) await port.close();
