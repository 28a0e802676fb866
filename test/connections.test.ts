/**
 * What a listener knows of its connections, and a connection of what has gone through it.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  Collector,
  connectedPair,
  drivers,
  failureNow,
  library,
  newPort,
  pattern,
  rawClient,
  temporaryFile,
  until,
  type CompletionPort,
  type KeyedSocket,
  type PortToken,
  type SocketHandle,
} from './support/harness';

const HOST = '127.0.0.1';

/** Whether the peer closes a connection that has just been made. */
async function isTurnedAway(port: number): Promise<boolean> {
  const client = await rawClient(port);
  client.resume();
  const answer = await new Promise<boolean>((resolve) => {
    client.once('data', () => resolve(false));
    client.once('end', () => resolve(true)).once('close', () => resolve(true));
  });
  if (answer) client.destroy();
  return answer;
}

describe.each(drivers)('%s', (driver) => {
  describe('connections of a listener', () => {
    test('are counted until they are closed, by whichever side of them', async () => {
      const port = newPort({ driver });
      const listener = await port.listen({ host: HOST, port: 0 });
      expect([listener.listening, listener.connections]).toEqual([true, 0]);
      const sockets: SocketHandle[] = [];
      for (let i = 0; i < 3; i++) {
        const accepting = listener.accept();
        await rawClient(listener.address()!.port);
        sockets.push(await accepting);
        expect(listener.connections).toBe(i + 1);
      }
      await sockets[0]!.close();
      expect(listener.connections).toBe(2);
      await sockets[1]!.reset();
      expect(listener.connections).toBe(1);
      // Those that the loop has not taken are counted, too, and closed when it is left.
      const loop = listener.sockets();
      const first = loop.next();
      await rawClient(listener.address()!.port);
      await rawClient(listener.address()!.port);
      await first;
      await until(() => listener.connections === 3);
      await loop.return();
      await until(() => listener.connections === 2);
      await listener.close();
      expect(listener.listening).toBe(false);
      expect(failureNow(() => listener.connections).code).toBe('ERR_HANDLE_CLOSED');
      expect(failureNow(() => listener.maxConnections).code).toBe('ERR_HANDLE_CLOSED');
      expect(failureNow(() => (listener.maxConnections = 5)).code).toBe('ERR_HANDLE_CLOSED');
      expect(sockets[2]!.closed).toBe(false); // it goes on without its listener
    });

    test('are counted at whichever port they are', async () => {
      const [first, second] = [newPort({ driver }), newPort({ driver })];
      const listener = await first.listen({ host: HOST, port: 0, key: 1 });
      const [here, there] = [new Collector(first), new Collector(second)];
      await rawClient(listener.address()!.port);
      const { accepted } = await here.first('accepted');
      accepted!.handOff(second, 5);
      const { handle } = await there.first('handedOff');
      expect(listener.connections).toBe(1);
      handle!.close();
      await there.first('closed');
      expect(listener.connections).toBe(0);
    });

    test('are counted down when the thread that has them dies', async () => {
      const port = newPort({ driver });
      const listener = await port.listen({ host: HOST, port: 0, key: 1 });
      const collector = new Collector(port);
      const worker = new Worker(
        `const { parentPort } = require('node:worker_threads');
        import(${JSON.stringify(library)}).then(({ CompletionPort }) => {
          const port = new CompletionPort({ driver: ${JSON.stringify(driver)} });
          let count = 0;
          port.consume((packet) => {
            if (packet.type === 'handedOff' && ++count === 5) parentPort.postMessage('here');
          });
          parentPort.postMessage(port.token);
        });`,
        { eval: true, execArgv: [] },
      );
      onTestFinished(() => void worker.terminate());
      const [token] = (await once(worker, 'message')) as [PortToken];
      for (let i = 0; i < 5; i++) await rawClient(listener.address()!.port);
      await until(() => collector.of('accepted').length === 5);
      const arrived = once(worker, 'message');
      for (const { accepted } of collector.of('accepted')) accepted!.handOff(token);
      await arrived;
      expect(listener.connections).toBe(5);
      await worker.terminate();
      await until(() => listener.connections === 0);
    });
  });

  describe('maxConnections', () => {
    /** Answers each connection with a byte. */
    async function greeter(
      port: CompletionPort,
      maxConnections: number | undefined,
    ): Promise<{ sockets: SocketHandle[]; tcpPort: number; listener: { maxConnections: number } }> {
      const listener = await port.listen({ host: HOST, port: 0, maxConnections });
      const sockets: SocketHandle[] = [];
      void (async () => {
        for await (const socket of listener) {
          sockets.push(socket);
          void socket.send('x');
        }
      })();
      return { sockets, tcpPort: listener.address()!.port, listener };
    }

    test('what comes beyond is closed at once, and counted; there is room when one closes', async () => {
      const port = newPort({ driver });
      const { sockets, tcpPort, listener } = await greeter(port, 2);
      expect(listener.maxConnections).toBe(2);
      expect([await isTurnedAway(tcpPort), await isTurnedAway(tcpPort)]).toEqual([false, false]);
      expect([await isTurnedAway(tcpPort), await isTurnedAway(tcpPort)]).toEqual([true, true]);
      expect(port.stats().refused).toBe(2);
      await sockets[0]!.close();
      expect(await isTurnedAway(tcpPort)).toBe(false);
      expect(await isTurnedAway(tcpPort)).toBe(true);
      listener.maxConnections = Infinity;
      expect(await isTurnedAway(tcpPort)).toBe(false);
      expect(listener.maxConnections).toBe(Infinity);
      listener.maxConnections = 1;
      expect(await isTurnedAway(tcpPort)).toBe(true);
      expect(port.stats().refused).toBe(4);
      expect(sockets.filter((socket) => !socket.closed)).toHaveLength(3);
    });

    test('0 closes all; none is Infinity', async () => {
      const port = newPort({ driver });
      expect((await greeter(port, undefined)).listener.maxConnections).toBe(Infinity);
      const { tcpPort, sockets } = await greeter(port, 0);
      expect(await isTurnedAway(tcpPort)).toBe(true);
      expect(sockets).toEqual([]);
    });

    test('a single accept waits for one that it may have', async () => {
      const port = newPort({ driver });
      const listener = await port.listen({ host: HOST, port: 0, maxConnections: 1 });
      const tcpPort = listener.address()!.port;
      const accepting = listener.accept();
      await rawClient(tcpPort);
      const only = await accepting;
      const next = listener.accept();
      expect(await isTurnedAway(tcpPort)).toBe(true);
      expect(next.pending).toBe(true);
      await only.close();
      await rawClient(tcpPort);
      await (await next).close();
      expect(listener.connections).toBe(0);
    });

    test('with a key no packet tells of what is closed; the bound holds for all together', async () => {
      const port = newPort({ driver });
      const listener = await port.listen({ host: HOST, port: 0, key: 1, maxConnections: 4 });
      const collector = new Collector(port);
      const tcpPort = listener.address()!.port;
      const clients = await Promise.all(Array.from({ length: 20 }, () => rawClient(tcpPort)));
      let ended = 0;
      for (const client of clients)
        client
          .resume()
          .once('close', () => ended++)
          .once('end', () => client.destroy());
      await until(() => ended === 16);
      const packets = collector.of('accepted');
      expect(packets.map(({ accepted, error }) => [accepted === undefined, error])).toEqual(
        Array.from({ length: 4 }, () => [false, undefined]),
      );
      expect([listener.connections, port.stats().refused]).toEqual([4, 16]);
    });

    test('wrong numbers throw', async () => {
      const port = newPort({ driver });
      const listener = await port.listen({ host: HOST, port: 0 });
      for (const wrong of [-1, 1.5, NaN, 2 ** 32, '5', null]) {
        expect(() => (listener.maxConnections = wrong as number)).toThrow(/maxConnections/);
        const listening = (): unknown => port.listen({ port: 0, maxConnections: wrong as number });
        expect(listening).toThrow(/maxConnections/);
      }
    });
  });

  describe('bytesRead and bytesWritten', () => {
    test('count what was received and sent, however that was done', async () => {
      const port = newPort({ driver });
      const { client, server } = await connectedPair(port);
      expect([client.bytesRead, client.bytesWritten]).toEqual([0, 0]);
      const file = await port.open(temporaryFile(pattern(50_000)));
      const receiving = (async () => {
        let bytes = await client.receive(Buffer.alloc(3));
        for await (const chunk of client) bytes += chunk.length;
        return bytes;
      })();
      await server.send(['abc', Buffer.alloc(300_000)]);
      await server.sendFile(file, { position: 10_000 });
      await server.end('last');
      expect(await receiving).toBe(340_007);
      expect([server.bytesRead, server.bytesWritten]).toEqual([0, 340_007]);
      expect([client.bytesRead, client.bytesWritten]).toEqual([340_007, 0]);
      // What they were when they were closed, although nobody has asked before.
      await server.close();
      await client.close();
      expect([server.bytesWritten, client.bytesRead]).toEqual([340_007, 340_007]);
    });

    test('are the connection’s, at whichever port it is', async () => {
      const [first, second] = [newPort({ driver }), newPort({ driver })];
      const listener = await first.listen({ host: HOST, port: 0, key: 1 });
      const [here, there] = [new Collector(first), new Collector(second)];
      const client = await rawClient(listener.address()!.port);
      const socket = (await here.first('accepted')).accepted!;
      socket.receive();
      client.write('four');
      await here.first('received');
      socket.send('123456');
      await here.first('sent');
      socket.handOff(second, 9);
      const moved = (await there.first('handedOff')).handle as KeyedSocket;
      moved.receive();
      client.write('five!');
      await there.first('received');
      expect([moved.bytesRead, moved.bytesWritten]).toEqual([9, 6]);
      expect([socket.bytesRead, socket.bytesWritten]).toEqual([4, 6]);
    });
  });
});
