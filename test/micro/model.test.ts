/**
 * Random programs of micro-threads against a model of what has to become of them: no item lost or
 * twice, each `finally` run once, and nothing left of threads, operations, handles or memory.
 */
import { expect, test } from 'vitest';
import type { AwaitOptions, Waitable } from '../../dist/index.js';
import {
  Channel,
  each,
  MicroThread,
  race,
  scope,
  select,
  sleep,
  spawn,
  wait,
  within,
  type Micro,
} from '../../dist/micro.js';
import { codeOf, newPort, newSeed, Random, turns, until } from '../support/harness';

const PROGRAMS = 60;
const ACTORS = 12;

/** What happened to the items of one program. */
class Ledger {
  readonly put = new Map<number, number>();
  readonly taken = new Map<number, number>();
  /** Blocks that were entered, and left. */
  entered = 0;
  left = 0;
  private next = 0;

  item(): number {
    return this.next++;
  }

  count(map: Map<number, number>, item: number): void {
    map.set(item, (map.get(item) ?? 0) + 1);
  }
}

const expected = new Set(['ECANCELED', 'ETIMEDOUT', 'ERR_CHANNEL_CLOSED', 'ABORT_ERR', 'MINE']);

function isExpected(error: unknown): boolean {
  return expected.has(codeOf(error) ?? '');
}

test('random programs do what the model says, and leave nothing behind', async () => {
  const random = new Random(newSeed('micro-threads'));
  const port = newPort({ buffers: { count: 64 } });
  const listener = await port.listen({ host: '127.0.0.1', port: 0 });
  const { port: tcpPort } = listener.address()!;
  const timer = port.timer();
  const server = spawn(function* () {
    for (const socket of yield* each(listener)) {
      spawn(function* () {
        try {
          for (const bytes of yield* each(socket)) {
            yield* socket.send(bytes);
            yield* each.next();
          }
        } catch (error) {
          if (codeOf(error) !== 'ECONNRESET' && codeOf(error) !== 'EPIPE') throw error;
        } finally {
          yield* socket.close();
        }
      });
      yield* each.next();
    }
  });
  const { handles } = port.stats();
  await runPrograms();
  // Its side of a connection may be closed after the program's.
  await until(() => port.stats().handles === handles);
  const before = port.stats();
  await runPrograms();
  await until(() => port.stats().handles === handles);
  expect(port.stats().allocatedBytes).toBeLessThanOrEqual(before.allocatedBytes + 65_536);
  await listener.close();
  await server;
  await until(() => MicroThread.list().length === 0);

  async function runPrograms(): Promise<void> {
    for (let i = 0; i < PROGRAMS; i++) await runProgram();
    await until(() => MicroThread.list().every(({ name }) => name === ''));
    await turns(5);
  }

  async function runProgram(): Promise<void> {
    const ledger = new Ledger();
    const channels = Array.from({ length: 3 }, () => new Channel<number>(random.below(4)));
    const threads: MicroThread<unknown>[] = [];
    const actions = [produce, consume, choose, talk, gather, sleeps, races];
    for (let i = 0; i < ACTORS; i++) {
      const action = actions[random.below(actions.length)]!;
      const body = function* (): Micro<void> {
        ledger.entered++;
        try {
          yield* action(random.below(10) + 1);
        } finally {
          // A cancel may come in the middle of this.
          try {
            if (random.below(3) === 0) yield* sleep(random.below(2));
          } finally {
            ledger.left++;
          }
        }
      };
      const thread = spawn(body(), { name: action.name });
      thread.then(undefined, (error: unknown) => {
        if (!isExpected(error)) throw error;
      });
      threads.push(thread);
      if (random.below(4) === 0) threads[random.below(threads.length)]!.cancel();
    }
    await turns(random.below(20));
    for (const thread of threads) if (random.below(3) === 0) thread.cancel();
    for (const channel of channels) {
      if (random.below(5) === 0) channel.fail(Object.assign(new Error('x'), { code: 'MINE' }));
    }
    const joiner = spawn(function* () {
      for (const thread of threads) {
        try {
          yield* thread;
        } catch {
          // Told above.
        }
      }
    });
    await turns(3);
    for (const thread of threads) thread.cancel();
    await joiner;
    for (const channel of channels) channel.close();
    check();

    function* produce(count: number): Micro<void> {
      const channel = channels[random.below(3)]!;
      for (let i = 0; i < count; i++) {
        const item = ledger.item();
        if (random.below(2) === 0 && channel.tryPut(item)) ledger.count(ledger.put, item);
        else if (yield* unlessGivenUp(channel.put(item, limits()))) {
          ledger.count(ledger.put, item);
        }
      }
    }
    function* consume(count: number): Micro<void> {
      const channel = channels[random.below(3)]!;
      for (let i = 0; i < count; i++) {
        const taken = yield* unlessGivenUp(channel.take(limits()));
        if (taken !== undefined) ledger.count(ledger.taken, taken.value);
      }
    }
    /** Of a wait: none, a time, a signal that is aborted some time, or was before. */
    function limits(): AwaitOptions {
      const limit = random.below(8);
      if (limit === 0) return { timeout: 1 + random.below(2) };
      if (limit > 2) return {};
      const controller = new AbortController();
      if (limit === 1) setTimeout(() => controller.abort(), random.below(3));
      else if (random.below(2) === 0) controller.abort();
      else setImmediate(() => controller.abort());
      return { signal: controller.signal };
    }
    function* choose(count: number): Micro<void> {
      const [a, b] = [channels[0]!, channels[random.below(2) + 1]!];
      for (let i = 0; i < count; i++) {
        const chosen = yield* select({ a, b, time: sleep(random.below(3)) });
        if (chosen.which !== 'time') ledger.count(ledger.taken, chosen.value);
      }
    }
    function* talk(count: number): Micro<void> {
      const socket = yield* port.connect({ host: '127.0.0.1', port: tcpPort });
      try {
        for (let i = 0; i < count; i++) {
          const text = `${i}`.repeat(random.below(100) + 1);
          yield* socket.send(text);
          let got = '';
          while (got.length < text.length) got += (yield* socket.receive()).toString();
          expect(got).toBe(text);
          if (random.below(4) === 0) yield* within(1, socket.receive());
        }
      } finally {
        yield* socket.close();
      }
    }
    function* gather(count: number): Micro<void> {
      yield* scope(function* (s): Micro<void> {
        for (let i = 0; i < count; i++) s.spawn(sleeps(2));
        if (random.below(3) === 0) s.spawn(fails());
        yield* sleep(random.below(2));
      });
    }
    function* fails(): Micro<void> {
      yield* sleep(random.below(2));
      throw Object.assign(new Error('x'), { code: 'MINE' });
    }
    function* sleeps(count: number): Micro<void> {
      for (let i = 0; i < count; i++) {
        if (random.below(2) === 0) yield* sleep(random.below(2));
        else yield* wait(Promise.resolve());
      }
    }
    function* races(count: number): Micro<void> {
      yield* race([sleeps(count), sleeps(count), timer.wait(random.below(3))]);
    }

    function check(): void {
      for (const [item, times] of [...ledger.put, ...ledger.taken])
        expect([item, times]).toEqual([item, 1]);
      for (const item of ledger.taken.keys()) expect(ledger.put.has(item)).toBe(true);
      expect(ledger.left).toBe(ledger.entered);
      const left = channels.reduce((sum, { size }) => sum + size, 0);
      const failed = channels.some((channel) => failedOf(channel));
      if (!failed) expect(ledger.put.size - ledger.taken.size).toBe(left);
    }
  }
});

/** What was given, or undefined where its limit came first. */
function* unlessGivenUp<T>(waitable: Waitable<T>): Micro<{ readonly value: T } | undefined> {
  try {
    return { value: yield* waitable };
  } catch (error) {
    if (!['ABORT_ERR', 'ETIMEDOUT'].includes(codeOf(error) ?? '')) throw error;
    return undefined;
  }
}

/** Whether it was failed, and so has dropped what was in it. */
function failedOf(channel: Channel<number>): boolean {
  if (channel.size > 0) return false;
  try {
    channel.tryTake();
    return false;
  } catch (error) {
    return codeOf(error) === 'MINE';
  }
}
