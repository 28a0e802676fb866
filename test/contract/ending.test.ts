import { Worker } from 'node:worker_threads';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  codeOf,
  Collector,
  keyedWithRawPeer,
  library,
  newPort,
  newSeed,
  outputOf,
  Random,
  rawServer,
  root,
  runModule,
  sleep,
  turns,
  skipOnWindows,
  until,
} from '../support/harness';
import { Taker } from '../support/taker';

/** A whole run, which CI may lengthen: COMPLETION_PORT_TEST_WORKERS=200. */
const WORKERS = Number(process.env['COMPLETION_PORT_TEST_WORKERS'] ?? 40);
const busyWorker = new URL('../support/workers/busy.mjs', import.meta.url);

describe('T1: terminate()', () => {
  const long = { timeout: 240_000 };
  test(
    'T1: workers ended at random moments, with I/O in flight: the others go on',
    long,
    async () => {
      const random = new Random(newSeed('T1'));
      const port = newPort({ concurrency: 4, spinMicroseconds: random.below(1001) });
      const server = await rawServer((socket) => socket.on('data', (bytes) => socket.write(bytes)));
      const collector = new Collector(port);
      const modes = ['get', 'await', 'files', 'loop'];
      let next = 0;
      await Promise.all(
        Array.from({ length: 4 }, async () => {
          while (next < WORKERS) {
            const mode = modes[next++ % modes.length];
            const worker = new Worker(busyWorker, {
              workerData: { token: port.token, tcpPort: server.port, mode },
              execArgv: [],
            });
            const errors: unknown[] = [];
            worker.on('error', (error) => errors.push(error));
            await new Promise((resolve) => worker.once('message', resolve));
            await sleep(random.below(15));
            await worker.terminate();
            expect(errors).toEqual([]);
          }
        }),
      );
      await until(() => port.stats().threads === 1);
      // The port is as it was: it posts, receives, reads.
      const { socket, peer } = await keyedWithRawPeer(port, 12345);
      socket.receive();
      peer.write('alive');
      await until(() =>
        collector.packets.some(({ key, data }) => key === 12345 && data?.toString() === 'alive'),
      );
      port.post(54321, 1);
      await until(() => collector.packets.some(({ key }) => key === 54321));
    },
  );

  test('T1: a worker that is blocked in get can be ended, the others go on', async () => {
    const port = newPort({ concurrency: 4 });
    const { takers, log } = await Taker.team(port, 3, { holds: false });
    await takers[2]!.worker.terminate();
    await until(() => port.stats().threads === 3);
    for (let i = 0; i < 10; i++) port.post(i, i);
    await until(() => log.length === 10);
    expect(takers[2]!.taken).toEqual([]);
  });

  test('T1: packets that a dead thread had not handled go to the others, in order', async () => {
    const port = newPort({ concurrency: 1 });
    for (let i = 0; i < 10; i++) port.post(i, i);
    const dying = await Taker.start(port);
    await until(() => dying.taken.length === 1);
    await dying.worker.terminate();
    const collector = new Collector(port);
    await until(() => collector.of('posted').length === 9);
    await turns();
    expect(collector.of('posted').map(({ value }) => value)).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9]);
    expect(collector.of('abandoned').map(({ key }) => key)).toEqual([0]);
  });

  test('T1: the key a dead thread held is released with an `abandoned` packet before its others', async () => {
    const port = newPort({ concurrency: 2 });
    const { takers, log } = await Taker.team(port, 1);
    port.post(7, 1);
    await until(() => log.length === 1);
    port.post(7, 2);
    port.post(7, 3);
    await takers[0]!.worker.terminate();
    const collector = new Collector(port);
    await collector.count(3);
    expect(collector.packets.map(({ type, key, value }) => [type, key, value])).toEqual([
      ['abandoned', 7, undefined],
      ['posted', 7, 2],
      ['posted', 7, 3],
    ]);
  });

  test('T1: the abandoned packet names the handle, which still works', async () => {
    const port = newPort({ concurrency: 2 });
    const { socket, peer } = await keyedWithRawPeer(port, 9);
    const { takers, log } = await Taker.team(port, 1);
    socket.receive();
    peer.write('unhandled');
    await until(() => log.length === 1);
    await takers[0]!.worker.terminate();
    const collector = new Collector(port);
    const abandoned = await collector.first('abandoned');
    expect(abandoned).toMatchObject({ key: 9, handle: socket });
    socket.receive();
    peer.write('next');
    const received = await collector.first('received');
    expect(received.data!.toString()).toBe('next');
  });

  test('T1: buffers that a dead thread held come back', async () => {
    const port = newPort({ concurrency: 2, buffers: { size: 1024, count: 4 } });
    const pairs = [];
    for (let key = 0; key < 3; key++) pairs.push(await keyedWithRawPeer(port, key));
    const collector: string[] = [];
    for (let round = 0; round < 6; round++) {
      const { takers, log } = await Taker.team(port, 1);
      const { socket, peer } = pairs[round % 3]!;
      socket.receive();
      peer.write(`round ${round}`);
      await until(() => log.some(({ type }) => type === 'received'));
      collector.push(log.find(({ type }) => type === 'received')!.text!);
      await takers[0]!.worker.terminate();
      for (const packet of port.get(64, 0)) expect(packet.type).toBe('abandoned');
    }
    expect(collector).toEqual([0, 1, 2, 3, 4, 5].map((round) => `round ${round}`));
  });
});

describe('T1: exceptions and exits', () => {
  test('T1: an uncaught exception in a worker ends it; its packet is abandoned, the port goes on', async () => {
    const port = newPort({ concurrency: 2 });
    const code = `
      const { CompletionPort } = require(${JSON.stringify(`${root}dist/index.js`)});
      const port = CompletionPort.attach(require('node:worker_threads').workerData);
      for (;;) for (const packet of port.get()) if (packet.key === 13) throw new Error('unlucky');`;
    const worker = new Worker(code, { eval: true, workerData: port.token, execArgv: [] });
    onTestFinished(async () => void (await worker.terminate()));
    const failed = new Promise<Error>((resolve) => worker.once('error', resolve));
    await until(() => port.stats().threads === 2 && port.stats().waiting > 0);
    for (let i = 10; i < 16; i++) port.post(i, i);
    expect((await failed).message).toBe('unlucky');
    await until(() => port.stats().threads === 1);
    const collector = new Collector(port);
    await until(() => collector.packets.length === 3);
    expect(collector.packets.map(({ type, key }) => [type, key])).toEqual([
      ['abandoned', 13],
      ['posted', 14],
      ['posted', 15],
    ]);
  });

  test.each([
    ['process.exit() in main', 'process.exit(7)', 7],
    ['an uncaught exception in main', 'throw new Error("mine")', 1],
    [
      'process.exit() in a handler',
      'const own = new CompletionPort(); own.post(1); own.consume(() => process.exit(7))',
      7,
    ],
  ])('T1: %s with workers blocked in get and I/O in flight', async (_name, ending, code) => {
    for (let round = 0; round < 3; round++) {
      const result = await runModule(
        `
        import { Worker } from 'node:worker_threads';
        import net from 'node:net';
        const server = net.createServer((s) => s.on('data', (d) => s.write(d)).on('error', () => {})).listen(0, '127.0.0.1');
        await new Promise((r) => server.once('listening', r));
        const port = new CompletionPort({ concurrency: 4 });
        const ready = [];
        for (const mode of ['get', 'get', 'await', 'files']) {
          const worker = new Worker(new URL(${JSON.stringify(busyWorker.href)}), {
            workerData: { token: port.token, tcpPort: server.address().port, mode },
            execArgv: [],
          });
          ready.push(new Promise((r) => worker.once('message', r)));
        }
        await Promise.all(ready);
        const socket = await port.connect({ host: '127.0.0.1', port: server.address().port });
        socket.receive().catch(() => {});
        await new Promise((r) => setTimeout(r, ${round * 10}));
        ${ending};`,
      );
      expect(result, result.stderr).toMatchObject({ code, signal: null });
      expect(result.stderr).not.toMatch(/ERR_|FATAL|Assertion/);
    }
  });

  test('T1: process.exit() in a worker ends that worker alone', async () => {
    const output = await outputOf(`
      import { Worker } from 'node:worker_threads';
      const port = new CompletionPort({ concurrency: 2 });
      const code = 'import(' + JSON.stringify(${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)}) + ').then(({ CompletionPort }) => { const port = CompletionPort.attach(require("node:worker_threads").workerData); for (const packet of port.get(1)) process.exit(3); })';
      const worker = new Worker(code, { eval: true, workerData: port.token, execArgv: [] });
      const exited = new Promise((r) => worker.once('exit', r));
      while (port.stats().waiting === 0) await new Promise((r) => setTimeout(r, 2));
      port.post(5, 1);
      const status = await exited;
      const types = [];
      for (const packet of port.get(4, 5000)) types.push(packet.type + packet.key);
      console.log(status, ...types);
      await port.close();`);
    expect(output).toBe('3 abandoned5');
  });
});

describe('T2', () => {
  test('T2: after close() no descriptor and no thread of the port is left', async (context) => {
    skipOnWindows(context, 'has no /proc to count them in');
    const output = await outputOf(`
      import fs from 'node:fs';
      const count = () => [fs.readdirSync('/proc/self/fd').length, fs.readdirSync('/proc/self/task').length];
      const round = async () => {
        const port = new CompletionPort();
        const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 1 });
        const target = { host: '127.0.0.1', port: listener.address().port };
        port.consume(() => {});
        for (let i = 0; i < 5; i++) {
          const socket = await port.connect(target);
          socket.receive().catch(() => {});
        }
        const file = await port.open('/dev/zero');
        void file.read(new Uint8Array(1000)).catch(() => {});
        for await (const chunk of file.chunks({ length: 1e6 })) chunk.length;
        port.timer().wait(1e6).catch(() => {});
        port.allocate(1 << 20);
        await port.close();
      };
      await round();
      const settled = async () => {
        await new Promise((r) => setTimeout(r, 20));
        return count();
      };
      const before = await settled();
      for (let i = 0; i < 20; i++) await round();
      let after = await settled();
      for (let i = 0; i < 500 && String(after) !== String(before); i++) after = await settled();
      console.log(String(before) === String(after) ? 'the same' : before + ' ' + after);`);
    expect(output).toBe('the same');
  });

  test('T2: nor any of its memory: forty ports take no more than a few', async () => {
    const output = await outputOf(
      `
      const round = async () => {
        const port = new CompletionPort({ buffers: { size: 65536, count: 512 } });
        port.allocate(1 << 24).fill(1);
        await port.close();
      };
      const used = () => { globalThis.gc(); return process.memoryUsage().rss / 2 ** 20; };
      for (let i = 0; i < 10; i++) await round();
      await new Promise((r) => setTimeout(r, 50));
      const before = used();
      for (let i = 0; i < 40; i++) { await round(); if (i % 10 === 0) { used(); await new Promise((r) => setTimeout(r, 1)); } }
      await new Promise((r) => setTimeout(r, 50));
      const grown = used() - before;
      console.log(grown < 400 ? 'bounded' : 'grew by ' + grown + ' MiB');`,
      { nodeArguments: ['--expose-gc'] },
    );
    expect(output).toBe('bounded');
  });

  test('T2: nor any object: two thousand ports leave as many as one', async () => {
    const output = await outputOf(`
      import { createRequire } from 'node:module';
      const { binding } = createRequire(${JSON.stringify(library)})('./native/binding.js');
      const round = async (i) => {
        const port = new CompletionPort({ buffers: { size: 4096, count: 16 } });
        port.post(1, i);
        port.get(1, 1000);
        if (i % 20 === 0) {
          const listener = await port.listen({ host: '127.0.0.1', port: 0, key: 2 });
          const socket = await port.connect({ host: '127.0.0.1', port: listener.address().port });
          socket.receive().catch(() => {});
          socket.send('hello').catch(() => {});
        }
        await port.close();
      };
      const before = binding.remains();
      for (let i = 0; i < 2000; i++) await round(i);
      const after = binding.remains();
      console.log(before.ports, before.pools, 'then', after.ports, after.pools);`);
    expect(output).toBe('0 0 then 0 0');
  });

  test('T2: pending operations of await style end when the port is closed', async () => {
    const port = newPort();
    const { socket } = await keyedWithRawPeer(port, 1);
    const server = await rawServer();
    const awaited = await port.connect({ host: '127.0.0.1', port: server.port });
    const ends = [
      awaited.receive(),
      port.timer().wait(3_600_000),
      (await port.listen({ host: '127.0.0.1', port: 0 })).accept(),
    ].map((operation) => operation.then(() => 'done', codeOf));
    socket.receive();
    await turns();
    await port.close();
    for (const code of await Promise.all(ends))
      expect(['ECANCELED', 'ERR_PORT_CLOSED']).toContain(code);
    expect(socket.closed).toBe(true);
  });

  test('T2: the peers of a closed port see the end', async () => {
    const port = newPort();
    const { peer } = await keyedWithRawPeer(port, 1);
    peer.resume();
    const ended = new Promise<void>((resolve) => peer.once('end', resolve));
    await port.close();
    await ended;
  });
});

/** Ends by itself, or is alive after it has said so. */
const settled = `
  const alive = (ms) => new Promise((r) => setTimeout(r, ms).unref());
  process.on('exit', () => console.log('ended'));`;

describe('T3', () => {
  test.each([
    ['an idle port', `new CompletionPort();`],
    [
      'a port with a closed file',
      `const port = new CompletionPort(); const f = await port.open(process.execPath); await f.close();`,
    ],
    [
      'an unref’d listener',
      `const port = new CompletionPort(); (await port.listen({ port: 0, key: 1 })).unref();`,
    ],
    [
      'an unref’d file',
      `const port = new CompletionPort(); (await port.open(process.execPath)).unref();`,
    ],
    [
      'an unref’d timer',
      `const port = new CompletionPort(); const t = port.timer().unref(); t.wait(1e9).catch(() => {});`,
    ],
    [
      'an unref’d consumer',
      `const port = new CompletionPort(); port.consume(() => {}); port.unref();`,
    ],
    ['a stopped consumer', `const port = new CompletionPort(); port.consume(() => {}).stop();`],
    [
      'an aborted loop',
      `const port = new CompletionPort(); port.post(1); for await (const p of port.packets()) break;`,
    ],
    [
      'a closed port',
      `const port = new CompletionPort(); await port.listen({ port: 0 }); port.consume(() => {}); await port.close();`,
    ],
    [
      'a detached port',
      `const port = new CompletionPort(); await port.listen({ port: 0 }); port.detach();`,
    ],
  ])('T3: %s lets the process end', async (_name, code) => {
    expect(await outputOf(`${settled}\n${code}`)).toBe('ended');
  });

  test.each([
    ['an open listener', `await port.listen({ port: 0 });`],
    ['an open file', `await port.open(process.execPath);`],
    ['an open timer', `port.timer().wait(1e9);`],
    ['a keyed listener', `await port.listen({ port: 0, key: 1 });`],
    ['a consumer', `port.consume(() => {});`],
    ['a ref’d handle', `(await port.open(process.execPath)).unref().ref();`],
  ])('T3: %s keeps the process alive', async (_name, code) => {
    // It is still there long after it would have ended, and then ends by itself when told to.
    const output = await outputOf(`
      const port = new CompletionPort();
      ${code}
      process.on('exit', (code) => console.log(code === 0 ? 'alive' : 'ended'));
      process.exitCode = 1;
      setTimeout(() => process.exit(0), 300).unref();`).catch((error: Error) => error.message);
    expect(output).toBe('alive');
  });

  test('T3: a pending operation keeps the process alive until it is done', async () => {
    const output = await outputOf(`
      const port = new CompletionPort();
      const timer = port.timer();
      void timer.wait(100).then(() => { console.log('done'); timer.unref(); });`);
    expect(output).toBe('done');
  });

  test('T3: a keyed handle that another thread has closed keeps nothing alive', async () => {
    const output = await outputOf(`
      import { Worker } from 'node:worker_threads';
      const port = new CompletionPort({ concurrency: 2 });
      const file = await port.open(process.execPath, 'r', { key: 1 });
      const code = 'import(' + JSON.stringify(${JSON.stringify(new URL('../../dist/index.js', import.meta.url).href)}) + ').then(({ CompletionPort }) => { const port = CompletionPort.attach(require("node:worker_threads").workerData); for (let i = 0; i < 2;) for (const packet of port.get(1)) { i++; } port.detach(); })';
      const worker = new Worker(code, { eval: true, workerData: port.token, execArgv: [] });
      while (port.stats().waiting === 0) await new Promise((r) => setTimeout(r, 2));
      port.post(1);
      file.close();
      await new Promise((r) => worker.once('exit', r));
      console.log('closed');`);
    expect(output).toBe('closed');
  });
});
