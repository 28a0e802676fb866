/**
 * Random programs of several threads that share channels, and threads that end at any moment: each
 * value is taken once, in order, the bound holds, and nothing is left of the memory.
 */
import { expect, test } from 'vitest';
import { each, SharedChannel, sleep, spawn, type Micro } from '../../dist/micro.js';
import { newPort, newSeed, Random, until } from '../support/harness';
import { Sharer, sharedWords } from './shared';

const range = (length: number): number[] => Array.from({ length }, (_, i) => i);
/** Values are numbers, or bytes that begin with one. */
type Item = number | Uint8Array;
const numberOf = (item: Item): number =>
  typeof item === 'number' ? item : Buffer.from(item).readUInt32LE();

function* takeAll(channel: SharedChannel<Item>): Micro<number[]> {
  const got: number[] = [];
  for (const item of yield* each(channel)) {
    expect(channel.size).toBeLessThanOrEqual(channel.capacity);
    got.push(numberOf(item));
    yield* each.next();
  }
  return got;
}

test('random programs with takes that are given up: each value once, and never too many', async () => {
  const random = new Random(newSeed('shared channels'));
  for (let program = 0; program < 12; program++) {
    const port = newPort();
    const channel = new SharedChannel<Item>(port, 1 + random.below(5));
    const threads = await Promise.all(
      range(1 + random.below(2)).map(() => Sharer.start([channel] as never[])),
    );
    const producers = 2 + random.below(3);
    const count = 100 + random.below(200);
    const ends: PromiseLike<unknown>[] = [];
    for (let producer = 0; producer < producers; producer++) {
      const items = range(count).map((i) => valueOf(producer * count + i, random));
      const thread = threads[random.below(threads.length + 1)];
      if (thread !== undefined) ends.push(thread.run('put', 0, ...items));
      else ends.push(spawn(putAll(channel, items, random)).then((value) => value));
    }
    const takers = range(1 + random.below(4)).map(() => {
      const thread = threads[random.below(threads.length + 1)];
      if (thread !== undefined) return thread.run('all', 0) as Promise<Item[]>;
      return spawn(takeAll(channel)).then((got) => got as Item[]);
    });
    const asks = { more: true };
    const impatient = spawn(givesUp(channel, random, asks));
    await Promise.all(ends);
    asks.more = false;
    await impatient;
    channel.close();
    const got = (await Promise.all(takers)).map((items) => items.map(numberOf));
    expect(got.flat().sort((a, b) => a - b)).toEqual(range(producers * count));
    expect([channel.size, port.stats().allocatedBytes]).toEqual([0, 0]);
    await Promise.all(threads.map(({ worker }) => worker.terminate()));
    await port.close();
  }
});

test('random programs without takes that are given up: each taker has the values of a producer in order', async () => {
  const random = new Random(newSeed('shared channels in order'));
  for (let program = 0; program < 6; program++) {
    const port = newPort();
    const channel = new SharedChannel<Item>(port, 1 + random.below(20));
    const threads = await Promise.all(range(2).map(() => Sharer.start([channel] as never[])));
    const count = 300;
    const ends = range(4).map((producer) => {
      const items = range(count).map((i) => valueOf(producer * count + i, random));
      if (producer < 2) return threads[producer]!.run('put', 0, ...items);
      return spawn(putAll(channel, items, random)).then((value) => value);
    });
    const takers = [
      ...threads.map((thread) => thread.run('all', 0) as Promise<Item[]>),
      ...range(2).map(() => spawn(takeAll(channel)).then((got) => got as Item[])),
    ];
    await Promise.all(ends);
    channel.close();
    const got = (await Promise.all(takers)).map((items) => items.map(numberOf));
    expect(got.flat().sort((a, b) => a - b)).toEqual(range(4 * count));
    for (const some of got) {
      for (const producer of range(4)) {
        const of = some.filter((item) => Math.floor(item / count) === producer);
        expect(of).toEqual([...of].sort((a, b) => a - b));
      }
    }
    await Promise.all(threads.map(({ worker }) => worker.terminate()));
    await port.close();
  }
});

function valueOf(number: number, random: Random): Item {
  if (random.below(2) === 0) return number;
  const bytes = Buffer.alloc(4 + random.below(random.below(8) === 0 ? 20_000 : 200));
  bytes.writeUInt32LE(number);
  return bytes;
}

function* putAll(channel: SharedChannel<Item>, items: Item[], random: Random): Micro<void> {
  for (const item of items) {
    if (random.below(3) > 0 || !channel.tryPut(item)) yield* channel.put(item);
    if (random.below(50) === 0) yield* sleep(random.below(2));
  }
}

/** Asks for values and gives up, again and again; one that came meanwhile it puts back. */
function* givesUp(
  channel: SharedChannel<Item>,
  random: Random,
  asks: { readonly more: boolean },
): Micro<void> {
  while (asks.more) {
    const controller = new AbortController();
    const { signal } = controller;
    const options = [{}, { signal }, { signal, timeout: 1 }][random.below(3)]!;
    const asked = spawn(function* () {
      return yield* channel.take(options);
    });
    asked.then(undefined, () => undefined);
    if (random.below(2) === 0) yield* sleep(0);
    if ('signal' in options) controller.abort();
    else asked.cancel();
    let item: Item | undefined;
    try {
      item = yield* asked;
    } catch {
      // It was cancelled.
    }
    if (item !== undefined) yield* channel.put(item);
    yield* sleep(random.below(2));
  }
}

/** Threads that are ended in one test. */
const ENDED = 100;
/** To start and end as many threads takes a busy machine a minute. */
const LONG = 300_000;
const AT_A_TIME = 4;

test(
  'threads that put are ended at any moment: what was put is taken once',
  { timeout: LONG },
  async () => {
    const random = new Random(newSeed('terminated producers'));
    const port = newPort();
    const channel = new SharedChannel<number>(port, 4);
    const each1 = 10_000;
    const taken = new Map<number, number>();
    const orders = new Map<number, number>();
    let disorders = 0;
    const taker = spawn(function* () {
      for (const item of yield* each(channel)) {
        taken.set(item, (taken.get(item) ?? 0) + 1);
        const producer = Math.floor(item / each1);
        if ((orders.get(producer) ?? -1) >= item) disorders++;
        orders.set(producer, item);
        yield* each.next();
      }
    });
    const words = sharedWords(ENDED + 1);
    await inGroups(async (index) => {
      const thread = await Sharer.start([channel] as never[], words);
      thread.begin('produce', 0, index * each1, each1, index);
      if (random.below(2) === 0) await until(() => Atomics.load(words, index) > 0);
      if (random.below(2) === 0)
        await new Promise((resolve) => setTimeout(resolve, random.below(8)));
      await thread.worker.terminate();
    });
    channel.close();
    await taker;
    expect(disorders).toBe(0);
    expect([...taken.values()].every((times) => times === 1)).toBe(true);
    for (const index of range(ENDED)) {
      const put = Atomics.load(words, index);
      const missing = range(put).filter((i) => !taken.has(index * each1 + i));
      expect(missing).toEqual([]);
    }
    expect(port.stats().allocatedBytes).toBe(0);
  },
);

test(
  'threads that wait to take are ended: what was on its way to them is another’s',
  { timeout: LONG },
  async () => {
    const random = new Random(newSeed('terminated takers'));
    const port = newPort();
    const channel = new SharedChannel<Item>(port, 8);
    const words = sharedWords(20_000);
    let put = 0;
    await inGroups(async () => {
      const thread = await Sharer.start([channel] as never[], words);
      // Those that run take what they can; those that block hear of nothing that comes for them.
      for (let i = random.below(3); i >= 0; i--) await thread.begun('consume', 0);
      const blocks = random.below(2) === 0;
      if (blocks) await thread.block();
      for (let i = random.below(8); i > 0; i--) {
        if (channel.tryPut(valueOf(put, random))) put++;
      }
      if (random.below(2) === 0)
        await new Promise((resolve) => setTimeout(resolve, random.below(4)));
      await thread.worker.terminate();
    });
    const got = spawn(takeAll(channel));
    channel.close();
    for (const item of await got) words[item]!++;
    // A thread that runs may be ended between the take and what it does with the value.
    const counts = range(put).map((item) => words[item]!);
    expect(Math.max(0, ...counts)).toBeLessThanOrEqual(1);
    expect(counts.filter((count) => count === 0).length).toBeLessThanOrEqual(ENDED);
    expect([channel.size, port.stats().allocatedBytes]).toEqual([0, 0]);
  },
);

test('threads that hear of nothing are ended: no value is lost', { timeout: LONG }, async () => {
  const random = new Random(newSeed('deaf takers'));
  const port = newPort();
  const channel = new SharedChannel<Item>(port, 8);
  for (let round = 0; round < 10; round++) {
    const words = sharedWords(100);
    const threads = await Promise.all(
      range(2).map(() => Sharer.start([channel] as never[], words)),
    );
    for (const thread of threads) {
      for (let i = random.below(5); i > 0; i--) await thread.begun('consume', 0);
      await thread.block();
    }
    for (const item of range(8)) await channel.put(valueOf(item, random));
    const order = random.below(2) === 0 ? threads : [...threads].reverse();
    for (const { worker } of order) await worker.terminate();
    const got = range(8).map(() => numberOf(channel.tryTake()!));
    expect(got).toEqual(range(8));
    expect([channel.size, port.stats().allocatedBytes]).toEqual([0, 0]);
  }
});

async function inGroups(run: (index: number) => Promise<void>): Promise<void> {
  for (let first = 0; first < ENDED; first += AT_A_TIME) {
    await Promise.all(range(AT_A_TIME).map((i) => run(first + i)));
  }
}

test('close and fail race with puts and takes of other threads: all end', async () => {
  const random = new Random(newSeed('close and fail'));
  const port = newPort();
  const threads: Sharer[] = [];
  const channels = range(30).map(() => new SharedChannel<Item>(port, 1 + random.below(3)));
  for (let i = 0; i < 2; i++)
    threads.push(await Sharer.start(channels as never[], sharedWords(2000)));
  for (const [which, channel] of channels.entries()) {
    const commands = threads.flatMap((thread) => [
      thread.begin('put', which, ...range(50).map((item) => valueOf(item, random))),
      thread.begin('all', which),
    ]);
    const own = spawn(takeAll(channel)).then((got) => got as unknown);
    void Promise.resolve(own).catch(() => undefined);
    await until(() => commands.some(({ began }) => began));
    if (random.below(2) === 0) await new Promise((resolve) => setTimeout(resolve, random.below(3)));
    const failing = random.below(2) === 0;
    const error = Object.assign(new Error('why'), { code: 'E_WHY' });
    const ender = threads[random.below(3)];
    if (ender !== undefined) await ender.run('call', which, failing ? 'fail' : 'close', error);
    else if (failing) channel.fail(error);
    else channel.close();
    const ends = await Promise.allSettled([...commands.map(({ end }) => end), own]);
    for (const end of ends) {
      if (end.status === 'rejected') {
        const { code, message } = end.reason as { code?: string; message: string };
        expect(code ?? message).toMatch(/^(E_WHY|why|ERR_CHANNEL_CLOSED)$/);
      }
    }
    expect(channel.size).toBe(0);
  }
  expect(port.stats().allocatedBytes).toBe(0);
});
