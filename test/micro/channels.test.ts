/** Channels between micro-threads. */
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import {
  all,
  Channel,
  each,
  race,
  select,
  SharedChannel,
  sleep,
  spawn,
  type Micro,
  type ReadonlyChannel,
} from '../../dist/micro.js';
import { codeOf, connectedPair, failureNow, newPort, turns } from '../support/harness';

function* takeAll<T>(channel: ReadonlyChannel<T>): Micro<T[]> {
  const got: T[] = [];
  for (const item of yield* each(channel)) {
    got.push(item);
    yield* each.next();
  }
  return got;
}

function* putAll<T>(channel: Channel<T>, items: Iterable<T>): Micro<void> {
  for (const item of items) yield* channel.put(item);
}

describe.each([0, 1, 3, 1000])('capacity %i', (capacity) => {
  test('what is put is taken, in order, and then the loop ends', async () => {
    const channel = new Channel<number>(capacity);
    const items = Array.from({ length: 100 }, (_, i) => i);
    const producer = spawn(function* () {
      yield* putAll(channel, items);
      channel.close();
    });
    expect(await spawn(takeAll(channel))).toEqual(items);
    await producer;
    expect([channel.closed, channel.size]).toEqual([true, 0]);
  });

  test('never holds more than its capacity, and put waits', async () => {
    const channel = new Channel<number>(capacity);
    let put = 0;
    const producer = spawn(function* () {
      for (; put < 2000; put++) yield* channel.put(put);
    });
    await turns(3);
    expect([put, channel.size]).toEqual([Math.min(capacity, 2000), Math.min(capacity, 2000)]);
    expect(channel.tryTake()).toBe(0);
    await turns(3);
    expect(put).toBe(capacity + 1);
    producer.cancel();
    await expect(producer).rejects.toMatchObject({ code: 'ECANCELED' });
    // The put that was cancelled has left: what it would have put is not there.
    expect(channel.size).toBe(capacity);
  });

  test('several producers and consumers: each value once, first come first served', async () => {
    const channel = new Channel<number>(capacity);
    const order: string[] = [];
    const takers = [0, 1, 2].map((taker) =>
      spawn(function* () {
        order.push(`${taker}:${yield* channel.take()}`);
      }),
    );
    for (let i = 0; i < 3; i++) expect(channel.tryPut(i)).toBe(true);
    await Promise.all(takers);
    expect(order).toEqual(['0:0', '1:1', '2:2']);

    const producers = [0, 1, 2, 3].map((producer) =>
      spawn(
        putAll(
          channel,
          Array.from({ length: 50 }, (_, i) => producer * 50 + i),
        ),
      ),
    );
    const consumers = [0, 1, 2].map(() => spawn(takeAll(channel)));
    await Promise.all(producers);
    channel.close();
    const got = await Promise.all(consumers);
    expect(got.flat().sort((a, b) => a - b)).toEqual(Array.from({ length: 200 }, (_, i) => i));
    for (const some of got) {
      for (const from of [0, 1, 2, 3]) {
        const of = some.filter((item) => Math.floor(item / 50) === from);
        expect(of).toEqual([...of].sort((a, b) => a - b));
      }
    }
  });

  test('a taker that is cancelled takes nothing', async () => {
    const channel = new Channel<number>(capacity);
    const takers = [0, 1, 2].map(() =>
      spawn(function* () {
        return yield* channel.take();
      }),
    );
    takers[1]!.cancel();
    expect([channel.tryPut(0), channel.tryPut(2)]).toEqual([true, true]);
    const ends = await Promise.allSettled(takers);
    expect(ends.map((end) => (end.status === 'fulfilled' ? end.value : end.status))).toEqual([
      0,
      'rejected',
      2,
    ]);
  });
});

test('close: puts that wait are still taken, later ones throw, and so does take at the end', async () => {
  const channel = new Channel<string>(1);
  const producers = ['a', 'b', 'c'].map((item) => spawn(putAll(channel, [item])));
  channel.close();
  channel.close();
  expect(codeOf(failureNow(() => channel.tryPut('d')))).toBe('ERR_CHANNEL_CLOSED');
  await expect(spawn(putAll(channel, ['d']))).rejects.toMatchObject({ code: 'ERR_CHANNEL_CLOSED' });
  expect(await spawn(takeAll(channel))).toEqual(['a', 'b', 'c']);
  await Promise.all(producers);
  expect(codeOf(failureNow(() => channel.tryTake()))).toBe('ERR_CHANNEL_CLOSED');
  const taker = spawn(function* () {
    return yield* channel.take();
  });
  await expect(taker).rejects.toMatchObject({ code: 'ERR_CHANNEL_CLOSED' });
});

test('close ends those that wait to take', async () => {
  const channel = new Channel<string>(1);
  const loop = spawn(takeAll(channel));
  const taker = spawn(function* () {
    return yield* channel.take();
  });
  channel.close();
  expect(await loop).toEqual([]);
  await expect(taker).rejects.toMatchObject({ code: 'ERR_CHANNEL_CLOSED' });
});

test('fail: takers have the error, those that put have it as the cause', async () => {
  const channel = new Channel<number>(1);
  const producers = [1, 2].map((item) => spawn(putAll(channel, [item])));
  const empty = new Channel<number>(1);
  const taker = spawn(takeAll(empty));
  const error = new Error('broken');
  channel.fail(error);
  empty.fail(error);
  const [first, second] = await Promise.allSettled(producers);
  expect(first!.status).toBe('fulfilled'); // it was in before, and is dropped
  expect((second as PromiseRejectedResult).reason).toMatchObject({
    code: 'ERR_CHANNEL_CLOSED',
    cause: error,
  });
  await expect(taker).rejects.toBe(error);
  await expect(spawn(takeAll(channel))).rejects.toBe(error);
  expect(failureNow(() => channel.tryPut(3)).cause).toBe(error);
  expect(failureNow(() => channel.tryTake())).toBe(error);
});

test('tryPut and tryTake never wait', () => {
  const channel = new Channel<number>(2);
  expect(channel.tryTake()).toBeUndefined();
  expect([channel.tryPut(1), channel.tryPut(2), channel.tryPut(3)]).toEqual([true, true, false]);
  expect([channel.tryTake(), channel.tryTake(), channel.tryTake()]).toEqual([1, 2, undefined]);
  expect(new Channel<number>(0).tryPut(1)).toBe(false);
});

describe('pipe', () => {
  const numbers = (count: number): Channel<number> => {
    const channel = new Channel<number>(2);
    spawn(function* numbers() {
      try {
        for (let i = 0; i < count; i++) yield* channel.put(i);
      } catch (error) {
        if (codeOf(error) !== 'ERR_CHANNEL_CLOSED') throw error;
      }
      channel.close();
    });
    return channel;
  };
  function* odd(input: ReadonlyChannel<number>, output: Channel<number>): Micro<void> {
    for (const item of yield* each(input)) {
      if (item % 2 === 1) yield* output.put(item);
      yield* each.next();
    }
  }
  function* asText(input: ReadonlyChannel<number>, output: Channel<string>): Micro<void> {
    for (const item of yield* each(input)) {
      yield* output.put(`<${item}>`);
      yield* each.next();
    }
  }

  test('stages are one behind the other, and end one after the other', async () => {
    expect(await spawn(takeAll(numbers(7).pipe(odd).pipe(asText)))).toEqual(['<1>', '<3>', '<5>']);
  });

  test('a stage that ends early ends those before it', async () => {
    function* head(input: ReadonlyChannel<number>, output: Channel<number>): Micro<void> {
      yield* output.put(yield* input.take());
    }
    const source = numbers(Infinity);
    expect(await spawn(takeAll(source.pipe(odd).pipe(head, { capacity: 1 })))).toEqual([1]);
    await turns(5);
    expect(source.closed).toBe(true);
  });

  test('a failure goes on to who takes, and the stages before end', async () => {
    function* breaks(input: ReadonlyChannel<number>): Micro<void> {
      yield* input.take();
      throw new Error('broken stage');
    }
    const source = numbers(Infinity);
    await expect(spawn(takeAll(source.pipe<number>(breaks).pipe(asText)))).rejects.toThrow(
      'broken stage',
    );
    await turns(5);
    expect(source.closed).toBe(true);
  });
});

test('pipe: a stage that is cancelled, before it begins too, ends both of its sides', async () => {
  const port = newPort();
  for (const abortedBefore of [true, false]) {
    for (const input of [new Channel<number>(1), new SharedChannel<number>(port, 1)]) {
      const controller = new AbortController();
      if (abortedBefore) controller.abort();
      const output = input.pipe(takeAll, { signal: controller.signal });
      const taker = spawn(takeAll(output));
      controller.abort();
      await expect(taker).rejects.toMatchObject({ code: 'ECANCELED' });
      expect([output.closed, input.closed]).toEqual([true, input instanceof Channel]);
    }
  }
});

test('pipe: a stage that aborts its own signal has both sides until it has cleaned up', async () => {
  const controller = new AbortController();
  const input = new Channel<number>(1);
  const open: boolean[] = [];
  function* stage(_input: unknown, output: Channel<number>): Micro<void> {
    try {
      controller.abort();
      yield* sleep(Infinity);
    } finally {
      yield* sleep(0);
      open.push(!input.closed, !output.closed);
    }
  }
  const output = input.pipe(stage, { signal: controller.signal });
  await expect(spawn(takeAll(output))).rejects.toMatchObject({ code: 'ECANCELED' });
  expect(open).toEqual([true, true]);
});

describe('each', () => {
  test('goes over any async iterable, and cleans up when it is left', async () => {
    let cleaned = false;
    async function* letters(): AsyncGenerator<string, void> {
      try {
        yield 'a';
        await new Promise(setImmediate);
        yield 'b';
        yield 'c';
      } finally {
        cleaned = true;
      }
    }
    const got: string[] = [];
    await spawn(function* () {
      for (const letter of yield* each(letters())) {
        got.push(letter);
        if (letter === 'b') break;
        yield* each.next();
      }
    });
    expect(got).toEqual(['a', 'b']);
    await turns(2);
    expect(cleaned).toBe(true);
  });

  test('loops in loops, also in generators that are delegated to', async () => {
    const outer = new Channel<Channel<number>>(10);
    function* sum(channel: Channel<number>): Micro<number> {
      let total = 0;
      for (const item of yield* each(channel)) {
        total += item;
        yield* each.next();
      }
      return total;
    }
    for (const items of [[1, 2], [], [3]]) {
      const inner = new Channel<number>(10);
      for (const item of items) inner.tryPut(item);
      inner.close();
      outer.tryPut(inner);
    }
    outer.close();
    const sums: number[] = [];
    await spawn(function* () {
      for (const channel of yield* each(outer)) {
        sums.push(yield* sum(channel));
        yield* each.next();
      }
    });
    expect(sums).toEqual([3, 0, 3]);
  });

  test('a body without each.next(), and each.next() without a loop, throw', async () => {
    const channel = new Channel<number>(2);
    channel.tryPut(1);
    const forgetful = spawn(function* () {
      for (const item of yield* each(channel)) void item;
    });
    await expect(forgetful).rejects.toMatchObject({ code: 'ERR_INVALID_STATE' });
    const lost = spawn(function* () {
      yield* sleep(0);
      yield* each.next();
    });
    await expect(lost).rejects.toMatchObject({ code: 'ERR_INVALID_STATE' });
    const wrong = spawn(function* () {
      yield* each(5 as never);
    });
    await expect(wrong).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
  });

  test('what for await takes: iterators whose methods give no promises', async () => {
    let left = 0;
    const plain = (): AsyncIterable<number> => {
      let last = 0;
      const iterator = {
        next: () => ({ done: last === 3, value: ++last }),
        return: () => ({ done: true, value: ++left }),
      };
      return { [Symbol.asyncIterator]: () => iterator as never };
    };
    const got: number[] = [];
    await spawn(function* () {
      for (const item of yield* each(plain())) {
        got.push(item);
        yield* each.next();
      }
      for (const item of yield* each(plain())) {
        got.push(item);
        break;
      }
    });
    expect(got).toEqual([1, 2, 3, 1]);
    expect(left).toBe(1);
    const wrong: AsyncIterable<number> = {
      [Symbol.asyncIterator]: () => ({ next: () => Promise.resolve(undefined) as never }),
    };
    await expect(spawn(takeAll(wrong as never))).rejects.toThrow(TypeError);
  });

  test('a cancel leaves the loop', async () => {
    let left = false;
    const endless: AsyncIterable<number> = {
      [Symbol.asyncIterator]: () => ({
        next: () => new Promise(() => undefined),
        return: () => {
          left = true;
          return Promise.resolve({ done: true, value: undefined });
        },
      }),
    };
    const thread = spawn(function* () {
      yield* each(endless);
    });
    thread.cancel();
    await expect(thread).rejects.toMatchObject({ code: 'ECANCELED' });
    expect(left).toBe(true);
  });
});

describe('each.next() together with others', () => {
  async function* count(): AsyncGenerator<number> {
    for (let i = 1; i <= 6; i++) {
      await new Promise(setImmediate);
      yield i;
    }
  }
  const filled = (): Channel<number> => {
    const channel = new Channel<number>(10);
    for (let i = 1; i <= 6; i++) channel.tryPut(i);
    channel.close();
    return channel;
  };
  const ticking = (): Channel<number> => {
    const channel = new Channel<number>(1);
    spawn(function* () {
      for (let i = 1; i <= 6; i++) {
        yield* sleep(1);
        yield* channel.put(i);
      }
      channel.close();
    });
    return channel;
  };

  test.each([
    ['an async iterable', count],
    ['a channel with values', filled],
    ['a channel that is given some', ticking],
  ])('%s: has all values in turn, and then the end', async (_name, source) => {
    const got: number[] = [];
    await spawn(function* () {
      for (const item of yield* each<number>(source())) {
        got.push(item);
        if (item % 3 === 0) yield* race([each.next(), sleep(Infinity)]);
        else if (item % 3 === 1) yield* all([each.next(), sleep(0)]);
        else
          expect((yield* select({ next: each.next(), time: sleep(Infinity) })).which).toBe('next');
      }
    });
    expect(got).toEqual([1, 2, 3, 4, 5, 6]);
  });

  test('received bytes and connections, also those that come while nobody waits', async () => {
    const port = newPort();
    const { client, server } = await connectedPair(port);
    const listener = await port.listen({ port: 0, host: '127.0.0.1' });
    const sent = spawn(function* () {
      let text = '';
      for (const bytes of yield* each(client)) {
        text += bytes.toString();
        for (;;) {
          const { which } = yield* select({ next: each.next(), time: sleep(0) });
          if (which === 'next') break;
          if (text.length < 6) yield* server.send('ab');
          else yield* server.end();
        }
      }
      return text;
    });
    await server.send('ab');
    expect(await sent).toBe('ababab');
    const { port: number } = listener.address()!;
    const ends = await spawn(function* () {
      const clients = [yield* port.connect({ port: number, host: '127.0.0.1' })];
      let count = 0;
      for (const socket of yield* each(listener)) {
        yield* socket.close();
        if (++count === 3) break;
        clients.push(yield* port.connect({ port: number, host: '127.0.0.1' }));
        yield* race([each.next(), sleep(Infinity)]);
      }
      return clients.length;
    });
    expect(ends).toBe(3);
  });

  test('one that was not chosen is not lost, and a failure is thrown', async () => {
    const channel = new Channel<number>(5);
    const got: unknown[] = [];
    const thread = spawn(function* () {
      for (const item of yield* each(channel)) {
        got.push(item);
        got.push((yield* select({ next: each.next(), time: sleep(0) })).which);
        channel.tryPut(2);
        got.push((yield* select({ time: sleep(Infinity), next: each.next() })).which);
        if (item === 2) channel.fail(new Error('broken'));
      }
    });
    channel.tryPut(1);
    await expect(thread).rejects.toThrow('broken');
    expect(got).toEqual([1, 'time', 'next', 2, 'time', 'next', 2]);
  });

  test('a connection that came for a loop that is left is closed', async () => {
    const port = newPort();
    const listener = await port.listen({ port: 0, host: '127.0.0.1' });
    const connect = () => port.connect({ port: listener.address()!.port, host: '127.0.0.1' });
    const first = await connect();
    const thread = spawn(function* () {
      for (const socket of yield* each(listener)) {
        yield* socket.close();
        yield* all([each.next(), sleep(Infinity)]);
      }
    });
    expect((await first.receive()).length).toBe(0);
    const second = await connect();
    thread.cancel();
    await expect(thread).rejects.toMatchObject({ code: 'ECANCELED' });
    expect((await second.receive()).length).toBe(0);
  });
});

test('wrong arguments throw', () => {
  const codes = [-1, 1.5, '1' as never, NaN].map((capacity) =>
    codeOf(failureNow(() => new Channel(capacity))),
  );
  expect(codes).toEqual([
    'ERR_OUT_OF_RANGE',
    'ERR_OUT_OF_RANGE',
    'ERR_INVALID_ARG_TYPE',
    'ERR_OUT_OF_RANGE',
  ]);
  expect(inspect(new Channel(3))).toBe('Channel { size: 0, capacity: 3, closed: false }');
});

test('two that wake each other leave the event loop its turns', async () => {
  const [there, back] = [new Channel<number>(0), new Channel<number>(0)];
  const threads = [
    spawn(function* () {
      for (;;) {
        yield* there.put(1);
        yield* back.take();
      }
    }),
    spawn(function* () {
      for (;;) {
        yield* there.take();
        yield* back.put(1);
      }
    }),
  ];
  for (let i = 0; i < 20; i++) await new Promise((resolve) => setTimeout(resolve, 1));
  for (const thread of threads) thread.cancel();
  const ends = await Promise.allSettled(threads);
  expect(ends.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
});
