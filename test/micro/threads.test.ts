/** Micro-threads: how they begin, wait, are joined, are cancelled and end. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import type { Waitable } from '../../dist/index.js';
import {
  all,
  each,
  exclusive,
  MicroThread,
  parallelMap,
  race,
  scope,
  select,
  sleep,
  spawn,
  wait,
  within,
  type Micro,
} from '../../dist/micro.js';
import {
  codeOf,
  connectedPair,
  failureNow,
  failureOf,
  newPort,
  outputOf,
  pattern,
  root,
  runModule,
  sleep as pause,
  temporaryFile,
  turns,
  until,
  type SocketHandle,
} from '../support/harness';

/** A promise from outside, for a micro-thread to wait for. */
function gate<T = void>(): { promise: Promise<T>; open: (value: T) => void } {
  let open!: (value: T) => void;
  const promise = new Promise<T>((resolve) => (open = resolve));
  return { promise, open };
}

/** Waits for ever. */
function* stuck(): Micro<void> {
  yield* sleep(Infinity);
}

describe('spawn and join', () => {
  test('a micro-thread runs until it waits before spawn returns', async () => {
    const seen: string[] = [];
    const thread = spawn(function* () {
      seen.push('first');
      yield* wait(Promise.resolve());
      seen.push('second');
    });
    expect(seen).toEqual(['first']);
    await thread;
    expect(seen).toEqual(['first', 'second']);
  });

  test('await and yield* give what it returns, as often as they like', async () => {
    const thread = spawn(function* () {
      yield* sleep(1);
      return 5;
    });
    const other = spawn(function* () {
      return [yield* thread, yield* thread];
    });
    expect(await Promise.all([thread, thread, other])).toEqual([5, 5, [5, 5]]);
    expect(await thread).toBe(5);
    expect(thread.state).toBe('done');
  });

  test('a generator is spawned as well as a function, and has no name', async () => {
    function* add(a: number, b: number): Micro<number> {
      yield* sleep(0);
      return a + b;
    }
    expect(await spawn(add(2, 3))).toBe(5);
    const threads = [spawn(stuck(), { name: 'stuck one' }), spawn(stuck), spawn(stuck())];
    expect(threads.map(({ name }) => name)).toEqual(['stuck one', 'stuck', '']);
    for (const thread of threads) thread.cancel();
  });

  test('generators delegate to generators to any depth', async () => {
    function* down(n: number): Micro<number> {
      if (n === 0) {
        yield* sleep(1);
        return 0;
      }
      return 1 + (yield* down(n - 1));
    }
    expect(await spawn(down(500))).toBe(500);
  });

  test('an error reaches whoever joins, by either way', async () => {
    const thread = spawn(function* () {
      yield* sleep(1);
      throw new RangeError('no');
    });
    const caught = spawn(function* () {
      try {
        yield* thread;
      } catch (error) {
        return (error as Error).message;
      }
      return undefined;
    });
    expect(await caught).toBe('no');
    await expect(thread).rejects.toThrow('no');
    expect(thread.state).toBe('failed');
  });

  test('an error of a promise, and of an operation, can be caught', async () => {
    const port = newPort();
    const codes = await spawn(function* () {
      const codes: unknown[] = [];
      try {
        yield* wait(Promise.reject(Object.assign(new Error('x'), { code: 'MINE' })));
      } catch (error) {
        codes.push(codeOf(error));
      }
      try {
        yield* port.open('/nowhere/at/all');
      } catch (error) {
        codes.push(codeOf(error));
      }
      return codes;
    });
    expect(codes).toEqual(['MINE', 'ENOENT']);
  });

  test('what is joined by itself, or in a circle, throws instead of waiting for ever', async () => {
    const threads: MicroThread<void>[] = [];
    const go = gate();
    threads.push(
      spawn(function* () {
        yield* wait(go.promise);
        yield* threads[1]!;
      }),
      spawn(function* () {
        yield* wait(go.promise);
        yield* threads[0]!;
      }),
    );
    const alone: MicroThread<void> = spawn(function* () {
      yield* wait(go.promise);
      yield* alone;
    });
    go.open();
    expect(codeOf(await failureOf(() => Promise.resolve(alone)))).toBe('ERR_INVALID_STATE');
    const ends = await Promise.allSettled(threads);
    expect(ends.map(({ status }) => status)).toEqual(['rejected', 'rejected']);
  });

  describe('whoever would wait for its own end throws, as part of what it waits for too', () => {
    const me = (): MicroThread<unknown> => MicroThread.current!;
    function* joins(thread: MicroThread<unknown>): Micro<unknown> {
      return yield* thread;
    }
    /** One that joins the running micro-thread, and is thrown what that is. */
    function joiner(): MicroThread<unknown> {
      const parent = me();
      return spawn(function* () {
        yield* sleep(0);
        yield* parent;
      });
    }
    const bodies: Record<string, () => Micro<unknown>> = {
      *'all of itself'() {
        return yield* all([me()]);
      },
      *'race with itself'() {
        return yield* race<unknown>([me(), sleep(Infinity)]);
      },
      *'select of itself'() {
        return yield* select({ me: me(), time: sleep(Infinity) });
      },
      *within() {
        return yield* within(60_000, me());
      },
      *'a generator in all'() {
        return yield* all([sleep(0), joins(me())]);
      },
      *'a generator in race'() {
        return yield* race([joins(me()), sleep(Infinity)]);
      },
      *'a child in a scope'() {
        const parent = me();
        return yield* scope(function* (inside): Micro<void> {
          inside.spawn(joins(parent));
          yield* sleep(Infinity);
        });
      },
      *'a child that waits before'() {
        const parent = me();
        return yield* scope(function* (inside): Micro<void> {
          inside.spawn(function* () {
            yield* sleep(0);
            yield* all([sleep(0), parent]);
          });
          yield* sleep(Infinity);
        });
      },
      *'others in all'() {
        return yield* all([joiner(), sleep(0)]);
      },
      *'others in a scope in within'() {
        const other = joiner();
        return yield* within(
          60_000,
          scope(function* (inside): Micro<void> {
            inside.spawn(joins(other));
            yield* sleep(Infinity);
          }),
        );
      },
      *'others that wait already'() {
        const other = joiner();
        other.then(undefined, () => undefined); // is thrown the same
        yield* sleep(2);
        return yield* all([other]);
      },
    };
    test.each(Object.entries(bodies))('%s', async (_name, body) => {
      await expect(spawn(body)).rejects.toMatchObject({ code: 'ERR_INVALID_STATE' });
      expect(MicroThread.list()).toEqual([]);
    });
  });

  test('a join that another way out may end is no circle', async () => {
    const [stop, asked] = [gate(), gate()];
    const first: MicroThread<unknown> = spawn(function* () {
      yield* sleep(0);
      return yield* select({ second, stop: wait(stop.promise) });
    });
    const second: MicroThread<unknown> = spawn(function* () {
      yield* sleep(5);
      asked.open();
      return yield* first;
    });
    await asked.promise;
    stop.open();
    expect(await second).toEqual({ which: 'stop', value: undefined });
    const sibling = spawn(
      scope(function* (inside): Micro<string> {
        const child = inside.spawn(function* () {
          yield* sleep(1);
          return 'child';
        });
        const [other] = yield* all([inside.spawn(() => joinOf(child)), sleep(0)]);
        return other;
      }),
    );
    function* joinOf(child: MicroThread<string>): Micro<string> {
      return yield* child;
    }
    expect(await sibling).toBe('child');
  });

  test('yield* outside of a micro-thread, and yield without the star, say so', async () => {
    const port = newPort();
    const operation = port.timer().wait(1000);
    expect(codeOf(failureNow(() => [...(operation as Iterable<unknown>)]))).toBe(
      'ERR_INVALID_STATE',
    );
    operation.cancel();
    const wrong = spawn(function* () {
      yield sleep(1) as never;
    });
    expect(codeOf(await failureOf(() => Promise.resolve(wrong)))).toBe('ERR_INVALID_STATE');
    // An operation that is gone through by hand does not go on for ever.
    // eslint-disable-next-line require-yield -- that is what is wrong with it
    const byHand = spawn(function* () {
      return [...(port.timer().wait(1000) as Iterable<unknown>)];
    });
    expect(codeOf(await failureOf(() => Promise.resolve(byHand)))).toBe('ERR_INVALID_STATE');
  });

  test('wrong arguments throw at once', () => {
    const codes = (
      [
        () => spawn(5 as never),
        () => spawn((() => 5) as never),
        () => spawn(stuck, { nam: 'x' } as never),
        () => spawn(stuck, { name: 5 } as never),
        () => spawn(stuck, { grace: -1 }),
        () => spawn(async function* () {} as never),
        () => spawn(stuck, { signal: 5 } as never),
        () => sleep(-1),
        () => sleep('1' as never),
        () => wait(5 as never),
      ] as (() => unknown)[]
    ).map((fn) => codeOf(failureNow(fn)));
    expect(codes).toEqual([
      'ERR_INVALID_ARG_TYPE',
      'ERR_INVALID_RETURN_VALUE',
      'ERR_INVALID_ARG_VALUE',
      'ERR_INVALID_ARG_TYPE',
      'ERR_OUT_OF_RANGE',
      'ERR_INVALID_RETURN_VALUE',
      'ERR_INVALID_ARG_TYPE',
      'ERR_OUT_OF_RANGE',
      'ERR_INVALID_ARG_TYPE',
      'ERR_INVALID_ARG_TYPE',
    ]);
  });
});

describe('operations', () => {
  test('files: opened, written, read, gone through in chunks, closed', async () => {
    const port = newPort();
    const name = temporaryFile();
    const bytes = await spawn(function* () {
      const file = yield* port.open(name, 'r+');
      yield* file.write(pattern(200_000));
      const first = yield* file.read({ length: 10, position: 0 });
      const sizes: number[] = [];
      for (const chunk of yield* each(file.chunks({ size: 65_536 }))) {
        sizes.push(chunk.length);
        yield* each.next();
      }
      const { size } = yield* file.stat();
      yield* file.close();
      return { first, sizes, size };
    });
    expect(bytes.first.equals(pattern(10))).toBe(true);
    expect(bytes.sizes).toEqual([65_536, 65_536, 65_536, 3392]);
    expect(bytes.size).toBe(200_000);
    expect(readFileSync(name).equals(pattern(200_000))).toBe(true);
  });

  test('a server and its clients, all of them micro-threads', async () => {
    const port = newPort();
    const counts = { served: 0 };
    function* serve(socket: SocketHandle): Micro<void> {
      for (const bytes of yield* each(socket)) {
        yield* socket.send(bytes);
        yield* each.next();
      }
      yield* socket.close();
      counts.served++;
    }
    await spawn(function* () {
      const listener = yield* port.listen({ host: '127.0.0.1', port: 0 });
      const server = spawn(function* () {
        for (const socket of yield* each(listener)) {
          spawn(serve(socket));
          yield* each.next();
        }
        return 'over';
      });
      const { port: tcpPort } = listener.address()!;
      const clients = Array.from({ length: 20 }, (_, i) =>
        spawn(function* () {
          const socket = yield* port.connect({ host: '127.0.0.1', port: tcpPort });
          const sent = pattern(1000, i);
          yield* socket.send(sent);
          yield* socket.end();
          const got: Buffer[] = [];
          for (;;) {
            const bytes = yield* socket.receive();
            if (bytes.length === 0) break;
            got.push(bytes);
          }
          yield* socket.close();
          return Buffer.concat(got).equals(sent);
        }),
      );
      for (const client of clients) expect(yield* client).toBe(true);
      yield* listener.close();
      expect(yield* server).toBe('over');
    });
    await until(() => counts.served === 20);
    expect(MicroThread.list()).toEqual([]);
  });

  test('a loop that has its value is not woken while it waits for something else', async () => {
    const port = newPort();
    const listener = await port.listen({ host: '127.0.0.1', port: 0 });
    const where = { host: '127.0.0.1', port: listener.address()!.port };
    const first = gate();
    let seen = 0;
    const server = spawn(function* () {
      for (const socket of yield* each(listener.sockets({ timeout: 30_000 }))) {
        seen++;
        yield* wait(first.promise);
        yield* socket.close();
        if (seen === 5) break;
        yield* each.next();
      }
    });
    await port.connect(where);
    await until(() => seen === 1);
    const [before] = MicroThread.list();
    await pause(5);
    for (let i = 0; i < 4; i++) await port.connect(where);
    await turns(10);
    const [after] = MicroThread.list();
    expect([seen, after!.operation, after!.since]).toEqual([1, 'promise', before!.since]);
    first.open();
    await server;
    expect(seen).toBe(5);
  });

  test('several are under way, and waited for in any order', async () => {
    const port = newPort();
    const { client, server } = await connectedPair(port);
    await spawn(function* () {
      const received = client.receive();
      const timers = [port.timer().wait(30), port.timer().wait(1)];
      yield* timers[1]!;
      yield* server.send('hello');
      expect((yield* received).toString()).toBe('hello');
      yield* timers[0]!;
      // One that is over gives its result again, without waiting.
      expect((yield* received).toString()).toBe('hello');
    });
  });

  test('an operation that a micro-thread began is a promise to everybody else', async () => {
    const port = newPort();
    const operations = await spawn(function* () {
      const pending = port.timer().wait(5);
      const over = port.timer().wait(1);
      yield* over;
      return [pending, over];
    });
    await Promise.all(operations);
    await operations[0]!.finally(() => undefined);
    expect(operations[0]).toBeInstanceOf(Promise);
    const failing = await spawn(function* () {
      yield* sleep(0);
      return [port.open('/nowhere/at/all')];
    });
    expect(await failing[0]!.catch(codeOf)).toBe('ENOENT');
  });

  test('one that was begun outside is waited for by several', async () => {
    const port = newPort();
    const { client, server } = await connectedPair(port);
    const received = client.receive();
    const threads = [1, 2, 3].map(() =>
      spawn(function* () {
        return yield* received;
      }),
    );
    threads[0]!.cancel(); // it is not its alone: the others go on waiting
    await server.send('x');
    const ends = await Promise.allSettled(threads);
    expect(ends.map(({ status }) => status)).toEqual(['rejected', 'fulfilled', 'fulfilled']);
  });

  test('one that fails and nobody waits for is an unhandled rejection', async () => {
    const { stderr, code } = await runModule(`
      import { sleep, spawn } from 'completion-port/micro';
      const port = new CompletionPort();
      await spawn(function* () {
        port.open('/nowhere/at/all');
        yield* sleep(10_000);
      });`);
    expect(code).toBe(1);
    expect(stderr).toContain('ENOENT');
  });
});

test('a wait makes no promise', async () => {
  const output = await outputOf(`
    import { createHook } from 'node:async_hooks';
    import { Channel, each, sleep, spawn } from 'completion-port/micro';
    const port = new CompletionPort();
    const listener = await port.listen({ host: '127.0.0.1', port: 0 });
    spawn(function* () {
      for (const socket of yield* each(listener)) {
        for (const bytes of yield* each(socket)) {
          yield* socket.send(bytes);
          yield* each.next();
        }
        return;
      }
    });
    const channel = new Channel(1);
    spawn(function* () {
      for (let i = 0; ; i++) yield* channel.put(i);
    });
    let promises = 0;
    const hook = createHook({ init: (_id, type) => void (promises += Number(type === 'PROMISE')) });
    spawn(function* () {
      const socket = yield* port.connect({ host: '127.0.0.1', port: listener.address().port });
      for (let round = 0; round < 110; round++) {
        if (round === 10) hook.enable();
        yield* socket.send('x');
        yield* socket.receive();
        yield* channel.take();
        yield* sleep(0);
        yield* spawn(function* () {
          yield* sleep(0);
        });
      }
      hook.disable();
      console.log(promises);
      process.exit(0);
    });`);
  expect(output).toBe('0');
});

describe('cancel', () => {
  test('finally blocks run, catch blocks see nothing', async () => {
    const seen: string[] = [];
    function* inner(): Micro<void> {
      try {
        yield* sleep(Infinity);
      } catch {
        seen.push('inner catch');
      } finally {
        seen.push('inner finally');
      }
    }
    const thread = spawn(function* () {
      try {
        yield* inner();
        seen.push('went on');
      } catch {
        seen.push('catch');
      } finally {
        seen.push('finally');
      }
    });
    thread.cancel('because');
    const error = await failureOf(() => Promise.resolve(thread));
    expect(seen).toEqual(['inner finally', 'finally']);
    expect([error.code, error.cause, thread.state]).toEqual(['ECANCELED', 'because', 'cancelled']);
    thread.cancel(); // no effect
  });

  test('clean-up waits, with operations and all', async () => {
    const port = newPort();
    const { client, server } = await connectedPair(port);
    const seen: string[] = [];
    const thread = spawn(function* () {
      try {
        yield* client.receive();
      } finally {
        seen.push('begins');
        yield* sleep(5);
        yield* client.close();
        seen.push('ends');
      }
    });
    thread.cancel();
    await until(() => thread.state === 'ending');
    await expect(thread).rejects.toMatchObject({ code: 'ECANCELED' });
    expect(seen).toEqual(['begins', 'ends']);
    expect((await server.receive()).length).toBe(0);
  });

  test('clean-up that takes longer than its grace waits no longer, and goes on', async () => {
    const seen: string[] = [];
    const thread = spawn(
      function* () {
        try {
          try {
            yield* sleep(Infinity);
          } finally {
            seen.push('first');
            yield* sleep(Infinity);
            seen.push('never');
          }
        } finally {
          seen.push('second');
          yield* sleep(Infinity);
        }
      },
      { grace: 5 },
    );
    thread.cancel();
    await expect(thread).rejects.toMatchObject({ code: 'ECANCELED' });
    expect(seen).toEqual(['first', 'second']);
  });

  test('clean-up that never ends is given up', async () => {
    const thread = spawn(
      function* () {
        for (;;) {
          try {
            yield* sleep(Infinity);
          } finally {
            // eslint-disable-next-line no-unsafe-finally -- that is what this is about
            continue;
          }
        }
      },
      { grace: 0 },
    );
    thread.cancel();
    await expect(thread).rejects.toMatchObject({ code: 'ERR_INVALID_STATE' });
  });

  test('an error of the clean-up takes the place of the cancel', async () => {
    const thread = spawn(function* () {
      try {
        yield* sleep(Infinity);
      } finally {
        yield* sleep(0);
        // eslint-disable-next-line no-unsafe-finally -- that is what this is about
        throw new Error('clean-up');
      }
    });
    thread.cancel();
    await expect(thread).rejects.toThrow('clean-up');
    expect(thread.state).toBe('failed');
  });

  test('O4: what it waits for is cancelled, and loses no bytes', async () => {
    const port = newPort();
    const { client, server } = await connectedPair(port);
    for (let i = 0; i < 50; i++) {
      const got: Buffer[] = [];
      const thread = spawn(function* () {
        got.push(yield* client.receive());
        yield* sleep(Infinity);
      });
      const sending = server.send(Buffer.of(i));
      await turns(i % 5);
      thread.cancel();
      await expect(thread).rejects.toMatchObject({ code: 'ECANCELED' });
      await sending;
      if (got.length === 0) got.push(await client.receive());
      expect(got[0]).toEqual(Buffer.of(i));
    }
    expect(client.closed).toBe(false);
  });

  test('what is there already is had: it ends where it waits next', async () => {
    const seen: number[] = [];
    const promise = Promise.resolve(1);
    const thread: MicroThread<void> = spawn(function* () {
      seen.push(yield* wait(promise));
      yield* sleep(0);
      seen.push(2);
    });
    const other = spawn(function* () {
      yield* wait(promise);
      // The first one runs before: it waits for the sleep.
      thread.cancel();
    });
    await other;
    await expect(thread).rejects.toMatchObject({ code: 'ECANCELED' });
    expect(seen).toEqual([1]);
  });

  test('a micro-thread that cancels itself ends where it waits next', async () => {
    const seen: string[] = [];
    const thread: MicroThread<void> = spawn(function* () {
      yield* sleep(0);
      thread.cancel();
      seen.push('goes on');
      try {
        yield* sleep(1);
        seen.push('never');
      } finally {
        seen.push('finally');
      }
    });
    await expect(thread).rejects.toMatchObject({ code: 'ECANCELED' });
    expect(seen).toEqual(['goes on', 'finally']);
    const inTime: MicroThread<number> = spawn(function* () {
      yield* sleep(0);
      inTime.cancel();
      return 5; // does not wait any more
    });
    expect(await inTime).toBe(5);
  });

  test('a signal cancels: AbortError, with its reason as the cause', async () => {
    const controller = new AbortController();
    const threads = [
      spawn(stuck, { signal: controller.signal }),
      spawn(stuck, { signal: controller.signal }),
    ];
    controller.abort('enough');
    for (const thread of threads) {
      const error = await failureOf(() => Promise.resolve(thread));
      expect([error.name, error.code, error.cause]).toEqual(['AbortError', 'ABORT_ERR', 'enough']);
    }
    let ran = false;
    const never = spawn(
      function* () {
        ran = true;
        yield* sleep(0);
      },
      { signal: controller.signal },
    );
    await expect(never).rejects.toMatchObject({ code: 'ABORT_ERR' });
    expect(ran).toBe(false);
  });

  test('await using cancels, and waits for the clean-up', async () => {
    let cleaned = false;
    {
      await using thread = spawn(function* () {
        try {
          yield* sleep(Infinity);
        } finally {
          yield* sleep(2);
          cleaned = true;
        }
      });
      expect(thread.state).toBe('waiting');
    }
    expect(cleaned).toBe(true);
  });
});

describe('within', () => {
  test('throws ETIMEDOUT, and cancels what took too long', async () => {
    const port = newPort();
    const { client, server } = await connectedPair(port);
    let cleaned = false;
    await spawn(function* () {
      function* slow(): Micro<void> {
        try {
          yield* sleep(Infinity);
        } finally {
          yield* sleep(1);
          cleaned = true;
        }
      }
      for (const what of [client.receive(), slow(), sleep(Infinity)]) {
        try {
          yield* within<unknown>(5, what);
          expect.unreachable();
        } catch (error) {
          expect(codeOf(error)).toBe('ETIMEDOUT');
        }
      }
      // The receive is not under way any more: the bytes are for the next one.
      yield* server.send('x');
      expect((yield* within(10_000, client.receive())).toString()).toBe('x');
      expect(yield* within(10_000, wait(Promise.resolve(5)))).toBe(5);
      expect(yield* within(0, wait(Promise.resolve(6)))).toBe(6);
    });
    expect(cleaned).toBe(true);
    expect(MicroThread.list()).toEqual([]);
  });

  test('a cancel ends what is inside, too', async () => {
    const seen: string[] = [];
    const thread = spawn(function* () {
      yield* within(
        60_000,
        (function* (): Micro<void> {
          try {
            yield* sleep(Infinity);
          } finally {
            yield* sleep(1);
            seen.push('inside');
          }
        })(),
      );
    });
    thread.cancel();
    await expect(thread).rejects.toMatchObject({ code: 'ECANCELED' });
    expect(seen).toEqual(['inside']);
  });
});

describe('exclusive', () => {
  test('one at a time, first come first served; who is cancelled leaves the queue', async () => {
    const port = newPort();
    const { client, server } = await connectedPair(port);
    const spawned = Array.from({ length: 10 }, (_, i) =>
      spawn(function* () {
        yield* exclusive(client, function* (): Micro<void> {
          for (let part = 0; part < 5; part++) {
            yield* client.send(Buffer.of(i));
            yield* sleep(0);
          }
        });
      }),
    );
    spawned[3]!.cancel();
    await Promise.allSettled(spawned);
    await client.end();
    const got: number[] = [];
    for await (const bytes of server) got.push(...bytes);
    const wanted = [0, 1, 2, 4, 5, 6, 7, 8, 9].flatMap((i) => Array<number>(5).fill(i));
    expect(got).toEqual(wanted);
  });

  test('inside of itself it throws', async () => {
    const port = newPort();
    const timer = port.timer();
    const thread = spawn(function* () {
      yield* exclusive(timer, () => exclusive(timer, () => sleep(0)));
    });
    await expect(thread).rejects.toMatchObject({ code: 'ERR_INVALID_STATE' });
    await spawn(exclusive(timer, () => sleep(0)));
  });

  test('inside of itself it throws in what is waited for there, and waits in what is not', async () => {
    const timer = newPort().timer();
    const again = (): Micro<void> => exclusive(timer, () => sleep(0));
    const inner: (() => Waitable<unknown>)[] = [
      () => within(60_000, again()),
      () => all([sleep(0), again()]),
      () => race([again(), sleep(Infinity)]),
      () => scope((inside) => all([inside.spawn(() => within(60_000, again()))])),
      () => parallelMap([1], again, { concurrency: 1 }),
    ];
    for (const body of inner) {
      const thread = spawn(exclusive(timer, body));
      await expect(thread).rejects.toMatchObject({ code: 'ERR_INVALID_STATE' });
    }
    const other = await spawn(
      exclusive(timer, function* (): Micro<MicroThread<void>> {
        const other = spawn(again);
        yield* sleep(1);
        expect(other.state).toBe('waiting');
        return other;
      }),
    );
    await other;
  });
});

describe('ends', () => {
  test('port.close() ends those that wait for it: finally blocks run, nothing is unhandled', async () => {
    const port = newPort();
    const { client, server } = await connectedPair(port);
    const listener = await port.listen({ host: '127.0.0.1', port: 0 });
    const seen: string[] = [];
    const waits: Record<string, () => Micro<unknown>> = {
      *receive() {
        return yield* client.receive();
      },
      *chunks() {
        for (const bytes of yield* each(server)) {
          void bytes;
          yield* each.next();
        }
        return undefined;
      },
      *accept() {
        for (const socket of yield* each(listener)) {
          yield* socket.close();
          yield* each.next();
        }
        return undefined;
      },
      *timer() {
        return yield* port.timer().wait(1_000_000);
      },
    };
    const threads = Object.entries(waits).map(([name, body]) =>
      spawn(function* () {
        try {
          yield* body();
        } catch (error) {
          seen.push(`${name} caught ${codeOf(error)}`);
          throw error;
        } finally {
          seen.push(name);
          yield* client.close();
        }
      }),
    );
    await turns(5);
    await port.close();
    await until(() => MicroThread.list().length === 0);
    expect(seen.sort()).toEqual(['accept', 'chunks', 'receive', 'timer']);
    const states = threads.map(({ state }) => state);
    expect(states.filter((state) => state === 'failed')).toEqual([]);
  });

  test('process.exit() and the end of the process run the finally blocks of all', async () => {
    for (const end of ['process.exit(0)', '']) {
      const output = await outputOf(`
        import { Channel, sleep, spawn } from 'completion-port/micro';
        const port = new CompletionPort();
        const timer = port.timer().unref();
        const waits = {
          channel: () => new Channel(0).take(),
          timer: () => timer.wait(1e6),
          ...(${JSON.stringify(end)} ? { sleep: () => sleep(1e6) } : {}),
        };
        for (const [name, wait] of Object.entries(waits)) {
          spawn(function* () {
            try {
              try {
                yield* wait();
              } finally {
                console.log('first', name);
                yield* sleep(1);
                console.log('not reached');
              }
            } finally {
              console.log('second', name);
            }
          });
        }
        timer.unref();
        ${end && `setTimeout(() => ${end}, 20);`}`);
      const names = end === '' ? ['channel', 'timer'] : ['channel', 'sleep', 'timer'];
      const wanted = names.flatMap((name) => [`first ${name}`, `second ${name}`]);
      expect(output.split('\n').sort()).toEqual(wanted.sort());
    }
  });

  test('the end of a worker that has nothing to do any more runs the finally blocks of all', async () => {
    const output = await outputOf(`
      import { Worker } from 'node:worker_threads';
      const worker = new Worker(\`
        import { Channel, sleep, spawn } from 'completion-port/micro';
        import { parentPort } from 'node:worker_threads';
        for (const name of ['first', 'second']) {
          spawn(function* () {
            try {
              yield* new Channel(0).take();
            } finally {
              parentPort.postMessage(name);
              yield* sleep(1);
              parentPort.postMessage('not reached');
            }
          });
        }
      \`, { eval: true, execArgv: ['--input-type=module', '--no-warnings'] });
      worker.on('message', (message) => console.log(message));
      worker.on('exit', (code) => console.log(code));`);
    expect(output.split('\n').sort()).toEqual(['0', 'first', 'second']);
  });

  test('an error of the clean-up at the end of the process is told', async () => {
    const { stderr, code } = await runModule(`
      import { Channel, spawn } from 'completion-port/micro';
      spawn(function* () {
        try {
          yield* new Channel(0).take();
        } finally {
          throw new Error('too late');
        }
      });`);
    expect(stderr).toContain('too late');
    expect(code).not.toBe(0);
  });

  test('an error that nobody joined is an unhandled rejection, with the place of the spawn', async () => {
    const { stderr, code } = await runModule(`
      import { sleep, spawn } from 'completion-port/micro';
      function* careless() {
        yield* sleep(1);
        throw new Error('lost');
      }
      function spawnsIt() {
        spawn(careless);
      }
      spawnsIt();
      setTimeout(() => console.log('not reached'), 10_000);`);
    expect(code).toBe(1);
    expect(stderr).toContain('Error: lost');
    expect(stderr).toMatch(/at careless/);
    expect(stderr).toMatch(/Micro-thread careless was spawned at spawnsIt \(/);
  });

  test('one that is joined at once, or was cancelled, is no unhandled rejection', async () => {
    const output = await outputOf(`
      import { sleep, spawn } from 'completion-port/micro';
      function* throws() {
        throw new Error('at once');
      }
      const now = spawn(throws);
      spawn(function* () {
        try {
          yield* now;
        } catch (error) {
          console.log(error.message);
        }
      });
      spawn(throws).then(undefined, (error) => console.log(error.message));
      spawn(function* () { yield* sleep(1e6); }).cancel();`);
    expect(output.split('\n')).toEqual(['at once', 'at once']);
  });
});

test('the main entry loads nothing of it, and it warns once that it is experimental', async () => {
  const { stderr, stdout } = await runModule(`
    import { createRequire } from 'node:module';
    import path from 'node:path';
    const require = createRequire(path.resolve('x.js'));
    require('completion-port');
    console.log(Object.keys(require.cache).filter((file) => /dist.micro/.test(file)).length);
    const micro = require('completion-port/micro');
    console.log((await import('completion-port/micro')).spawn === micro.spawn);
    console.log(Object.keys(micro).sort().join());`);
  expect(stdout.trim().split('\n')).toEqual([
    '0',
    'true',
    'Channel,MicroThread,SharedChannel,all,each,exclusive,parallelMap,race,scope,select,sleep,spawn,wait,within',
  ]);
  expect(stderr.match(/ExperimentalWarning/g)).toHaveLength(1);
});

test('its sources are free of any', () => {
  const files = ['api', 'channel', 'each', 'exclusive', 'scheduler', 'spawn', 'thread', 'together'];
  for (const file of files) {
    expect(readFileSync(path.join(root, 'lib/micro', `${file}.ts`), 'utf8')).not.toMatch(/: any\b/);
  }
});

test('what has ended leaves nothing on the heap', async () => {
  const output = await outputOf(
    `
    import { all, Channel, scope, sleep, spawn, wait, within } from 'completion-port/micro';
    const port = new CompletionPort();
    const timer = port.timer();
    const controller = new AbortController();
    const channel = new Channel(1);
    function* work() {
      yield* wait(Promise.resolve());
      yield* within(10_000, timer.wait(0));
      yield* within(10_000, sleep(0));
      yield* scope(function* (s) {
        s.spawn(function* () { yield* channel.put(1); });
        yield* channel.take();
      });
      yield* all([sleep(0), timer.wait(0)]);
    }
    async function round() {
      for (let i = 0; i < 20; i++) {
        const threads = Array.from({ length: 100 }, () =>
          spawn(work(), { signal: controller.signal }));
        const stuck = Array.from({ length: 20 }, () => spawn(function* () {
          yield* within(10_000, new Channel(0).take());
        }, { signal: controller.signal }));
        await Promise.all(threads);
        for (const thread of stuck) thread.cancel();
        await Promise.allSettled(stuck);
      }
      gc();
      return process.memoryUsage().heapUsed;
    }
    await round();
    const before = await round();
    let after = Infinity;
    // What V8 keeps for itself goes up and down: a leak does not go down.
    for (let i = 0; i < 10 && after > before + 200_000; i++) after = await round();
    console.log(after <= before + 200_000);
    await port.close();`,
    { nodeArguments: ['--expose-gc'] },
  );
  expect(output).toBe('true');
});
