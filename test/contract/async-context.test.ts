/** The asynchronous contexts of packets: the port's own, and those that handles have kept. */
import { AsyncLocalStorage, AsyncResource } from 'node:async_hooks';
import { describe, expect, test } from 'vitest';
import {
  codeOf,
  Collector,
  failureNow,
  library,
  newPort,
  outputOf,
  take,
  temporaryFile,
  until,
  type CompletionPort,
  type KeyedFile,
  type KeyedSocket,
  type KeyedTimer,
  type Packet,
} from '../support/harness';

const storage = new AsyncLocalStorage<string>();
/** The store of `storage` that a handle has kept. */
const kept = (handle: { readonly asyncResource: AsyncResource | undefined }): string | undefined =>
  handle.asyncResource?.runInAsyncScope(() => storage.getStore());

function opened(port: CompletionPort, store: string, key: number): Promise<KeyedFile> {
  const path = temporaryFile('x');
  return storage.run(store, () => port.open(path, 'r', { key, asyncResource: true }));
}

describe('a handle with a key keeps the context of the call that opened it', () => {
  test('file, descriptor, timer, listener and connection', async () => {
    const port = newPort();
    const file = await opened(port, 'file', 1);
    const [again, timer, listening] = storage.run('others', () => [
      port.open(process.platform === 'win32' ? temporaryFile('x') : file.fd, 'r', {
        key: 2,
        asyncResource: true,
      }),
      port.timer({ key: 3, asyncResource: true }),
      port.listen({ host: '127.0.0.1', port: 0, key: 4, asyncResource: true }),
    ]);
    const listener = await listening;
    const where = { host: '127.0.0.1', port: listener.address()!.port };
    const socket = await storage.run('socket', () =>
      port.connect({ ...where, key: 5, asyncResource: true }),
    );
    expect([file, await again, timer, listener, socket].map(kept)).toEqual([
      'file',
      'others',
      'others',
      'others',
      'socket',
    ]);
    expect(file.asyncResource).toBeInstanceOf(AsyncResource);
    expect(file.asyncResource).toBe(file.asyncResource);
  });

  test('only where that is asked for', async () => {
    const port = newPort();
    const timers = storage.run('x', (): KeyedTimer[] => [
      port.timer({ key: 1 }),
      port.timer({ key: 1, asyncResource: false }),
      port.timer({ key: 1, asyncResource: undefined }),
    ]);
    expect(timers.map(({ asyncResource }) => asyncResource)).toEqual(Array(3).fill(undefined));
  });

  test('an accepted connection keeps that in which it was first asked for', async () => {
    const port = newPort();
    const sockets: (KeyedSocket | undefined)[] = [];
    const collector = new Collector(port, (packet) => {
      if (packet.type !== 'accepted') return;
      const store = `client ${sockets.length}`;
      storage.run(store, () => sockets.push(packet.accepted));
    });
    const options = { host: '127.0.0.1', port: 0 };
    const keeps = await storage.run('listener', () =>
      port.listen({ ...options, key: 1, asyncResource: true }),
    );
    const forgets = await port.listen({ ...options, key: 2 });
    for (const listener of [keeps, keeps, forgets]) {
      const before = sockets.length;
      await port.connect({ host: '127.0.0.1', port: listener.address()!.port });
      await until(() => sockets.length > before);
    }
    expect(sockets.map((socket) => kept(socket!))).toEqual(['client 0', 'client 1', undefined]);
    collector.stop();
  });
});

describe('packets come in the port’s own context', () => {
  test('with consume, whatever called native code', async () => {
    const port = newPort();
    const stores: unknown[] = [];
    const consumer = storage.run('consumer', () =>
      port.consume(({ type }) => void stores.push(type, storage.getStore())),
    );
    const file = await opened(port, 'file', 1);
    storage.run('reader', () => file.read(port.allocate(1), { position: 0 }));
    await until(() => stores.length > 0);
    expect(stores).toEqual(['read', undefined]);
    consumer.stop();
  });

  test('with consume and asyncResource, in the handle’s where it has kept one', async () => {
    const port = newPort();
    const stores: [Packet['type'], unknown][] = [];
    const consumer = port.consume((packet) => void stores.push([packet.type, storage.getStore()]), {
      asyncResource: true,
    });
    const file = await opened(port, 'file', 1);
    const other = await port.open(temporaryFile('x'), 'r', { key: 2 });
    storage.run('reader', () => file.read(port.allocate(1), { position: 0 }));
    await until(() => stores.length === 1);
    storage.run('reader', () => other.read(port.allocate(1), { position: 0 }));
    await until(() => stores.length === 2);
    storage.run('poster', () => port.post(1, 5));
    await until(() => stores.length === 3);
    file.close();
    await until(() => stores.length === 4);
    expect(stores).toEqual([
      ['read', 'file'],
      ['read', undefined],
      ['posted', undefined],
      ['closed', 'file'],
    ]);
    consumer.stop();
  });

  test('a handler that throws in a kept context is an uncaught exception, and packets go on', async () => {
    const output = await outputOf(`
      const port = new CompletionPort();
      process.on('uncaughtException', ({ message }) => console.log(message));
      const timer = port.timer({ key: 1, asyncResource: true });
      let count = 0;
      port.consume(({ type }) => {
        if (++count === 1) throw new Error('first');
        console.log('second');
        port.close();
      }, { asyncResource: true });
      timer.start(1);
      timer.start(2);`);
    expect(output.split('\n')).toEqual(['first', 'second']);
  });

  test('with get, by hand', async () => {
    const port = newPort();
    const file = await opened(port, 'file', 1);
    file.read(port.allocate(1), { position: 0 });
    const [packet] = await take(port, 1);
    expect(kept(packet!.handle as KeyedFile)).toBe('file');
  });
});

describe('what another port, or thread, has', () => {
  test('none after a hand-off, and none where it comes back', async () => {
    const [port, other] = [newPort(), newPort()];
    const file = await opened(port, 'file', 1);
    file.handOff(other, 2);
    const [there] = await take(other, 1);
    expect(there).toMatchObject({ type: 'handedOff', key: 2 });
    expect((there!.handle as KeyedFile).asyncResource).toBeUndefined();
    (there!.handle as KeyedFile).handOff(port, 1);
    const [back] = await take(port, 1);
    expect((back!.handle as KeyedFile).asyncResource).toBeUndefined();
    expect(kept(file)).toBe('file'); // the old object has it still
  });
});

test('another thread has none', async () => {
  const worker = `
    import { parentPort, workerData } from 'node:worker_threads';
    import { CompletionPort } from '${library}';
    const port = CompletionPort.attach(workerData);
    const [{ handle }] = port.get();
    parentPort.postMessage(String(handle.asyncResource));
    port.detach();`;
  const output = await outputOf(`
    import { Worker } from 'node:worker_threads';
    const port = new CompletionPort();
    const timer = port.timer({ key: 1, asyncResource: true });
    const url = new URL('data:text/javascript,' + encodeURIComponent(${JSON.stringify(worker)}));
    const worker = new Worker(url, { workerData: port.token });
    worker.on('message', async (there) => {
      console.log(there, timer.asyncResource !== undefined);
      await port.close();
    });
    timer.start(1);`);
  expect(output).toBe('undefined true');
});

describe('bad input', () => {
  test.each([1, 'yes'])('asyncResource: %s', (asyncResource) => {
    const port = newPort();
    const options = { asyncResource: asyncResource as never };
    const calls = [
      () => port.timer({ key: 1, ...options }),
      () => port.open('x', 'r', { key: 1, ...options }),
      () => port.listen({ port: 0, key: 1, ...options }),
      () => port.connect({ port: 1, key: 1, ...options }),
      () => port.consume(() => undefined, options),
    ];
    for (const call of calls) expect(codeOf(failureNow(call))).toBe('ERR_INVALID_ARG_TYPE');
  });

  test('a handle without a key has none: its operations keep their contexts', () => {
    const port = newPort();
    const error = failureNow(() => port.timer({ asyncResource: true } as never));
    expect(codeOf(error)).toBe('ERR_INVALID_ARG_VALUE');
    expect(error.message).toMatch(/options\.asyncResource.*with a key/);
  });

  test('an option that consume does not know', () => {
    const port = newPort();
    const error = failureNow(() => port.consume(() => undefined, { async: true } as never));
    expect(codeOf(error)).toBe('ERR_INVALID_ARG_VALUE');
  });
});
