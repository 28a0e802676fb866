/** Scopes, and several things at one time. */
import { describe, expect, test } from 'vitest';
import {
  all,
  Channel,
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
  type Scope,
} from '../../dist/micro.js';
import type { Waitable } from '../../dist/index.js';
import {
  codeOf,
  connectedPair,
  failureNow,
  failureOf,
  newPort,
  turns,
  until,
} from '../support/harness';

/** Sleeps, and says when it is cleaned up, which takes a while. */
function* careful(seen: string[], name: string, time = Infinity): Micro<string> {
  try {
    yield* sleep(time);
    return name;
  } finally {
    yield* sleep(1);
    seen.push(name);
  }
}

function* throws(message: string, after = 0): Micro<never> {
  yield* sleep(after);
  throw new Error(message);
}

// eslint-disable-next-line require-yield -- it fails before it waits
function* throwsNow(message: string): Micro<never> {
  throw new Error(message);
}

type Group = (waitables: readonly Waitable<unknown>[]) => Micro<unknown>;
const groups: Group[] = [all, race];

/** What nobody has caught while `body` ran. */
async function unhandledIn(body: () => Promise<void>): Promise<unknown[]> {
  const seen: unknown[] = [];
  const others = process.listeners('unhandledRejection');
  process.removeAllListeners('unhandledRejection');
  process.on('unhandledRejection', (reason) => void seen.push(reason));
  try {
    await body();
    await turns(2);
  } finally {
    process.removeAllListeners('unhandledRejection');
    for (const other of others) process.on('unhandledRejection', other);
  }
  return seen;
}

describe('scope', () => {
  test('ends when all that was spawned in it has, with what the body returned', async () => {
    const seen: string[] = [];
    const result = await spawn(function* () {
      return yield* scope(function* (s): Micro<number> {
        s.spawn(careful(seen, 'a', 5));
        s.spawn(function* () {
          yield* sleep(1);
          s.spawn(careful(seen, 'b', 8));
        });
        yield* sleep(0);
        seen.push('body');
        return 7;
      });
    });
    expect(result).toBe(7);
    expect(seen).toEqual(['body', 'a', 'b']);
    expect(MicroThread.list()).toEqual([]);
  });

  test('the first failure cancels the others, the body too, and is thrown with theirs', async () => {
    const seen: string[] = [];
    function* cleansBadly(): Micro<void> {
      try {
        yield* sleep(Infinity);
      } finally {
        yield* throws('second');
      }
    }
    const error = await failureOf(() =>
      Promise.resolve(
        spawn(
          scope(function* (s): Micro<void> {
            s.spawn(careful(seen, 'sibling'));
            s.spawn(cleansBadly());
            s.spawn(throws('first', 2));
            yield* careful(seen, 'body');
          }),
        ),
      ),
    );
    expect(error.message).toBe('first');
    const { errors } = error as unknown as { errors: Error[] };
    expect(errors.map(({ message }) => message)).toEqual(['second']);
    expect(seen.sort()).toEqual(['body', 'sibling']);
    expect(MicroThread.list()).toEqual([]);
  });

  test('a failure of the body cancels what is in it', async () => {
    const seen: string[] = [];
    const thread = spawn(
      scope(function* (s) {
        s.spawn(careful(seen, 'child'));
        yield* throws('body');
      }),
    );
    await expect(thread).rejects.toThrow('body');
    expect(seen).toEqual(['child']);
  });

  test('a cancel from outside ends all of it, also what is spawned meanwhile', async () => {
    const seen: string[] = [];
    let late: Scope | undefined;
    const thread = spawn(
      scope(function* (s): Micro<void> {
        late = s;
        s.spawn(function* () {
          try {
            yield* sleep(Infinity);
          } finally {
            s.spawn(careful(seen, 'late'));
          }
        });
        yield* careful(seen, 'body');
      }),
    );
    thread.cancel();
    await expect(thread).rejects.toMatchObject({ code: 'ECANCELED' });
    expect(seen.sort()).toEqual(['body', 'late']);
    expect(codeOf(failureNow(() => late!.spawn(sleep(1) as never)))).toBe('ERR_INVALID_STATE');
    expect(MicroThread.list()).toEqual([]);
  });

  test('no child outlives it, even one whose clean-up takes too long', async () => {
    const thread = spawn(
      scope(function* (s): Micro<void> {
        s.spawn(function* () {
          try {
            yield* sleep(Infinity);
          } finally {
            yield* sleep(Infinity);
          }
        });
        yield* sleep(Infinity);
      }),
      { grace: 5 },
    );
    thread.cancel();
    await expect(thread).rejects.toMatchObject({ code: 'ECANCELED' });
    expect(MicroThread.list()).toEqual([]);
  });

  test('scope.cancel() ends the others, and the body goes on', async () => {
    const seen: string[] = [];
    const result = await spawn(
      scope(function* (s): Micro<string> {
        s.spawn(careful(seen, 'a'));
        s.spawn(careful(seen, 'b'));
        yield* sleep(1);
        s.cancel();
        return 'body';
      }),
    );
    expect(result).toBe('body');
    expect(seen).toEqual(['a', 'b']);
  });

  test('a child that the program cancels is no failure', async () => {
    const result = await spawn(
      scope(function* (s): Micro<number> {
        s.spawn(sleepFor).cancel();
        yield* sleep(1);
        return 1;
      }),
    );
    expect(result).toBe(1);
  });

  function* sleepFor(): Micro<void> {
    yield* sleep(Infinity);
  }
});

describe('all', () => {
  test('gives all values, of operations, promises, micro-threads and generators', async () => {
    const port = newPort();
    const { client, server } = await connectedPair(port);
    const thread = spawn(careful([], 'thread', 1));
    const values = await spawn(function* () {
      const [bytes, count, text, name, other] = yield* all([
        client.receive(),
        server.send('hello'),
        wait(Promise.resolve('text')),
        thread,
        careful([], 'generator', 2),
      ]);
      return [bytes.toString(), count, text, name, other, yield* all([])];
    });
    expect(values).toEqual(['hello', 5, 'text', 'thread', 'generator', []]);
  });

  test('the first failure cancels the others, and is thrown when they have ended', async () => {
    const port = newPort();
    const { client } = await connectedPair(port);
    const seen: string[] = [];
    const thread = spawn(function* () {
      const receiving = client.receive();
      try {
        yield* all([receiving, careful(seen, 'a'), careful(seen, 'b'), throws('all', 2)]);
      } finally {
        expect(receiving.pending).toBe(false);
        seen.push('after');
      }
    });
    await expect(thread).rejects.toThrow('all');
    expect(seen).toEqual(['a', 'b', 'after']);
  });

  test('a failure before the first wait cancels what is under way', async () => {
    const port = newPort();
    const { client } = await connectedPair(port);
    const seen: string[] = [];
    const receiving: { pending: boolean }[] = [];
    for (const together of groups) {
      const thread = spawn(function* (): Micro<void> {
        const operation = client.receive();
        receiving.push(operation);
        yield* together([throwsNow('first'), careful(seen, together.name), operation]);
      });
      await expect(thread).rejects.toThrow('first');
    }
    expect(seen).toEqual(['all', 'race']);
    expect(receiving.map(({ pending }) => pending)).toEqual([false, false]);
    expect(MicroThread.list()).toEqual([]);
  });

  test('those that failed together are joined: what is thrown for all is caught once', async () => {
    const port = newPort();
    await port.close();
    function* opens(): Micro<void> {
      yield* port.open('/nowhere');
    }
    const several = {
      generators: (): Waitable<unknown>[] => [opens(), opens(), opens()],
      operations: (): Waitable<unknown>[] => [port.open('/nowhere'), port.open('/nowhere')],
      threads: (): Waitable<unknown>[] => [spawn(throwsNow('a')), spawn(throwsNow('b'))],
    };
    const seen = await unhandledIn(async () => {
      for (const make of Object.values(several)) {
        for (const together of groups) {
          const thread = spawn(function* (): Micro<string> {
            try {
              yield* together(make());
              return 'succeeded';
            } catch {
              return 'caught';
            }
          });
          expect(await thread).toBe('caught');
        }
      }
    });
    expect(seen).toEqual([]);
  });

  test('a failure in the clean-up of one that it cancels is reported, once', async () => {
    function* cleansBadly(): Micro<void> {
      try {
        yield* sleep(Infinity);
      } finally {
        yield* throws('clean-up');
      }
    }
    const seen = await unhandledIn(async () => {
      const joined = spawn(cleansBadly());
      const failure = failureOf(() => Promise.resolve(joined));
      const thread = spawn(all([throws('first', 1), cleansBadly(), joined]));
      await expect(thread).rejects.toThrow('first');
      expect((await failure).message).toBe('clean-up');
    });
    expect(seen.map((error) => (error as Error).message)).toEqual(['clean-up']);
  });

  test('a part that fails when the one it is a part of has run out of time is reported', async () => {
    let cleaned = false;
    function* cleansLong(): Micro<void> {
      try {
        yield* sleep(Infinity);
      } finally {
        yield* sleep(100);
        cleaned = true;
        yield* throwsNow('late');
      }
    }
    const seen = await unhandledIn(async () => {
      const thread = spawn(within(60_000, cleansLong()), { grace: 1 });
      thread.cancel();
      await failureOf(() => Promise.resolve(thread));
      await until(() => cleaned);
    });
    expect(seen.map((error) => (error as Error).message)).toEqual(['late']);
  });
});

describe('race', () => {
  test('the first wins; losers are cancelled, and have ended', async () => {
    const port = newPort();
    const { client, server } = await connectedPair(port);
    const seen: string[] = [];
    const winner = await spawn(function* () {
      const receiving = client.receive();
      const winner = yield* race<unknown>([receiving, careful(seen, 'slow'), wait(turns(2))]);
      expect(receiving.pending).toBe(false);
      yield* server.send('x');
      expect((yield* client.receive()).toString()).toBe('x');
      return winner;
    });
    expect(winner).toBeUndefined();
    expect(seen).toEqual(['slow']);
    expect(MicroThread.list()).toEqual([]);
  });

  test('a failure wins as well; of none there is no winner', async () => {
    await expect(spawn(race([throws('race', 1), sleep(Infinity)]))).rejects.toThrow('race');
    await expect(spawn(race([]))).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_VALUE' });
    await expect(spawn(race([5 as never]))).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
  });

  test('a cancel ends all of them', async () => {
    const seen: string[] = [];
    const thread = spawn(race([careful(seen, 'a'), careful(seen, 'b')]));
    thread.cancel();
    await expect(thread).rejects.toMatchObject({ code: 'ECANCELED' });
    expect(seen).toEqual(['a', 'b']);
  });
});

describe('select', () => {
  test('the first case that is there, and nothing of the others is lost', async () => {
    const port = newPort();
    const { client, server } = await connectedPair(port);
    const [first, second] = [new Channel<number>(5), new Channel<string>(5)];
    const log: string[] = [];
    await spawn(function* () {
      const receiving = client.receive();
      const thread = spawn(careful([], 'thread', 2));
      first.tryPut(1);
      second.tryPut('a');
      spawn(function* () {
        while (!log.includes('thread:thread')) yield* sleep(1);
        yield* second.put('b');
        while (!log.includes('second:b')) yield* sleep(1);
        yield* server.send('bytes');
      });
      while (log.length < 5) {
        const chosen = yield* select({
          first,
          second,
          ...(log.includes('thread:thread') ? {} : { thread }),
          receiving,
          time: sleep(10_000),
        });
        const { which, value } = chosen;
        log.push(`${which}:${Buffer.isBuffer(value) ? value.toString() : String(value)}`);
      }
    });
    expect(log).toEqual(['first:1', 'second:a', 'thread:thread', 'second:b', 'receiving:bytes']);
    expect([first.size, second.size]).toEqual([0, 0]);
  });

  test('of two channels that are given something, one is taken from', async () => {
    const channels = { a: new Channel<number>(1), b: new Channel<number>(1) };
    const thread = spawn(function* () {
      return yield* select(channels);
    });
    channels.b.tryPut(2);
    channels.a.tryPut(1);
    expect(await thread).toEqual({ which: 'b', value: 2 });
    expect([channels.a.size, channels.b.size]).toEqual([1, 0]);
    // The same where it has not run between the two.
    const again = spawn(function* () {
      channels.a.tryTake();
      return yield* select(channels);
    });
    await spawn(function* () {
      yield* channels.a.put(3);
      yield* channels.b.put(4);
    });
    expect(await again).toEqual({ which: 'a', value: 3 });
    expect([channels.a.size, channels.b.size]).toEqual([0, 1]);
  });

  test('a case that is not chosen leaves the others that wait at its channel', async () => {
    const channel = new Channel<number>(1);
    const taker = spawn(function* () {
      return yield* channel.take();
    });
    await spawn(select({ channel, time: sleep(0) }));
    channel.tryPut(1);
    expect(channel.size).toBe(0);
    expect(await taker).toBe(1);
  });

  test('a channel that is closed throws, wrong cases do', async () => {
    const channel = new Channel<number>(1);
    channel.close();
    const codes = await Promise.all(
      [{ channel }, {}, { x: 5 } as never].map((cases) =>
        failureOf(() => Promise.resolve(spawn(select(cases)))).then(codeOf),
      ),
    );
    expect(codes).toEqual(['ERR_CHANNEL_CLOSED', 'ERR_INVALID_ARG_VALUE', 'ERR_INVALID_ARG_TYPE']);
  });
});

describe('parallelMap', () => {
  test.each([1, 3, 100])('results in order, %i at one time', async (concurrency) => {
    let running = 0;
    let most = 0;
    function* square(n: number, index: number): Micro<number> {
      most = Math.max(most, ++running);
      yield* sleep((7 * n) % 5);
      running--;
      expect(index).toBe(n);
      return n * n;
    }
    const items = Array.from({ length: 30 }, (_, i) => i);
    const squares = await spawn(parallelMap(items, square, { concurrency }));
    expect(squares).toEqual(items.map((n) => n * n));
    expect(most).toBe(Math.min(concurrency, 30));
  });

  test('asks an async iterable, or a channel, for no more than it works on', async () => {
    let asked = 0;
    let done = 0;
    async function* numbers(): AsyncGenerator<number> {
      for (let i = 0; i < 20; i++) {
        await Promise.resolve();
        asked++;
        expect(asked - done).toBeLessThanOrEqual(4);
        yield i;
      }
    }
    function* work(n: number): Micro<number> {
      yield* sleep(n % 3);
      done++;
      return n;
    }
    const results = await spawn(parallelMap(numbers(), work, { concurrency: 4 }));
    expect(results).toEqual(Array.from({ length: 20 }, (_, i) => i));
    const channel = new Channel<number>(3);
    for (const n of [1, 2, 3]) channel.tryPut(n);
    channel.close();
    expect(await spawn(parallelMap(channel, work, { concurrency: 2 }))).toEqual([1, 2, 3]);
  });

  test('the first failure cancels the others, and leaves the items', async () => {
    const seen: string[] = [];
    let left = false;
    async function* names(): AsyncGenerator<string> {
      try {
        for (let i = 0; ; i++) yield await Promise.resolve(String(i));
      } finally {
        left = true;
      }
    }
    const work = (name: string): Micro<string> =>
      name === '2' ? throws('map') : careful(seen, name);
    await expect(spawn(parallelMap(names(), work, { concurrency: 3 }))).rejects.toThrow('map');
    expect(seen).toEqual(['0', '1']);
    await turns(2);
    expect(left).toBe(true);
    expect(MicroThread.list()).toEqual([]);
  });

  test('wrong options throw', async () => {
    const codes = await Promise.all(
      [undefined, { concurrency: 0 }, { concurrency: 1, x: 1 }].map((options) =>
        failureOf(() =>
          Promise.resolve(spawn(parallelMap([1], () => sleep(0), options as never))),
        ).then(codeOf),
      ),
    );
    expect(codes).toEqual(['ERR_INVALID_ARG_TYPE', 'ERR_OUT_OF_RANGE', 'ERR_INVALID_ARG_VALUE']);
  });
});

describe('a cancel of who waits for several', () => {
  const bodies: Record<string, (seen: string[]) => Micro<unknown>> = {
    within: (seen) => within(60_000, careful(seen, 'part')),
    all: (seen) => all([sleep(0), careful(seen, 'part')]),
    race: (seen) => race<unknown>([sleep(Infinity), careful(seen, 'part')]),
    scope: (seen) => scope(() => careful(seen, 'part')),
    parallelMap: (seen) => parallelMap([1], () => careful(seen, 'part'), { concurrency: 1 }),
    'one in another': (seen) => within(60_000, all([race([careful(seen, 'part')])])),
  };

  test.each(Object.entries(bodies))('%s: nothing behind it runs', async (_name, body) => {
    const seen: string[] = [];
    function* delegates(): Micro<void> {
      yield* body(seen);
      seen.push('went on');
    }
    const thread = spawn(function* () {
      try {
        yield* delegates();
        seen.push('went on, too');
      } catch {
        seen.push('caught');
      } finally {
        yield* sleep(0);
        seen.push('finally');
      }
    });
    thread.cancel();
    await expect(thread).rejects.toMatchObject({ code: 'ECANCELED' });
    expect(seen).toEqual(['part', 'finally']);
    expect(MicroThread.list()).toEqual([]);
  });

  test('clean-up waits for several as well, and goes on behind them', async () => {
    const seen: string[] = [];
    const thread = spawn(function* () {
      try {
        yield* within(60_000, careful(seen, 'part'));
      } finally {
        yield* within(60_000, careful(seen, 'first', 0));
        yield* race<unknown>([careful(seen, 'second', 0), sleep(Infinity)]);
        yield* scope(() => all([careful(seen, 'third', 0)]));
        seen.push('end');
      }
    });
    thread.cancel();
    await expect(thread).rejects.toMatchObject({ code: 'ECANCELED' });
    expect(seen).toEqual(['part', 'first', 'second', 'third', 'end']);
  });
});

test.each(groups.map((group) => [group.name, group] as const))(
  '%s starts nothing where one argument is wrong',
  async (_name, together) => {
    let started = false;
    // eslint-disable-next-line require-yield -- it is not to run at all
    function* begins(): Micro<void> {
      started = true;
    }
    const thread = spawn(together([begins(), 5 as never]));
    await expect(thread).rejects.toMatchObject({ code: 'ERR_INVALID_ARG_TYPE' });
    expect(started).toBe(false);
  },
);

test('what yield* does not wait for is refused with a code, and what was meant', async () => {
  const short = function* (): Micro<void> {
    yield* sleep(1);
  };
  const wrong: [body: () => Micro<unknown>, code: string, text: RegExp][] = [
    [() => within(5, Promise.resolve(1) as never), 'ERR_INVALID_ARG_TYPE', /as wait\(promise\) is/],
    [() => within(5, short as never), 'ERR_INVALID_ARG_TYPE', /a generator function returns: call/],
    [() => all([Promise.resolve(1) as never]), 'ERR_INVALID_ARG_TYPE', /as wait\(promise\) is/],
    [() => race([short as never]), 'ERR_INVALID_ARG_TYPE', /a generator function returns: call/],
    [() => select(undefined as never), 'ERR_INVALID_ARG_TYPE', /"cases" argument/],
    [() => select(5 as never), 'ERR_INVALID_ARG_TYPE', /"cases" argument/],
    [
      () => parallelMap(5 as never, short, { concurrency: 1 }),
      'ERR_INVALID_ARG_TYPE',
      /"items" argument must be a channel or an iterable/,
    ],
    [
      () => parallelMap([1], (() => Promise.resolve()) as never, { concurrency: 1 }),
      'ERR_INVALID_RETURN_VALUE',
      /returned no generator: write it as function\*/,
    ],
  ];
  for (const [body, code, text] of wrong) {
    const error = await failureOf(() => spawn(body()));
    expect({ code: codeOf(error), text: error.message }).toEqual({
      code,
      text: expect.stringMatching(text) as string,
    });
  }
  const results = await spawn(
    parallelMap('ab', () => all([short(), sleep(1)]), { concurrency: 2 }),
  );
  expect(results).toHaveLength(2);
});
