// `server`: echoes, and says how many connections it held at once. `client PORT COUNT`: opens them
// all, and only then talks on each.
import { CompletionPort } from '../../dist/index.js';

const [role, tcpPort, count] = process.argv.slice(2);
const port = new CompletionPort();

if (role === 'server') {
  const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 1, backlog: 4096 });
  let open = 0;
  let most = 0;
  port.serve((packet) => {
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
    const text = `connection ${number}`;
    await socket.send(text);
    let answer = '';
    while (answer.length < text.length) answer += String(await socket.receive());
    return answer === text ? 1 : 0;
  };
  let echoed = 0;
  for (const good of await Promise.all(sockets.map(echo))) echoed += good;
  console.log(`echoed ${echoed}`);
}
await port.close();
