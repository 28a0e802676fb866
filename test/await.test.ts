import { AsyncLocalStorage } from 'node:async_hooks';
import { describe, expect, test } from 'vitest';
import { writtenFifo } from './support/fifo';
import {
  codeOf,
  failureOf,
  newPort,
  outputOf,
  temporaryFile,
  turns,
  withRawPeer,
  type CompletionPort,
  type FileHandle,
} from './support/harness';

async function silentFifo(port: CompletionPort): Promise<FileHandle> {
  const { name } = await writtenFifo();
  return port.open(name, 'r+');
}

test('an operation is a promise: then, catch, finally, Promise.all, several awaits', async () => {
  const port = newPort();
  const file = await port.open(temporaryFile('abc'));
  const operation = file.read({ length: 8, position: 0 });
  expect(operation[Symbol.toStringTag]).toBe('Operation');
  const [a, b] = await Promise.all([operation, operation.then((bytes) => bytes.length)]);
  expect(a.toString()).toBe('abc');
  expect(b).toBe(3);
  expect(await operation).toBe(a);
  let finished = 0;
  await operation.finally(() => finished++);
  expect(finished).toBe(1);
  const failing = port.open('/nonexistent');
  expect(await failing.catch(codeOf)).toBe('ENOENT');
  expect(await failing.then(undefined, () => 'again')).toBe('again');
  expect(await Promise.race([file.stat(), new Promise(() => undefined)])).toHaveProperty('size', 3);
  const all = await Promise.all(
    Array.from({ length: 2000 }, (_, i) => file.read({ length: 1, position: i % 3 })),
  );
  expect(all.map(String).join('')).toBe('abc'.repeat(667).slice(0, 2000));
});

test('the context of AsyncLocalStorage is kept over await and then', async () => {
  const port = newPort();
  const storage = new AsyncLocalStorage<number>();
  const file = await port.open(temporaryFile('abc'));
  const { socket, peer } = await withRawPeer(port);
  await Promise.all(
    Array.from({ length: 50 }, (_, i) =>
      storage.run(i, async () => {
        await file.read(new Uint8Array(3), 0);
        expect(storage.getStore()).toBe(i);
        await file.stat().then(() => expect(storage.getStore()).toBe(i));
        await port.timer().wait(i % 5);
        expect(storage.getStore()).toBe(i);
      }),
    ),
  );
  await storage.run(99, async () => {
    const receiving = socket.receive();
    peer.end('x');
    await receiving;
    expect(storage.getStore()).toBe(99);
    for await (const chunk of socket) expect(chunk).toBeUndefined();
    for await (const chunk of file.chunks({ size: 1 })) {
      expect(storage.getStore()).toBe(99);
      expect(chunk).toHaveLength(1);
    }
  });
});

test('a failure nobody listens to is an unhandledRejection, one’s own cancel() is not', async () => {
  const output = await outputOf(`
    const port = new CompletionPort();
    const codes = [];
    process.on('unhandledRejection', (error) => codes.push(error.code));
    const timer = port.timer();
    timer.wait(1e6).cancel();
    timer.wait(1e6, { timeout: 1 });
    timer.wait(1e6, { timeout: 1 }).catch(() => {});
    timer.wait(1e6, { timeout: 1 }).then(() => {});
    port.open('/nonexistent');
    while (codes.length < 3) await new Promise((r) => setTimeout(r, 5));
    await new Promise((r) => setTimeout(r, 50));
    console.log(codes.sort().join());
    await port.close();`);
  expect(output).toBe('ENOENT,ETIMEDOUT,ETIMEDOUT');
});

describe('AbortSignal', () => {
  test('aborted before: nothing is submitted', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile(), 'r+');
    const { submitted } = port.stats();
    const signal = AbortSignal.abort('because');
    const calls = [
      () => file.read(new Uint8Array(1), 0, { signal }),
      () => file.write('x', 0, { signal }),
      () => file.write('x', 0, { signal, sync: true }),
      () => file.sync({ signal }),
      () => file.stat({ signal }),
      () => port.open(process.execPath, 'r', { signal }),
      () => port.connect({ port: 1, signal }),
      () => port.timer().wait(1, { signal }),
      async () => {
        for await (const chunk of file.chunks({ signal })) expect(chunk).toBeUndefined();
      },
    ];
    for (const call of calls) {
      const error = await failureOf(call);
      expect(error, String(call)).toMatchObject({
        name: 'AbortError',
        code: 'ABORT_ERR',
        cause: 'because',
      });
    }
    expect(port.stats().submitted).toBe(submitted);
    expect(port.stats().allocatedBytes).toBe(0);
  });

  test('aborted meanwhile: AbortError, and the signal is left without listeners', async () => {
    const port = newPort();
    const file = await silentFifo(port);
    const { socket } = await withRawPeer(port);
    const listener = await port.listen({ host: '127.0.0.1', port: 0 });
    for (const call of [
      (signal: AbortSignal) => file.read(new Uint8Array(1), undefined, { signal }),
      (signal: AbortSignal) => socket.receive({ signal }),
      (signal: AbortSignal) => socket.chunks({ signal }).next(),
      (signal: AbortSignal) => listener.accept({ signal }),
      (signal: AbortSignal) => listener.sockets({ signal }).next(),
      (signal: AbortSignal) => port.timer().wait(1e8, { signal }),
      (signal: AbortSignal) => port.timer().every(1e8, { signal }).next(),
      (signal: AbortSignal) => socket.send(Buffer.alloc(2 ** 25), { signal }),
    ]) {
      const controller = new AbortController();
      const failing = failureOf(() => call(controller.signal));
      await turns(5);
      controller.abort('enough');
      const error = await failing;
      expect(error, String(call)).toMatchObject({
        name: 'AbortError',
        code: 'ABORT_ERR',
        cause: 'enough',
      });
    }
    expect(port.stats().allocatedBytes).toBe(0);
  });

  test('aborted afterwards: no effect; many operations may share a signal', async () => {
    const port = newPort();
    const controller = new AbortController();
    const { signal } = controller;
    const file = await port.open(temporaryFile('abc'));
    for (let i = 0; i < 100; i++) {
      expect(await file.read(new Uint8Array(3), 0, { signal })).toBe(3);
    }
    controller.abort();
    expect(await file.read(new Uint8Array(3), 0)).toBe(3);
  });

  test('a natural result that came first stands', async () => {
    const port = newPort();
    const file = await port.open(temporaryFile('abc'));
    const controller = new AbortController();
    const operation = file.read(new Uint8Array(3), 0, { signal: controller.signal });
    await operation;
    controller.abort();
    expect(await operation).toBe(3);
  });
});

test('cancel() after the end has no effect', async () => {
  const port = newPort();
  const file = await port.open(temporaryFile('abc'));
  const operation = file.read(new Uint8Array(3), 0);
  await operation;
  operation.cancel();
  expect(await operation).toBe(3);
  expect(operation.pending).toBe(false);
});

test.each(['', 'threadsafe'])('the basics, with the notifier %j', async (notifier) => {
  const output = await outputOf(
    `
    const port = new CompletionPort({ concurrency: 2 });
    const listener = await port.listen({ host: '127.0.0.1', port: 0 });
    const serving = (async () => {
      for await (const socket of listener) {
        for await (const bytes of socket) await socket.send(bytes);
        await socket.close();
      }
    })().catch(() => {});
    const client = await port.connect({ host: '127.0.0.1', port: listener.address().port });
    let echoed = '';
    for (let i = 0; i < 200; i++) {
      await client.send('message ' + i);
      for (let text = ''; text !== 'message ' + i;) text += String(await client.receive());
    }
    await client.close();
    const got = [];
    const service = port.consume((packet) => got.push(packet.value));
    for (let i = 0; i < 100; i++) { port.post(1, i); if (i % 10 === 0) await port.timer().wait(1); }
    while (got.length < 100) await port.timer().wait(1);
    service.stop();
    const error = await port.open('/nonexistent').catch((e) => e.code);
    await port.close();
    await serving;
    console.log(got.every((v, i) => v === i), error);`,
    { env: { COMPLETION_PORT_NOTIFIER: notifier } },
  );
  expect(output).toBe('true ENOENT');
});

test('an operation is a promise, and what follows from it a plain one', async () => {
  const port = newPort();
  const timer = port.timer();
  const operation = timer.wait(0);
  expect(operation).toBeInstanceOf(Promise);
  expect(Promise.resolve(operation)).toBe(operation);
  const following = operation.then(() => 'done');
  expect(following).toBeInstanceOf(Promise);
  expect('cancel' in following).toBe(false);
  await expect(following.finally(() => undefined)).resolves.toBe('done');
  expect(operation.pending).toBe(false);
});

test('M2: a loop over received bytes gives each buffer back, also the one it is left with', async () => {
  // Fewer buffers than turns, and than loops: one that stayed away each time would stop them.
  const port = newPort({ buffers: { count: 16 } });
  const { socket, peer } = await withRawPeer(port);
  const turn = async (): Promise<void> => {
    peer.write('x');
    for await (const bytes of socket.chunks({ closeOnReturn: false }))
      return expect(bytes.toString()).toBe('x');
  };
  for (let loop = 0; loop < 200; loop++) await turn();
  let received = 0;
  peer.write('x');
  for await (const bytes of socket) {
    received += bytes.length;
    if (received === 200) peer.end();
    else peer.write('x');
  }
  expect(received).toBe(200);
});
