/**
 * `idleTimeout`: a connection on which nothing moves ends, whichever thread, port and style has it.
 */
import { once } from 'node:events';
import { Worker } from 'node:worker_threads';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  Collector,
  connectedPair,
  failureNow,
  failureOf,
  library,
  newPort,
  pattern,
  rawClient,
  skipUnderWine,
  sleep,
  until,
  type PortToken,
} from '../support/harness';

const HOST = '127.0.0.1';
const SHORT = 100;
const timedOut = { code: 'ETIMEDOUT', timeout: true };

describe('O10, awaited', () => {
  test('O10: a receive on which nothing comes fails, and so does what is asked for later; the peer hears of it', async () => {
    const port = newPort();
    const listener = await port.listen({ host: HOST, port: 0 });
    const { port: number } = listener.address()!;
    const client = await port.connect({ host: HOST, port: number, idleTimeout: SHORT });
    const server = await listener.accept();
    expect([client.idleTimeout, server.idleTimeout]).toEqual([SHORT, 0]);
    expect(await failureOf(() => client.receive())).toMatchObject(timedOut);
    expect(await server.receive()).toHaveLength(0);
    expect(await failureOf(() => client.receive())).toMatchObject(timedOut);
    expect(await failureOf(() => client.send('x'))).toMatchObject(timedOut);
    expect(await failureOf(() => client.end())).toMatchObject(timedOut);
    await client.close();
    expect(failureNow(() => client.idleTimeout).code).toBe('ERR_HANDLE_CLOSED');
  });

  test('O10: a loop throws, that of a connection which has its time from its listener', async () => {
    const port = newPort();
    const listener = await port.listen({ host: HOST, port: 0, idleTimeout: SHORT });
    const client = await rawClient(listener.address()!.port);
    const socket = await listener.accept();
    expect(socket.idleTimeout).toBe(SHORT);
    client.write('x');
    const seen: string[] = [];
    const loop = async (): Promise<void> => {
      for await (const bytes of socket) seen.push(bytes.toString());
    };
    expect(await failureOf(loop)).toMatchObject(timedOut);
    expect(seen).toEqual(['x']);
  });

  test('O10: what moves now and then goes on for many times that', async () => {
    const port = newPort();
    let pause = 0;
    let error: unknown;
    // Again where this process stood still so long that the time was over by right.
    do {
      const { client, server } = await connectedPair(port);
      client.idleTimeout = 1000;
      pause = 0;
      const move = async (): Promise<void> => {
        const before = Date.now();
        await sleep(100);
        await server.send('x');
        pause = Math.max(pause, Date.now() - before);
        expect(await client.receive()).toHaveLength(1);
      };
      error = undefined;
      try {
        for (const began = Date.now(); Date.now() - began < 2500;) await move();
        expect(client.idleTimeout).toBe(1000);
      } catch (failure) {
        error = failure;
      }
    } while (error !== undefined && pause > 500);
    expect(error).toBeUndefined();
  });

  test('O10: a send that the peer does not take fails, and its memory comes back', async () => {
    const port = newPort();
    const { client, server } = await connectedPair(port);
    client.idleTimeout = SHORT;
    const sending = client.send(Buffer.alloc(32 * 1024 * 1024));
    expect(await failureOf(() => sending)).toMatchObject(timedOut);
    expect(client.bufferedAmount).toBe(0);
    await until(() => port.stats().allocatedBytes === 0);
    expect(server.closed).toBe(false);
  });

  test('O10: no time passes while nothing is asked of the peer', async () => {
    const port = newPort();
    const { client, server } = await connectedPair(port);
    client.idleTimeout = SHORT;
    await sleep(5 * SHORT);
    await server.send('late');
    expect((await client.receive()).toString()).toBe('late');
    await sleep(3 * SHORT);
    expect(await client.send('still here')).toBe(10);
  });

  test('O10: nor while this process does not look at what has come', async (context) => {
    skipUnderWine(context, 'has no SIO_TCP_INFO, which tells what the system has received');
    const port = newPort();
    const { client, server } = await connectedPair(port);
    client.idleTimeout = 300;
    const receiving = client.receive();
    await server.send('here');
    // Another thread of the process would end it meanwhile.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 1500);
    expect((await receiving).toString()).toBe('here');
  });

  test('O10: 0 and Infinity end it; wrong times throw', async () => {
    const port = newPort();
    const { client, server } = await connectedPair(port);
    for (const none of [0, Infinity]) {
      client.idleTimeout = SHORT;
      client.idleTimeout = none;
      expect(client.idleTimeout).toBe(0);
    }
    const receiving = client.receive();
    await sleep(4 * SHORT);
    expect(receiving.pending).toBe(true);
    await server.send('x');
    await receiving;
    expect(failureNow(() => (client.idleTimeout = -1)).code).toBe('ERR_OUT_OF_RANGE');
    expect(failureNow(() => (client.idleTimeout = '1' as never)).code).toBe('ERR_INVALID_ARG_TYPE');
    const wrong = { host: HOST, port: 1, idleTimeout: NaN };
    expect(failureNow(() => port.connect(wrong)).code).toBe('ERR_OUT_OF_RANGE');
    expect(failureNow(() => port.listen(wrong)).code).toBe('ERR_OUT_OF_RANGE');
  });
});

describe('O10, packets', () => {
  test('O10: each operation under way has its packet with ETIMEDOUT', async () => {
    const port = newPort();
    const listener = await port.listen({ host: HOST, port: 0, key: 1, idleTimeout: SHORT });
    const collector = new Collector(port, (packet) => {
      if (packet.type !== 'accepted') return;
      packet.accepted!.receive({ multishot: true, tag: 4 });
      packet.accepted!.send(Buffer.alloc(32 * 1024 * 1024), { tag: 5 });
    });
    await rawClient(listener.address()!.port);
    const received = await collector.first('received');
    expect(received.error).toMatchObject(timedOut);
    expect([received.tag, received.more]).toEqual([4, false]);
    const sent = await collector.first('sent');
    expect(sent.error).toMatchObject(timedOut);
    const socket = collector.of('accepted')[0]!.accepted!;
    socket.receive({ tag: 6 });
    await until(() => collector.of('received').length === 2);
    expect(collector.of('received')[1]).toMatchObject({ tag: 6, error: timedOut });
    socket.close();
    await collector.first('closed');
  });

  test('O10: it goes along to another port, where a thread that blocks in get() hears of it', async () => {
    const port = newPort();
    const listener = await port.listen({ host: HOST, port: 0, key: 1, idleTimeout: 300 });
    const worker = new Worker(
      `const { parentPort } = require('node:worker_threads');
        import(${JSON.stringify(library)}).then(({ CompletionPort }) => {
          const port = new CompletionPort();
          parentPort.postMessage(port.token);
          for (;;) {
            for (const packet of port.get()) {
              if (packet.type === 'handedOff') {
                const { idleTimeout } = packet.handle;
                packet.handle.receive();
                parentPort.postMessage(idleTimeout);
              }
              if (packet.type === 'received') {
                parentPort.postMessage(packet.code);
                packet.handle.close();
              }
              if (packet.type === 'closed') return port.close();
            }
          }
        });`,
      { eval: true, execArgv: [] },
    );
    onTestFinished(() => void worker.terminate());
    const [token] = (await once(worker, 'message')) as [PortToken];
    const here = new Collector(port);
    const client = await rawClient(listener.address()!.port);
    const ended = once(client.resume(), 'end');
    const { accepted } = await here.first('accepted');
    const told = once(worker, 'message');
    accepted!.handOff(token, 9);
    expect(await told).toEqual([300]);
    expect(await once(worker, 'message')).toEqual(['ETIMEDOUT']);
    await ended;
  });

  test('O10: it outlives the thread that gave it', async () => {
    const port = newPort();
    const listener = await port.listen({ host: HOST, port: 0, key: 1 });
    const collector = new Collector(port);
    const client = await rawClient(listener.address()!.port);
    const { accepted } = await collector.first('accepted');
    collector.stop();
    const worker = new Worker(
      `const { parentPort, workerData } = require('node:worker_threads');
        import(${JSON.stringify(library)}).then(({ CompletionPort }) => {
          const port = CompletionPort.attach(workerData);
          for (const packet of port.get()) {
            packet.handle.idleTimeout = 500;
            packet.handle.send('given');
          }
          setInterval(() => undefined, 1000);
        });`,
      { eval: true, execArgv: [], workerData: port.token },
    );
    onTestFinished(() => void worker.terminate());
    client.write('x');
    accepted!.receive();
    const [given] = (await once(client, 'data')) as [Buffer];
    expect(given.toString()).toBe('given');
    await worker.terminate();
    const later = new Collector(port);
    accepted!.receive();
    await until(() => later.of('received').some(({ error }) => error !== undefined));
    expect(later.of('received').at(-1)!.error).toMatchObject(timedOut);
  });
});

test('O10: no byte that comes just when its time is over is lost', async () => {
  const port = newPort();
  for (let round = 0; round < 20; round++) {
    const { client, server } = await connectedPair(port);
    client.idleTimeout = 40;
    const bytes = pattern(64, round);
    const receiving = client.receive();
    receiving.catch(() => undefined);
    await sleep(40 + (round % 5) * 5);
    await server.send(bytes).catch(() => undefined);
    const outcome = await receiving.then(
      (received) => received,
      (error: unknown) => error,
    );
    if (Buffer.isBuffer(outcome)) expect(outcome).toEqual(bytes);
    else expect(outcome).toMatchObject(timedOut);
    await Promise.all([client.close(), server.close()]);
  }
});
