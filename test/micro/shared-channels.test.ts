/** Channels between threads. */
import { inspect } from 'node:util';
import { expect, onTestFinished, test } from 'vitest';
import {
  Channel,
  each,
  MicroThread,
  select,
  SharedChannel,
  sleep,
  spawn,
  within,
  type Micro,
  type ReadonlyChannel,
} from '../../dist/micro.js';
import {
  codeOf,
  failureNow,
  failureOf,
  newPort,
  runModule,
  root,
  turns,
  until,
} from '../support/harness';
import { Sharer } from './shared';

function* takeAll<T>(channel: ReadonlyChannel<T>): Micro<T[]> {
  const got: T[] = [];
  for (const item of yield* each(channel)) {
    got.push(item);
    yield* each.next();
  }
  return got;
}

const range = (length: number, from = 0): number[] => Array.from({ length }, (_, i) => from + i);

test('values go from one thread to another as they were when they were put', async () => {
  const port = newPort();
  const [there, back] = [
    new SharedChannel<unknown>(port, 100),
    new SharedChannel<unknown>(port, 9),
  ];
  const sharer = await Sharer.start([there, back] as never[]);
  const bytes = Buffer.from('some bytes');
  const values = [
    ...[
      0,
      -0,
      1.5,
      NaN,
      Infinity,
      2n ** 70n,
      true,
      false,
      null,
      undefined,
      '',
      'ä',
      'x'.repeat(9999),
    ],
    ...[bytes, new Uint8Array([1, 2, 3]).subarray(1), new Float64Array([1.5]), new Date(5)],
    ...[
      { a: [1, { b: 'c' }] },
      new Map([[1, new Set(['x'])]]),
      /x/g,
      new Error('why'),
      Buffer.alloc(0),
    ],
  ];
  const expected = structuredClone(values);
  for (const value of values) expect(there.tryPut(value)).toBe(true);
  bytes.fill(0);
  (values[17] as { a: unknown[] }).a.length = 0;
  there.close();
  const got = (await sharer.run('all', 0)) as unknown[];
  expect(got).toEqual(expected);
  expect(Object.is(got[1], -0)).toBe(true);

  for (const value of [Buffer.from('b'), new Uint8Array(3), 'text']) {
    await sharer.run('put', 1, value);
  }
  // postMessage has made a Uint8Array of the Buffer on the way to the other thread.
  expect([back.tryTake(), back.tryTake(), back.tryTake()]).toEqual([
    new Uint8Array([98]),
    new Uint8Array(3),
    'text',
  ]);
  expect(back.tryPut(Buffer.from('own'))).toBe(true);
  const own = back.tryTake() as Buffer;
  expect(Buffer.isBuffer(own)).toBe(true);
  expect([own.toString(), own.buffer.byteLength]).toEqual(['own', 3]);
});

test('what cannot be cloned is refused at the put, and nothing is lost', () => {
  const channel = new SharedChannel<unknown>(newPort(), 2);
  expect(channel.tryPut('before')).toBe(true);
  const { port1 } = new MessageChannel();
  onTestFinished(() => port1.close());
  const wrong = [() => 1, Symbol('x'), new SharedArrayBuffer(8), { deep: [() => 1] }, port1];
  for (const value of [...wrong, new Uint8Array(new SharedArrayBuffer(8)), new WeakMap()]) {
    for (const put of [() => channel.put(value), () => channel.tryPut(value)]) {
      const error = failureNow(put);
      expect(error.name).toBe('DataCloneError');
      expect(error.message).toMatch(/^What is put: /);
    }
  }
  expect([channel.size, channel.tryTake(), channel.tryTake()]).toEqual([1, 'before', undefined]);
});

test('a put that is not waited for puts nothing', async () => {
  const channel = new SharedChannel<number>(newPort(), 2);
  channel.put(1);
  channel.take();
  await turns(3);
  expect(channel.size).toBe(0);
});

test('the bound holds over all threads: puts wait, tryPut is refused', async () => {
  const channel = new SharedChannel<number>(newPort(), 3);
  const sharer = await Sharer.start([channel] as never[]);
  const put = await sharer.begun('put', 0, ...range(5));
  await until(() => channel.size === 3);
  expect([channel.tryPut(9), await sharer.run('call', 0, 'tryPut', 9)]).toEqual([false, false]);
  const own = spawn(function* () {
    yield* channel.put(5);
  });
  expect(own.state).toBe('waiting');
  expect([channel.tryTake(), channel.size]).toEqual([0, 3]); // the other thread's fourth is in
  expect(own.state).toBe('waiting');
  expect([channel.tryTake(), channel.size]).toEqual([1, 3]);
  await own;
  expect(channel.tryTake()).toBe(2);
  await put.end;
  expect([channel.tryTake(), channel.tryTake(), channel.tryTake()]).toEqual([3, 5, 4]);
  expect(channel.tryTake()).toBe(undefined);
});

test('takes that wait are served in the order in which they came, whatever thread they are of', async () => {
  const channel = new SharedChannel<number>(newPort(), 9);
  const sharers = await Promise.all(range(2).map(() => Sharer.start([channel] as never[])));
  const takes: PromiseLike<unknown>[] = [];
  for (const who of [0, 1, 2, 1, 0, 2]) {
    if (who < 2) takes.push((await sharers[who]!.begun('take', 0)).end);
    else {
      const own = spawn(function* () {
        return yield* channel.take();
      });
      takes.push(own.then((item) => item));
    }
  }
  for (const item of range(6)) expect(channel.tryPut(item)).toBe(true);
  expect(await Promise.all(takes)).toEqual(range(6));
});

test('a take that is cancelled has taken nothing', async () => {
  const channel = new SharedChannel<number>(newPort(), 3);
  const sharer = await Sharer.start([channel] as never[]);
  const theirs = await sharer.begun('take', 0);
  const own = spawn(function* () {
    return yield* channel.take();
  });
  sharer.cancel(theirs);
  expect(codeOf(await failureOf(() => theirs.end))).toBe('ECANCELED');
  channel.tryPut(1);
  // It is on its way to the take, which does not hear of it any more.
  expect([channel.size, channel.tryTake()]).toEqual([1, undefined]);
  own.cancel();
  channel.tryPut(2);
  expect([channel.size, channel.tryTake(), channel.tryTake()]).toEqual([2, 1, 2]);
  expect(codeOf(await failureOf(() => own))).toBe('ECANCELED');
});

test('values that come back go to where they were among the others', async () => {
  const channel = new SharedChannel<number>(newPort(), 9);
  const takes = range(4).map(() =>
    spawn(function* () {
      return yield* channel.take();
    }),
  );
  for (const item of range(7)) channel.tryPut(item);
  takes[0]!.cancel();
  takes[2]!.cancel();
  takes[1]!.cancel();
  expect(range(6).map(() => channel.tryTake())).toEqual([0, 1, 2, 4, 5, 6]);
  expect(await takes[3]).toBe(3);
  await Promise.allSettled(takes);
});

test('a put that is cancelled leaves; one that is in the channel by then is done', async () => {
  const channel = new SharedChannel<number>(newPort(), 1);
  channel.tryPut(0);
  const put = (item: number) =>
    spawn(function* () {
      yield* channel.put(item);
      return item;
    });
  const [first, second, third] = [put(1), put(2), put(3)];
  second.cancel();
  expect(codeOf(await failureOf(() => second))).toBe('ECANCELED');
  expect(channel.tryTake()).toBe(0);
  first.cancel(); // it is in the channel, and has not heard of it
  expect(await first).toBe(1);
  expect(channel.tryTake()).toBe(1);
  expect(await third).toBe(3);
  expect([channel.tryTake(), channel.size]).toEqual([3, 0]);
});

test('close: what is in it and what waits to be is taken, then loops end and puts are refused', async () => {
  const channel = new SharedChannel<number>(newPort(), 2);
  const sharer = await Sharer.start([channel] as never[]);
  const put = await sharer.begun('put', 0, 0, 1, 2);
  await until(() => channel.size === 2);
  const waits = spawn(function* () {
    yield* channel.put(3);
  });
  await sharer.run('call', 0, 'close');
  expect(channel.closed).toBe(true);
  expect(codeOf(failureNow(() => channel.tryPut(9)))).toBe('ERR_CHANNEL_CLOSED');
  expect(codeOf(await failureOf(() => channel.put(9)))).toBe('ERR_CHANNEL_CLOSED');
  expect(await spawn(takeAll(channel))).toEqual([0, 1, 2, 3]);
  await Promise.all([put.end, waits]);
  expect(codeOf(failureNow(() => channel.tryTake()))).toBe('ERR_CHANNEL_CLOSED');
  expect(codeOf(await failureOf(() => channel.take()))).toBe('ERR_CHANNEL_CLOSED');
  channel.close();
  channel.fail(new Error('late'));
  expect((await failureOf(() => channel.put(1))).cause).toBe(undefined);
});

test('close ends loops of all threads that wait', async () => {
  const channel = new SharedChannel<number>(newPort(), 2);
  const sharer = await Sharer.start([channel] as never[]);
  const theirs = await sharer.begun('all', 0);
  const own = spawn(takeAll(channel));
  const awaited = (async () => {
    const got: number[] = [];
    for await (const item of channel) got.push(item);
    return got;
  })();
  await turns(2);
  channel.close();
  expect(await Promise.all([theirs.end, own, awaited])).toEqual([[], [], []]);
});

test('a loop does not end while a value is on its way to another, which may give it back', async () => {
  const channel = new SharedChannel<number>(newPort(), 2);
  const first = spawn(function* () {
    return yield* channel.take();
  });
  const loop = spawn(takeAll(channel));
  channel.tryPut(1);
  channel.close();
  first.cancel();
  expect(await loop).toEqual([1]);
  await failureOf(() => first);
});

test('fail: drops what is in it, and tells all threads why', async () => {
  const port = newPort();
  const channel = new SharedChannel<unknown>(port, 2);
  const sharer = await Sharer.start([channel] as never[]);
  await sharer.run('put', 0, 'x'.repeat(9000), 'y'.repeat(9000));
  const put = await sharer.begun('put', 0, 'z'.repeat(9000));
  const why = Object.assign(new RangeError('why'), { code: 'E_MINE', cause: new Error('deep') });
  channel.fail(why);
  channel.fail(new Error('later'));
  expect(port.stats().allocatedBytes).toBe(0);
  expect(await failureOf(() => put.end)).toMatchObject({ code: 'ERR_CHANNEL_CLOSED' });
  const thrown = await failureOf(() => sharer.run('take', 0));
  expect(thrown).toMatchObject({ code: 'E_MINE', message: 'why', type: 'RangeError' });
  const own = failureNow(() => channel.tryTake());
  expect(own).toBeInstanceOf(RangeError);
  expect(own).toMatchObject({ code: 'E_MINE', message: 'why', cause: { message: 'deep' } });
  const refused = failureNow(() => channel.tryPut(1));
  expect(refused).toMatchObject({ code: 'ERR_CHANNEL_CLOSED', cause: { code: 'E_MINE' } });
  expect([channel.size, channel.closed]).toEqual([0, true]);
});

test('fail with what cannot be cloned says what can be said', async () => {
  for (const [given, text] of [
    [() => 1, '() => 1'],
    [undefined, undefined],
  ] as const) {
    const channel = new SharedChannel<number>(newPort(), 2);
    const take = spawn(function* () {
      try {
        yield* channel.take();
      } catch (error) {
        return { error };
      }
      return undefined;
    });
    channel.fail(given);
    expect(await take).toEqual({ error: text });
  }
});

test('select, within, each and pipe have it as they have a Channel', async () => {
  const port = newPort();
  const channel = new SharedChannel<number>(port, 4);
  const other = new Channel<string>(1);
  expect(await spawn(select({ item: channel, time: sleep(1) }))).toMatchObject({ which: 'time' });
  channel.tryPut(7);
  const selected = await spawn(select({ item: channel, other, time: sleep(Infinity) }));
  expect(selected).toEqual({ which: 'item', value: 7 });
  const late = await failureOf(() => spawn(within(1, channel.take())));
  expect(late).toMatchObject({ code: 'ETIMEDOUT' });
  channel.tryPut(8); // nobody takes it
  expect(channel.size).toBe(1);

  const doubled = channel.pipe<number>(function* double(input, output) {
    for (const item of yield* each(input)) {
      yield* output.put(2 * item);
      yield* each.next();
    }
  });
  const results = spawn(takeAll(doubled));
  for (const item of range(9)) await channel.put(item);
  channel.close();
  expect(await results).toEqual([8, ...range(9)].map((item) => 2 * item));

  const broken = new SharedChannel<number>(port, 4);
  const failing = broken.pipe<number>(function* fails(input) {
    yield* input.take();
    throw new Error('stage');
  });
  broken.tryPut(1);
  expect(await failureOf(() => spawn(takeAll(failing)))).toMatchObject({ message: 'stage' });
  expect([broken.tryPut(2), broken.tryTake(), broken.closed]).toEqual([true, 2, false]);
});

test('async functions await puts and takes, and loop with for await', async () => {
  const channel = new SharedChannel<number>(newPort(), 2);
  const sharer = await Sharer.start([channel] as never[]);
  const put = sharer.run('put', 0, ...range(100));
  expect([await channel.take(), await channel.take()]).toEqual([0, 1]);
  const got: number[] = [];
  for await (const item of channel) {
    got.push(item);
    if (item === 50) break;
  }
  expect(got).toEqual(range(49, 2));
  const rest = spawn(takeAll(channel)); // the loop that was left early has closed nothing
  await put;
  await channel.put(100);
  channel.close();
  expect(await rest).toEqual(range(50, 51));
  const both = await Promise.allSettled([channel.take(), channel.put(1)]);
  expect(both.map((end) => codeOf((end as PromiseRejectedResult).reason))).toEqual([
    'ERR_CHANNEL_CLOSED',
    'ERR_CHANNEL_CLOSED',
  ]);
});

test('memory follows what is in it, and a put without memory is refused', async () => {
  const port = newPort({ memoryLimit: 1 << 20 });
  const channel = new SharedChannel<unknown>(port, 1000);
  const allocated = (): number => port.stats().allocatedBytes;
  for (const item of range(100)) channel.tryPut(item);
  expect(allocated()).toBe(0);
  const bytes = Buffer.alloc(100_000, 7);
  let puts = 0;
  const full = failureNow(() => {
    for (; ; puts++) channel.tryPut(bytes);
  });
  expect(codeOf(full)).toBe('ERR_MEMORY_LIMIT');
  expect(codeOf(await failureOf(() => channel.put(bytes)))).toBe('ERR_MEMORY_LIMIT');
  expect([puts, channel.size]).toEqual([8, 108]);
  for (const item of range(100)) expect(channel.tryTake()).toBe(item);
  expect(bytes.equals(channel.tryTake() as Buffer)).toBe(true);
  expect(channel.tryPut(bytes)).toBe(true);
  while (channel.tryTake() !== undefined);
  expect(allocated()).toBe(0);
  for (const item of range(300)) channel.tryPut('a text of its own'.repeat(10) + item);
  expect(allocated()).toBeLessThan(100_000); // several share a block
  channel.fail(new Error('over'));
  expect(allocated()).toBe(0);
});

test('wrong arguments are refused at once', () => {
  const port = newPort();
  const code = (fn: () => unknown): string | undefined => codeOf(failureNow(fn));
  for (const capacity of [0, -1, 1.5, 2 ** 31, NaN]) {
    expect(code(() => new SharedChannel(port, capacity))).toBe('ERR_OUT_OF_RANGE');
  }
  expect(code(() => new SharedChannel(port, '3' as never))).toBe('ERR_INVALID_ARG_TYPE');
  expect(code(() => new SharedChannel(undefined as never, 3))).toBe('ERR_INVALID_ARG_TYPE');
  const { token } = new SharedChannel(port, 3);
  expect(code(() => SharedChannel.attach(undefined as never))).toBe('ERR_INVALID_ARG_TYPE');
  expect(code(() => SharedChannel.attach({} as never))).toBe('ERR_INVALID_ARG_TYPE');
  expect(code(() => SharedChannel.attach(port.token as never))).toBe('ERR_INVALID_ARG_TYPE');
  const foreign = { ...token, port: { ...token.port, instance: 'another' } };
  expect(code(() => SharedChannel.attach(foreign))).toBe('ERR_PORT_FOREIGN');
  const gone = { ...token, sharedChannel: 2 ** 32 - 1 };
  expect(code(() => SharedChannel.attach(gone))).toBe('ERR_CHANNEL_CLOSED');
  const channel = new SharedChannel(port, 3);
  expect(code(() => channel.pipe(5 as never))).toBe('ERR_INVALID_ARG_TYPE');
  expect(code(() => structuredClone(channel))).toBe(25 as never); // DATA_CLONE_ERR
});

test('it can be looked at', () => {
  const port = newPort();
  const channel = new SharedChannel<number>(port, 3);
  channel.tryPut(1);
  expect(inspect(channel)).toBe('SharedChannel { size: 1, capacity: 3, closed: false }');
  expect(JSON.stringify(channel)).toBe('{"size":1,"capacity":3,"closed":false}');
  expect(structuredClone(channel.token)).toEqual(channel.token);
  const same = SharedChannel.attach<number>(channel.token);
  expect([same.capacity, same.size, same.tryTake()]).toEqual([3, 1, 1]);
  const waits = spawn(function* waits() {
    yield* channel.take();
  });
  const [info] = MicroThread.list().filter(({ name }) => name === 'waits');
  expect([info!.operation, info!.of]).toEqual(['take', channel]);
  waits.cancel();
  return failureOf(() => waits);
});

test('port.close() ends what waits, in every thread', async () => {
  const port = newPort();
  const channel = new SharedChannel<number>(port, 1);
  const sharer = await Sharer.start([channel] as never[]);
  const take = await sharer.begun('take', 0);
  const loop = await sharer.begun('all', 0);
  const full = new SharedChannel<string>(port, 1);
  full.tryPut('x'.repeat(5000));
  const waiting = failureOf(() => full.put('y'.repeat(5000)));
  const taking = failureOf(() => channel.take());
  const own = spawn(takeAll(channel));
  await turns(2);
  await port.close();
  expect([codeOf(await waiting), codeOf(await taking)]).toEqual([
    'ERR_PORT_CLOSED',
    'ERR_PORT_CLOSED',
  ]);
  expect(await own).toEqual([]); // loops of the thread that closes the port end
  expect(codeOf(await failureOf(() => take.end))).toBe('ECANCELED');
  expect(codeOf(await failureOf(() => loop.end))).toBe('ERR_PORT_CLOSED');
  expect(codeOf(failureNow(() => channel.tryPut(1)))).toBe('ERR_PORT_CLOSED');
  expect(codeOf(failureNow(() => channel.tryTake()))).toBe('ERR_PORT_CLOSED');
  expect(codeOf(await failureOf(() => channel.put(1)))).toBe('ERR_PORT_CLOSED');
  expect([channel.closed, channel.size]).toEqual([true, 0]);
  channel.close();
  channel.fail(new Error('late'));
  expect(codeOf(failureNow(() => new SharedChannel(port, 1)))).toBe('ERR_PORT_CLOSED');
  expect(codeOf(await failureOf(() => sharer.run('call', 0, 'tryPut', 1)))).toBe('ERR_PORT_CLOSED');
});

test('a thread that leaves the port gives back what it was told of', async () => {
  const port = newPort();
  const channel = new SharedChannel<number>(port, 3);
  const sharer = await Sharer.start([channel] as never[]);
  const take = await sharer.begun('take', 0);
  await sharer.run('leavePort');
  expect(codeOf(await failureOf(() => take.end))).toBe('ECANCELED');
  expect([channel.tryPut(1), channel.tryTake()]).toEqual([true, 1]);
});

const quiet = { nodeArguments: ['--no-warnings'] };
const prelude = `
  import { Worker, isMainThread, workerData } from 'node:worker_threads';
  import { setTimeout as sleep } from 'node:timers/promises';
  import { SharedChannel } from ${JSON.stringify(new URL('dist/micro.js', `file://${root}`).href)};
`;

test('what waits keeps the process alive, unless it is unref’d', async () => {
  const held = await runModule(
    `${prelude}
    const channel = new SharedChannel(new CompletionPort(), 1);
    setTimeout(() => channel.tryPut('came'), 50);
    channel.take().then((value) => console.log(value));
    process.once('exit', () => console.log('exit'));
  `,
    quiet,
  );
  expect([held.code, held.stdout]).toEqual([0, 'came\nexit\n']);
  const free = await runModule(
    `${prelude}
    const port = new CompletionPort();
    const channel = new SharedChannel(port, 1).unref();
    channel.take().then(() => console.log('never'));
    console.log('end');
  `,
    quiet,
  );
  expect([free.code, free.stdout]).toEqual([0, 'end\n']);
});

test.each([
  'process.exit(7)',
  'process.exitCode = 7; channels[0].unref()',
  'process.kill(process.pid, 9)',
])('a process ends while threads wait: %s', async (how) => {
  const ended = await runModule(
    `${prelude}
      const port = new CompletionPort();
      const channels = [new SharedChannel(port, 1), new SharedChannel(port, 1)];
      await channels[1].put('x'.repeat(10000));
      const code = \`
        const { workerData } = require('node:worker_threads');
        import(workerData.micro).then(({ SharedChannel }) => {
          const [empty, full] = workerData.tokens.map((token) => SharedChannel.attach(token));
          for (let i = 0; i < 5; i++) {
            empty.take().then(() => 0);
            full.put('y'.repeat(10000)).then(() => 0);
          }
          Atomics.add(workerData.words, 0, 1);
        });
      \`;
      const words = new Int32Array(new SharedArrayBuffer(4));
      const micro = ${JSON.stringify(new URL('dist/micro.js', `file://${root}`).href)};
      const tokens = channels.map(({ token }) => token);
      for (let i = 0; i < 3; i++) {
        new Worker(code, { eval: true, execArgv: ['--no-warnings'], workerData: { tokens, words, micro } }).unref();
      }
      while (Atomics.load(words, 0) < 3) await sleep(2);
      channels[0].take().then(() => 0);
      ${how};
    `,
    quiet,
  );
  if (how.includes('kill')) expect(ended.signal).toBe('SIGKILL');
  else expect([ended.code, ended.stderr]).toEqual([7, '']);
});

test('who made it keeps it for those who are yet to attach, until it is closed and empty', async () => {
  const ended = await runModule(
    `${prelude}
    import { createRequire } from 'node:module';
    const { binding } = createRequire(import.meta.url)(${JSON.stringify(`${root}dist/native/binding.js`)});
    const port = new CompletionPort();
    const fill = () => {
      const tokens = [];
      for (let i = 0; i < 50; i++) {
        const channel = new SharedChannel(port, 1);
        channel.tryPut('x'.repeat(10000));
        channel.close();
        tokens.push(channel.token);
      }
      return tokens;
    };
    const tokens = fill();
    const full = port.stats().allocatedBytes;
    for (let i = 0; i < 20; i++) {
      globalThis.gc();
      await sleep(1);
    }
    for (const token of tokens) (await SharedChannel.attach(token).take());
    // The next ones look whether there are any that nobody needs.
    while (binding.remains().channels > 20) {
      new SharedChannel(port, 1).close();
      globalThis.gc();
      await sleep(1);
    }
    console.log(full > 500000, port.stats().allocatedBytes);
  `,
    { nodeArguments: ['--expose-gc', '--no-warnings'] },
  );
  expect([ended.code, ended.stdout]).toEqual([0, 'true 0\n']);
});

test('in an async function puts and takes begin with the call; their failure is not lost', async () => {
  const port = newPort();
  const channel = new SharedChannel<unknown>(port, 2);
  const bytes = Buffer.from('as it is');
  const puts = [channel.put(bytes), channel.put(2), channel.put(3)];
  bytes.fill('x');
  expect(channel.size).toBe(2);
  const [first, second] = [channel.take(), channel.take()];
  expect([String(await first), await second, await channel.take()]).toEqual(['as it is', 2, 3]);
  await Promise.all(puts);
  channel.close();
  const unhandled = new Promise((resolve) => process.once('unhandledRejection', resolve));
  void channel.put(4);
  expect(await unhandled).toMatchObject({ code: 'ERR_CHANNEL_CLOSED' });
  await expect(channel.put(5).finally(() => undefined)).rejects.toMatchObject({
    code: 'ERR_CHANNEL_CLOSED',
  });
  expect(await channel.take().catch((error: unknown) => (error as { code: string }).code)).toBe(
    'ERR_CHANNEL_CLOSED',
  );
});

test('bytes take as much of the port as those that are sent', () => {
  const port = newPort();
  const channel = new SharedChannel<Uint8Array>(port, 10);
  for (const size of [65_536, 1_048_576]) {
    const before = port.stats().allocatedBytes;
    channel.tryPut(new Uint8Array(size));
    expect(port.stats().allocatedBytes - before).toBe(size);
    expect(channel.tryTake()).toHaveLength(size);
  }
});

test('bytes that grow, or lie about their length, take no other memory, and leave none behind', async () => {
  const port = newPort();
  const channel = new SharedChannel<unknown>(port, 100);
  const own = Array.from({ length: 64 }, () => port.allocate(4096).fill(0x11));
  const before = port.stats().allocatedBytes;
  const growing = new (
    ArrayBuffer as unknown as {
      new (size: number, options: object): ArrayBuffer & { resize(size: number): void };
    }
  )(16, { maxByteLength: 8192 });
  const liar = Object.defineProperty(new Uint8Array(8192).fill(0xee), 'length', { value: 1 });
  for (let i = 0; i < 8; i++) {
    const put = channel.put(new Uint8Array(growing));
    growing.resize(8192);
    await put;
    growing.resize(16);
    channel.tryPut(liar);
  }
  for (const block of own) expect(block.every((byte) => byte === 0x11)).toBe(true);
  while (channel.size > 0) channel.tryTake();
  await spawn(function* () {
    const gone = new Uint8Array(100_000);
    const put = channel.put(gone);
    structuredClone(gone, { transfer: [gone.buffer] });
    try {
      yield* put;
    } catch (error) {
      expect(error).toBeInstanceOf(TypeError);
    }
  });
  expect(port.stats().allocatedBytes).toBeLessThanOrEqual(before + 65_536);
});

test('what is no token, no port, or an option that there is not, is named', () => {
  const port = newPort();
  const channel = new SharedChannel(port, 1);
  const wrong = SharedChannel as unknown as {
    new (capacity: number): unknown;
    attach(token: unknown): unknown;
  };
  expect(() => new wrong(10)).toThrow(/port/);
  for (const token of [channel, port, port.token]) {
    expect(() => wrong.attach(token)).toThrow(/channel\.token/);
  }
  const { take } = channel as unknown as { take: (options: object) => unknown };
  expect(() => take.call(channel, { deadline: 5 })).toThrow(/options\.deadline/);
});
