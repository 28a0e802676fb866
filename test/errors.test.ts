import { chmodSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import {
  keyedWithRawPeer,
  CompletionPort,
  codeOf,
  ended,
  errnoOf,
  failureNow,
  failureOf,
  newPort,
  outputOf,
  rawClient,
  rawServer,
  runModule,
  skipOnWindows,
  startProcess,
  temporaryDirectory,
  temporaryFile,
  turns,
  until,
  windows,
  withRawPeer,
} from './support/harness';

describe('what the system refuses', () => {
  test('a missing file is ENOENT, a directory EISDIR or ENOTDIR', async () => {
    const port = newPort();
    const directory = temporaryDirectory();
    const missing = path.join(directory, 'missing');
    expect(await failureOf(() => port.open(missing))).toMatchObject({
      code: 'ENOENT',
      errno: errnoOf('ENOENT'),
      syscall: 'open',
      path: missing,
    });
    expect((await failureOf(() => port.open(directory, 'w'))).code).toBe('EISDIR');
    const inFile = path.join(temporaryFile(), 'x');
    expect((await failureOf(() => port.open(inFile))).code).toBe(windows ? 'ENOENT' : 'ENOTDIR');
    expect((await failureOf(() => port.open(temporaryFile(), 'wx'))).code).toBe('EEXIST');
    const opened = await port.open(directory, 'r');
    expect((await failureOf(() => opened.read(new Uint8Array(8), 0))).code).toBe('EISDIR');
  });

  test('no permission is EACCES', async (context) => {
    skipOnWindows(context, 'who owns a file may read it');
    if (process.getuid?.() !== 0) {
      const file = temporaryFile('secret');
      chmodSync(file, 0);
      expect((await failureOf(() => newPort().open(file))).code).toBe('EACCES');
      return;
    }
    // Another user from here on; this tree and this Node.js need not be readable for that one.
    const script = `
      process.setgid(65534);
      process.setuid(65534);
      const port = new CompletionPort();
      try { await port.open('/etc/shadow'); } catch (error) { console.log(error.code, error.syscall); }
      await port.close();`;
    expect(await outputOf(script)).toBe('EACCES open');
  });

  test('a refused connection is ECONNREFUSED', async () => {
    const port = newPort();
    const server = net.createServer().listen(0, '127.0.0.1');
    await new Promise((resolve) => server.once('listening', resolve));
    const target = { host: '127.0.0.1', port: (server.address() as net.AddressInfo).port };
    await new Promise((resolve) => server.close(resolve));
    const error = await failureOf(() => port.connect(target));
    expect(error).toMatchObject({ code: 'ECONNREFUSED', syscall: 'connect', address: '127.0.0.1' });
  });

  test('an unknown host is what node:dns says', async () => {
    const port = newPort();
    const error = await failureOf(() => port.connect({ host: 'no-such-host.invalid', port: 1 }));
    expect(['ENOTFOUND', 'EAI_AGAIN']).toContain(error.code);
    expect(error.syscall).toBe('getaddrinfo');
  });

  test('a port in use is EADDRINUSE, an address that is not here EADDRNOTAVAIL', async () => {
    const port = newPort();
    const server = await rawServer();
    const error = await failureOf(() => port.listen({ host: '127.0.0.1', port: server.port }));
    expect(error).toMatchObject({ code: 'EADDRINUSE', syscall: 'listen', port: server.port });
    const foreign = await failureOf(() => port.listen({ host: '192.0.2.1', port: 0 }));
    expect(foreign.code).toBe('EADDRNOTAVAIL');
  });

  test('a descriptor that is not open is EBADF', async () => {
    expect((await failureOf(() => newPort().open(999_999))).code).toBe('EBADF');
  });
});

/** Every public function with arguments of wrong types and out of range. */
describe('wrong arguments throw at once', () => {
  const anything = (value: unknown): never => value as never;
  const port = new CompletionPort({ concurrency: 1 });

  const cases: [string, () => unknown, 'TypeError' | 'RangeError'][] = [
    ['options', () => new CompletionPort(anything(5)), 'TypeError'],
    ['concurrency', () => new CompletionPort({ concurrency: anything('2') }), 'TypeError'],
    ['concurrency range', () => new CompletionPort({ concurrency: 0 }), 'RangeError'],
    ['driver', () => new CompletionPort({ driver: anything('kqueue') }), 'TypeError'],
    ['queueLimit', () => new CompletionPort({ queueLimit: 0 }), 'RangeError'],
    ['buffers', () => new CompletionPort({ buffers: anything(1) }), 'TypeError'],
    ['buffers.size', () => new CompletionPort({ buffers: { size: 1023 } }), 'RangeError'],
    ['buffers.count', () => new CompletionPort({ buffers: { count: 0 } }), 'RangeError'],
    [
      'buffers in all',
      () => new CompletionPort({ buffers: { size: 2 ** 24, count: 2 ** 20 } }),
      'RangeError',
    ],
    ['memoryLimit', () => new CompletionPort({ memoryLimit: -1 }), 'RangeError'],
    ['serializeKeys', () => new CompletionPort({ serializeKeys: anything(1) }), 'TypeError'],
    ['dispatch', () => new CompletionPort({ dispatch: anything('some') }), 'TypeError'],
    ['attach', () => CompletionPort.attach(anything(undefined)), 'TypeError'],
    [
      'attach number',
      () => CompletionPort.attach({ ...port.token, completionPort: -1 }),
      'RangeError',
    ],
    ['open path', () => port.open(anything({})), 'TypeError'],
    ['open null byte', () => port.open('a\0b'), 'TypeError'],
    ['open flags', () => port.open('x', 'q'), 'TypeError'],
    ['open flags type', () => port.open('x', anything({})), 'TypeError'],
    ['open mode', () => port.open('x', 'r', { mode: -1 }), 'RangeError'],
    ['open key', () => port.open('x', 'r', { key: 2 ** 32 }), 'RangeError'],
    ['open key type', () => port.open('x', 'r', { key: anything('one') }), 'TypeError'],
    ['open descriptor', () => port.open(-1), 'RangeError'],
    ['open direct', () => port.open('x', 'r', { direct: anything(1) }), 'TypeError'],
    ['open signal', () => port.open('x', 'r', { signal: anything(1) }), 'TypeError'],
    ['open timeout', () => port.open('x', 'r', { timeout: -1 }), 'RangeError'],
    ['open timeout type', () => port.open('x', 'r', { timeout: anything('1') }), 'TypeError'],
    ['listen', () => port.listen(anything(undefined)), 'TypeError'],
    ['listen port', () => port.listen({ port: 65536 }), 'RangeError'],
    ['listen port type', () => port.listen({ port: anything(null) }), 'TypeError'],
    ['listen host', () => port.listen({ port: 0, host: anything(1) }), 'TypeError'],
    ['listen backlog', () => port.listen({ port: 0, backlog: 0 }), 'RangeError'],
    ['listen reusePort', () => port.listen({ port: 0, reusePort: anything(1) }), 'TypeError'],
    ['listen ipv6Only', () => port.listen({ port: 0, ipv6Only: anything(1) }), 'TypeError'],
    ['listen noDelay', () => port.listen({ port: 0, noDelay: anything(1) }), 'TypeError'],
    ['connect without options', () => port.connect(anything(undefined)), 'TypeError'],
    ['connect', () => port.connect(anything(null)), 'TypeError'],
    ['connect port', () => port.connect({ port: -1 }), 'RangeError'],
    ['connect host', () => port.connect({ port: 1, host: anything(1) }), 'TypeError'],
    ['connect noDelay', () => port.connect({ port: 1, noDelay: anything(1) }), 'TypeError'],
    ['connect keepAlive', () => port.connect({ port: 1, keepAliveInitialDelay: -1 }), 'RangeError'],
    ['timer key', () => port.timer({ key: -1 }), 'RangeError'],
    ['allocate', () => port.allocate(0), 'RangeError'],
    ['allocate type', () => port.allocate(anything('1')), 'TypeError'],
    ['release', () => port.release(anything({})), 'TypeError'],
    ['post key', () => port.post(-1), 'RangeError'],
    ['post key type', () => port.post(anything('1')), 'TypeError'],
    ['publish keys type', () => port.publish(anything(1), 1), 'TypeError'],
    ['publish keys range', () => port.tryPublish([1, -1], 1), 'RangeError'],
    ['publish nothing', () => port.publish([1], anything(undefined)), 'TypeError'],
    ['get max', () => port.get(257), 'RangeError'],
    ['get timeout', () => port.get(1, -1), 'RangeError'],
    ['serve', () => port.consume(anything(1)), 'TypeError'],
    ['blocking', () => port.blocking(anything(1)), 'TypeError'],
    ['blocking, a promise', () => port.blocking(() => Promise.resolve(1)), 'TypeError'],
    ['blocking async', () => port.blocking(async () => Promise.resolve(1)), 'TypeError'],
    ['attach nothing', () => CompletionPort.attach(anything({})), 'TypeError'],
    [
      'open callback',
      () =>
        port.open(
          'x',
          'r',
          anything(() => 1),
        ),
      'TypeError',
    ],
    [
      'open callback in place of flags',
      () =>
        port.open(
          'x',
          anything(() => 1),
        ),
      'TypeError',
    ],
    ['open fourth', () => Reflect.apply(port.open, port, ['x', 'r', {}, () => 1]), 'TypeError'],
    ['open null', () => port.open('x', 'r', anything(null)), 'TypeError'],
    ['open list', () => port.open('x', 'r', anything([])), 'TypeError'],
    ['listen number', () => port.listen(anything(8080)), 'TypeError'],
    [
      'listen callback',
      () => Reflect.apply(port.listen, port, [{ port: 0 }, () => 1]),
      'TypeError',
    ],
    ['connect number', () => port.connect(anything(8080)), 'TypeError'],
    [
      'connect callback',
      () => Reflect.apply(port.connect, port, [{ port: 1 }, () => 1]),
      'TypeError',
    ],
    ['timer', () => port.timer(anything(5)), 'TypeError'],
    ['post nothing', () => port.post(anything(undefined)), 'TypeError'],
    ['room', () => port.room(anything(5)), 'TypeError'],
    ['get options', () => port.get(anything({ timeout: 0 })), 'TypeError'],
    ['packets', () => port.packets(anything(5)), 'TypeError'],
    ['lease', () => port.lease(anything(undefined)), 'TypeError'],
    ['lease of other memory', () => port.lease(Buffer.alloc(5)), 'TypeError'],
    ['release of other memory', () => port.release(Buffer.alloc(5)), 'TypeError'],
  ];
  test.each(cases)('%s', (_name, call, name) => {
    expect(call).toThrow(
      expect.objectContaining({ name, code: expect.stringMatching(/^ERR_[A-Z_]+$/) }),
    );
  });

  test('of a file', async () => {
    const file = await port.open(temporaryFile('abc'), 'r+');
    const keyed = await port.open(temporaryFile('abc'), 'r+', { key: 1 });
    const view = new Uint8Array(4);
    const calls: [() => unknown, string][] = [
      [() => file.read(anything('x')), 'TypeError'],
      [() => file.read(view, -1), 'RangeError'],
      [() => file.read(view, 0.5), 'RangeError'],
      [() => file.read(view, anything('0')), 'TypeError'],
      [() => file.read(view, 0, { length: 5 }), 'RangeError'],
      [() => file.read({ length: -1 }), 'RangeError'],
      [() => file.readv([anything('x')]), 'TypeError'],
      [() => file.read(anything(undefined)), 'TypeError'],
      [() => file.read(anything([view])), 'TypeError'],
      [() => file.read(anything(new ArrayBuffer(4))), 'TypeError'],
      [() => file.read(view, 0, anything(4)), 'TypeError'],
      [() => file.readv(anything(view)), 'TypeError'],
      [() => file.writev(anything('x')), 'TypeError'],
      [() => file.write('x', anything('utf8')), 'TypeError'],
      [() => file.write('x', 0, anything('utf8')), 'TypeError'],
      [() => file.write('x', { sync: anything('yes') }), 'TypeError'],
      [() => file.write('x', anything({ tag: 1 })), 'TypeError'],
      // Named as in node:fs, or in no module.
      [() => file.read(anything({ buffer: view })), 'TypeError'],
      [() => file.read(anything({ length: 1, offset: 0 })), 'TypeError'],
      [() => file.read(view, anything({ lenght: 1 })), 'TypeError'],
      [() => file.read(view, 0, anything({ position: 1 })), 'TypeError'],
      [() => file.read(view, anything({ position: 0 }), { length: 1 }), 'TypeError'],
      [() => file.read(view, { offset: 5 }), 'RangeError'],
      [() => file.read(view, { offset: 2, length: 3 }), 'RangeError'],
      [() => file.readv([view], anything({ offset: 1 })), 'TypeError'],
      [() => file.write('x', anything({ encoding: 'latin1' })), 'TypeError'],
      [() => file.write('x', { offset: 0 }), 'TypeError'],
      [() => file.write([view], { length: 1 }), 'TypeError'],
      [() => file.write(view, { offset: 3, length: 2 }), 'RangeError'],
      [() => file.writev([view], { offset: 1 }), 'TypeError'],
      [() => file.sync(anything({ timeuot: 5 })), 'TypeError'],
      [() => file.datasync(anything({ position: 5 })), 'TypeError'],
      [() => file.truncate(0, anything({ length: 5 })), 'TypeError'],
      [() => file.allocate(0, 1, anything({ mode: 5 })), 'TypeError'],
      [() => file.chmod(0o600, anything({ mode: 5 })), 'TypeError'],
      [() => keyed.write(view, anything({ position: 0, tags: 1 })), 'TypeError'],
      [() => file.sync(anything(5)), 'TypeError'],
      [() => file.sync(anything(null)), 'TypeError'],
      [() => file.sync(anything(() => 1)), 'TypeError'],
      [() => file.sync(anything([])), 'TypeError'],
      [() => file.sync(anything({ tag: 5 })), 'TypeError'],
      [() => file.datasync(anything({ quiet: true })), 'TypeError'],
      [() => file.truncate(anything({ length: 1 })), 'TypeError'],
      [() => file.truncate(0, anything(5)), 'TypeError'],
      [() => file.chmod(0o600, anything(5)), 'TypeError'],
      [() => file.stat(anything(() => 1)), 'TypeError'],
      [() => file.chunks(anything(null)), 'TypeError'],
      [() => file.link(async () => Promise.resolve(1)), 'TypeError'],
      [() => keyed.sync(anything(5)), 'TypeError'],
      [() => keyed.sync({ quiet: anything(1) }), 'TypeError'],
      [() => keyed.read(view, 0, { tag: -1 }), 'RangeError'],
      [() => file.write(anything(5)), 'TypeError'],
      [() => file.write([anything(5)]), 'TypeError'],
      [() => file.write('x', -1), 'RangeError'],
      [() => file.truncate(-1), 'RangeError'],
      [() => file.allocate(-1, 1), 'RangeError'],
      [() => file.allocate(0, 0), 'RangeError'],
      [() => file.chunks({ size: 0 }), 'RangeError'],
      [() => file.chunks({ depth: 257 }), 'RangeError'],
      [() => file.chunks({ position: -1 }), 'RangeError'],
      [() => file.chunks({ position: 5, length: -1 }), 'RangeError'],
      [() => file.link(anything(1)), 'TypeError'],
      [() => file.sync({ timeout: anything('1') }), 'TypeError'],
      [() => file.sync({ signal: anything({}) }), 'TypeError'],
      [() => keyed.read(view, 0), 'Error'],
      [() => keyed.read(port.allocate(4)), 'TypeError'],
      [() => keyed.sync(anything({ signal: AbortSignal.abort() })), 'TypeError'],
      [() => (keyed as never as typeof file).stat(), 'Error'],
      [() => (keyed as never as typeof file).chunks(), 'Error'],
    ];
    for (const [call, name] of calls) {
      expect(call, String(call)).toThrow(
        expect.objectContaining({ name, code: expect.stringMatching(/^ERR_/) }),
      );
    }
    await file.close();
    keyed.close();
  });

  test('of sockets, listeners and timers', async () => {
    const { socket } = await withRawPeer(port);
    const listener = await port.listen({ host: '127.0.0.1', port: 0 });
    const timer = port.timer();
    const keyedTimer = port.timer({ key: 1 });
    const keyed = (await keyedWithRawPeer(port, 2)).socket;
    const into = port.allocate(4);
    const file = await port.open(temporaryFile('abc'));
    const calls: [() => unknown, string][] = [
      [() => socket.send(anything(5)), 'TypeError'],
      [() => socket.send([anything(null)]), 'TypeError'],
      [() => socket.receive({ into: anything('x') }), 'TypeError'],
      [() => socket.receive(new Uint8Array(0)), 'TypeError'],
      [() => socket.receive(anything(new ArrayBuffer(4))), 'TypeError'],
      [() => socket.receive(anything(5)), 'TypeError'],
      [() => socket.receive(anything(null)), 'TypeError'],
      [() => socket.receive(anything(() => 1)), 'TypeError'],
      [() => socket.receive(anything({ multishot: 'yes' })), 'TypeError'],
      [() => socket.receive(anything({ length: 5 })), 'TypeError'],
      [() => socket.receive(into, anything({ offset: 1 })), 'TypeError'],
      [() => socket.send('x', anything({ encoding: 'latin1' })), 'TypeError'],
      [() => socket.sendFile(anything(file), anything({ start: 1 })), 'TypeError'],
      [() => socket.end('x', anything({ release: true })), 'TypeError'],
      [() => keyed.send('x', anything({ tags: 1 })), 'TypeError'],
      [() => listener.accept(anything({ timeuot: 1 })), 'TypeError'],
      [() => timer.wait(1, anything({ singal: 1 })), 'TypeError'],
      [() => socket.receive({ signal: anything({ aborted: false }) }), 'TypeError'],
      [() => socket.send(anything(undefined)), 'TypeError'],
      [() => socket.send('x', anything('utf8')), 'TypeError'],
      [
        () =>
          socket.send(
            'x',
            anything(() => 1),
          ),
        'TypeError',
      ],
      [() => socket.send('x', { release: anything('yes') }), 'TypeError'],
      [() => socket.send('x', anything({ tag: 1 })), 'TypeError'],
      [() => socket.sendFile(anything('name')), 'TypeError'],
      [() => socket.end('x', anything(5)), 'TypeError'],
      [() => listener.accept(anything(5)), 'TypeError'],
      [() => listener.accept(anything(null)), 'TypeError'],
      [() => listener.accept(anything(() => 1)), 'TypeError'],
      [() => listener.accept(anything({ multishot: 1 })), 'TypeError'],
      [() => listener.sockets(anything({ timeuot: 5 })), 'TypeError'],
      [() => timer.wait(1, anything(5)), 'TypeError'],
      [
        () =>
          timer.wait(
            1,
            anything(() => 1),
          ),
        'TypeError',
      ],
      [() => timer.wait(anything(() => 1)), 'TypeError'],
      [() => timer.every(5, anything({ timeout: 'x' })), 'TypeError'],
      [() => timer.every(5, anything({ singal: 5 })), 'TypeError'],
      [() => keyedTimer.start(5, anything({ repaet: true })), 'TypeError'],
      [
        () =>
          keyedTimer.start(
            5,
            anything(() => 1),
          ),
        'TypeError',
      ],
      [() => socket.receive({ multishot: true } as object), 'Error'],
      [() => keyed.receive({ into, multishot: true }), 'Error'],
      [() => socket.receive({ timeout: NaN }), 'RangeError'],
      [() => socket.end(anything(5)), 'TypeError'],
      [() => socket.setNoDelay(anything(1)), 'TypeError'],
      [() => socket.setKeepAlive(true, -1), 'RangeError'],
      [() => socket.chunks({ lend: anything(1) }), 'TypeError'],
      [() => listener.accept(anything({ multishot: true })), 'Error'],
      [() => timer.wait(-1), 'RangeError'],
      [() => timer.wait(anything('1')), 'TypeError'],
      [() => timer.every(0), 'RangeError'],
    ];
    for (const [call, name] of calls) {
      expect(call, String(call)).toThrow(
        expect.objectContaining({ name, code: expect.stringMatching(/^ERR_/) }),
      );
    }
    await Promise.all([socket.close(), listener.close(), timer.close()]);
    await port.close();
  });
});

test('the text names the argument, what was received, and the call that was meant', async () => {
  const port = newPort();
  const file = await port.open(temporaryFile());
  const callback = (): void => undefined;
  for (const [call, text] of [
    [
      () => Reflect.apply(port.listen, port, [{ port: 0 }, callback]),
      'The "callback" argument must be undefined: use await port.listen(…). Received function callback',
    ],
    [
      () => file.link(async () => Promise.resolve()),
      /^The argument 'fn' must not be an async function: what it submits after an await would not be linked/,
    ],
    [
      () => file.sync({ tag: 5 } as object),
      "The property 'options.tag' is for handles with a key. Received 5",
    ],
    [
      () => file.read(undefined as never),
      /^The "target" argument must be an instance of Buffer, TypedArray, or DataView, or options/,
    ],
    [
      () => port.get({} as never),
      'The "max" argument must be of type number. Received an instance of Object',
    ],
  ] as const) {
    expect(call).toThrow(text);
  }
});

test('a descriptor is opened as a path is: with a timeout, and unless the signal is aborted', async () => {
  const port = newPort();
  const { open } = { open: (options: object) => port.open(0, 'r', options) };
  expect(codeOf(await failureOf(() => open({ signal: 5 })))).toBe('ERR_INVALID_ARG_TYPE');
  expect(codeOf(await failureOf(() => open({ timeout: 'x' })))).toBe('ERR_INVALID_ARG_TYPE');
  expect(codeOf(await failureOf(() => open({ signal: AbortSignal.abort() })))).toBe('ABORT_ERR');
  expect(port.stats().handles).toBe(0);
});

test('a closed handle is ERR_HANDLE_CLOSED', async () => {
  const port = newPort();
  const file = await port.open(temporaryFile());
  const { socket } = await withRawPeer(port);
  const timer = port.timer();
  const listener = await port.listen({ host: '127.0.0.1', port: 0 });
  await Promise.all([file, socket, timer, listener].map((handle) => handle.close()));
  for (const call of [
    () => file.read(new Uint8Array(1)),
    () => file.write('x'),
    () => file.sync(),
    () => file.stat(),
    () => file.chunks(),
    () => socket.send('x'),
    () => socket.receive(),
    () => socket.end(),
    () => socket.setNoDelay(),
    () => timer.wait(1),
    () => timer.every(1),
    () => listener.accept(),
    () => listener.sockets(),
    () => file.cancel(),
    () => file.link(() => 1),
  ]) {
    expect(call).toThrow(expect.objectContaining({ code: 'ERR_HANDLE_CLOSED' }));
  }
  expect(socket.remoteAddress).toBeUndefined();
  expect(listener.address()).toBeUndefined();
});

test.for(['io_uring', 'epoll'])(
  'out of descriptors: accepting pauses and resumes, connections go on (%s)',
  async (driver, context) => {
    skipOnWindows(context, 'has no limit of descriptors');
    const server = startProcess(
      [fileURLToPath(new URL('./support/few-descriptors.mjs', import.meta.url))],
      {
        env: { COMPLETION_PORT_DRIVER: driver },
        launcher: ['sh', '-c', 'ulimit -n 64 && exec "$@"', 'sh'],
      },
    );
    let output = '';
    server.stdout!.on('data', (text) => (output += text));
    const result = ended(server);
    await until(() => output.includes('port'));
    const port = Number(/port (\d+)/.exec(output)![1]);
    const answered = new Set<net.Socket>();
    const clients: net.Socket[] = [];
    const greet = async (): Promise<net.Socket> => {
      const socket = await rawClient(port);
      clients.push(socket);
      socket.on('data', () => answered.add(socket));
      socket.write('x');
      return socket;
    };
    for (let i = 0; i < 60; i++) await greet();
    await until(() => answered.size > 5);
    // As many as it has descriptors for, until nothing more comes.
    let last = 0;
    await until(() => {
      const same = last === answered.size;
      last = answered.size;
      return same;
    });
    expect(answered.size).toBeLessThan(60);
    // Who is connected goes on.
    const [first] = clients;
    answered.delete(first!);
    first!.write('y');
    await until(() => answered.has(first!));
    // Descriptors become free: the others are accepted.
    while (answered.size < 60) {
      for (const socket of answered) socket.end();
      await turns(20);
    }
    for (const socket of clients) socket.end();
    server.stdin!.end('done');
    expect(await result).toMatchObject({ code: 0, stderr: '' });
    expect(output).toMatch(/accepted 60, failures: 0/);
  },
);

describe('a native binary that does not load', () => {
  test.each(['text', 'missing'])(
    'says for which platform, and what builds it (%s)',
    async (what) => {
      const file =
        what === 'text'
          ? temporaryFile('not a library', 'x.node')
          : path.resolve('/nonexistent/x.node');
      const result = await runModule('', { env: { COMPLETION_PORT_BINDING: file } });
      expect(result.code).not.toBe(0);
      expect(result.stderr).toContain('ERR_COMPLETION_PORT_BINDING');
      expect(result.stderr).toContain(`${process.platform}-${process.arch}`);
      expect(result.stderr).toContain('npm explore completion-port -- npm run build:native');
      expect(result.stderr).toContain('COMPLETION_PORT_BINDING names it');
      expect(result.stderr).toContain(file);
    },
  );
});

test('a failed operation nobody looks at is an unhandledRejection, as with a promise', async () => {
  const output = await outputOf(`
    const port = new CompletionPort();
    process.on('unhandledRejection', (error) => console.log(error.code));
    port.open('/nonexistent');
    await new Promise((r) => setTimeout(r, 100));
    await port.close();`);
  expect(output).toBe('ENOENT');
  await turns(1);
  expect(codeOf(undefined)).toBeUndefined();
});

test('a long value that is refused is cut off where the error shows it', () => {
  const port = newPort();
  const long = 'y'.repeat(10_000);
  const calls: (() => unknown)[] = [
    () => port.post(long as never),
    () => port.open('x', long),
    () => port.listen({ port: long as never }),
    () => new CompletionPort({ driver: long as never }),
  ];
  for (const call of calls) {
    const { message } = failureNow(call);
    expect(message).toMatch(/Received (type string \()?'y+\.\.\.\)?$/);
    expect(message.length).toBeLessThan(300);
  }
});
