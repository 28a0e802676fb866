/** What a program, a debugger and a profiler see of micro-threads. */
import { AsyncLocalStorage } from 'node:async_hooks';
import { readdirSync, readFileSync } from 'node:fs';
import inspector from 'node:inspector/promises';
import path from 'node:path';
import { inspect } from 'node:util';
import { describe, expect, test } from 'vitest';
import {
  all,
  Channel,
  each,
  MicroThread,
  race,
  scope,
  sleep,
  spawn,
  wait,
  type Micro,
} from '../../dist/micro.js';
import {
  connectedPair,
  newPort,
  outputOf,
  temporaryDirectory,
  turns,
  until,
} from '../support/harness';

describe('MicroThread.list()', () => {
  test('name, state, what it waits for and since when, parent, place of the spawn', async () => {
    const port = newPort();
    const { client } = await connectedPair(port);
    const channel = new Channel<number>(1);
    const before = performance.now();
    const children: MicroThread<unknown>[] = [];
    const parent = spawn(function* parent() {
      children.push(
        spawn(function* receives() {
          yield* client.receive();
        }),
        spawn(function* takes() {
          yield* channel.take();
        }),
        spawn(function* goesOver() {
          yield* each(client);
        }),
        spawn(function* waits() {
          yield* wait(new Promise(() => undefined));
        }),
        spawn(function* sleeps() {
          yield* sleep(1_000_000);
        }),
      );
      children.push(
        spawn(function* joins() {
          yield* children[0]!;
        }),
      );
      yield* sleep(Infinity);
    });
    const infos = MicroThread.list();
    expect(infos.map(({ name, state, operation }) => [name, state, operation])).toEqual([
      ['parent', 'waiting', 'sleep of Infinity ms'],
      ['receives', 'waiting', 'read'],
      ['takes', 'waiting', 'take'],
      ['goesOver', 'waiting', 'each'],
      ['waits', 'waiting', 'promise'],
      ['sleeps', 'waiting', 'sleep of 1000000 ms'],
      ['joins', 'waiting', 'join of receives'],
    ]);
    const about = [undefined, client, channel, client, undefined, undefined, children[0]];
    infos.forEach(({ of }, i) => expect(of === about[i]).toBe(true));
    for (const { since, spawnedAt, parent: above, name } of infos) {
      expect(since).toBeLessThanOrEqual(performance.now());
      expect(since).toBeGreaterThanOrEqual(Math.trunc(before) - 1000);
      expect(spawnedAt).toMatch(/seen\.test\.ts/);
      expect(above).toBe(name === 'parent' ? undefined : parent);
      if (above !== undefined) expect(spawnedAt).toMatch(/^parent \(/);
    }
    for (const thread of [...children, parent]) thread.cancel();
    await Promise.allSettled([...children, parent]);
    expect(MicroThread.list()).toEqual([]);
    expect(parent.parent).toBeUndefined();
    expect(children.map((child) => child.parent)).toEqual(children.map(() => undefined));
  });

  test('what is in a scope is a child of whoever waits for the scope', async () => {
    const waiting = spawn(function* waiting() {
      yield* scope(function* (s) {
        s.spawn(function* () {
          s.spawn(longSleep());
          yield* sleep(0);
        });
        yield* sleep(0);
      });
    });
    await until(() => MicroThread.list().length === 2);
    const [, child] = MicroThread.list();
    expect([child!.name, child!.parent === waiting]).toEqual(['', true]);
    waiting.cancel();
    await Promise.allSettled([waiting]);
  });

  function* longSleep(): Micro<void> {
    yield* sleep(1_000_000);
  }

  test('one that cleans up is ending, one that runs is running', async () => {
    const thread = spawn(function* () {
      try {
        yield* sleep(Infinity);
      } finally {
        yield* sleep(1);
      }
    });
    thread.cancel();
    expect(thread.state).toBe('ending');
    const states = await spawn(function* itself() {
      yield* sleep(0);
      return [MicroThread.current?.name, MicroThread.current?.state];
    });
    expect(states).toEqual(['itself', 'running']);
    expect(MicroThread.current).toBeUndefined();
    await Promise.allSettled([thread]);
  });

  test('inspect shows what matters', async () => {
    const thread = spawn(function* watched() {
      yield* sleep(1_000_000);
    });
    expect(inspect(thread)).toMatch(
      /^MicroThread \d+ \{\s+name: 'watched',\s+state: 'waiting',\s+waitsFor: 'sleep of 1000000 ms',\s+spawnedAt: '.*seen\.test\.ts:\d+:\d+/,
    );
    expect(inspect([[[thread]]])).toMatch(/MicroThread/);
    thread.cancel();
    await Promise.allSettled([thread]);
    expect(inspect(thread)).toMatch(/^MicroThread \d+ \{ name: 'watched', state: 'cancelled' \}$/);
  });
});

describe('stacks', () => {
  async function stackOf(body: () => Micro<unknown>): Promise<string> {
    function* inner(): Micro<void> {
      yield* body();
    }
    function* outer(): Micro<void> {
      yield* sleep(0);
      yield* inner();
    }
    const error = await spawn(outer()).then(
      () => new Error('it succeeded'),
      (reason: unknown) => reason as Error,
    );
    return error.stack!;
  }

  test('errors of operations have the generators that wait', async () => {
    const port = newPort();
    const { client } = await connectedPair(port);
    const bodies: Record<string, () => Micro<unknown>> = {
      *opens() {
        return yield* port.open('/nowhere/at/all');
      },
      *connects() {
        return yield* port.connect({ host: '127.0.0.1', port: 1 });
      },
      *timesOut() {
        return yield* client.receive({ timeout: 1 });
      },
      *loops() {
        for (const bytes of yield* each(client.chunks({ timeout: 1 }))) {
          void bytes;
          yield* each.next();
        }
      },
      *joins() {
        const thread = spawn(function* () {
          yield* sleep(0);
          throw new Error('joined');
        });
        return yield* thread;
      },
      *promises() {
        return yield* wait(turns(1).then(() => Promise.reject(new Error('promise'))));
      },
      *together() {
        return yield* all([sleep(1), port.open('/nowhere/at/all')]);
      },
      *first() {
        return yield* race([wait(turns(1).then(() => Promise.reject(new Error('promise'))))]);
      },
    };
    for (const [name, body] of Object.entries(bodies)) {
      const stack = await stackOf(body);
      expect(stack).toMatch(new RegExp(`at .*\\b${name}\\b[^]*at .*inner[^]*at .*outer`));
      expect(stack.match(/\bat (?:async )?outer \(/g)).toHaveLength(1);
    }
  });

  test('a debugger that pauses in a generator sees those that wait for it', async () => {
    const session = new inspector.Session();
    session.connect();
    await session.post('Debugger.enable');
    const names: string[] = [];
    session.on('Debugger.paused', ({ params }) => {
      names.push(...params.callFrames.map(({ functionName }) => functionName));
    });
    function* innermost(): Micro<void> {
      yield* sleep(0);
      // eslint-disable-next-line no-debugger -- that is what this is about
      debugger;
    }
    function* middle(): Micro<void> {
      yield* innermost();
    }
    await spawn(function* outermost() {
      yield* middle();
    });
    await session.post('Debugger.disable');
    session.disconnect();
    const mine = names.filter((name) => /^(innermost|middle|outermost)$/.test(name));
    expect(mine).toEqual(['innermost', 'middle', 'outermost']);
  });

  test('--cpu-prof shows the names of the functions', async () => {
    const directory = temporaryDirectory();
    await outputOf(
      `
      import { sleep, spawn } from 'completion-port/micro';
      function* burnsTheCpu() {
        yield* sleep(1);
        const end = performance.now() + 200;
        while (performance.now() < end);
      }
      await spawn(function* delegatesToIt() {
        yield* burnsTheCpu();
      });`,
      { nodeArguments: ['--cpu-prof', `--cpu-prof-dir=${directory}`] },
    );
    const [file] = readdirSync(directory);
    const profile = JSON.parse(readFileSync(path.join(directory, file!), 'utf8')) as {
      nodes: { callFrame: { functionName: string } }[];
    };
    const names = profile.nodes.map(({ callFrame }) => callFrame.functionName);
    expect(names).toEqual(expect.arrayContaining(['burnsTheCpu', 'delegatesToIt']));
  });
});

describe('AsyncLocalStorage', () => {
  test('each has the context of its spawn, wherever it is resumed from', async () => {
    const port = newPort();
    const { client, server } = await connectedPair(port);
    const storage = new AsyncLocalStorage<string>();
    const channel = new Channel<number>(0);
    const seen: (string | undefined)[][] = [];
    const look = (context: string): MicroThread<void> =>
      storage.run(context, () =>
        spawn(function* () {
          const mine: (string | undefined)[] = [storage.getStore()];
          yield* sleep(1);
          mine.push(storage.getStore());
          yield* channel.take();
          mine.push(storage.getStore());
          yield* client.receive();
          mine.push(storage.getStore());
          yield* spawn(function* () {
            yield* wait(Promise.resolve());
            mine.push(storage.getStore());
          });
          mine.push(storage.getStore());
          seen.push(mine);
        }),
      );
    const threads = [look('a'), look('b')];
    await storage.run('outside', async () => {
      const sender = spawn(function* () {
        for (let i = 0; i < 2; i++) {
          yield* channel.put(i);
          expect(storage.getStore()).toBe('outside');
        }
      });
      await sender;
      await server.send('1');
      await until(() => seen.length === 1); // or one of them would receive both
      await server.send('2');
      await Promise.all(threads);
    });
    expect(seen.map((mine) => new Set(mine).size)).toEqual([1, 1]);
    expect(seen.map(([first]) => first).sort()).toEqual(['a', 'b']);
    expect(seen[0]).toHaveLength(6);
    expect(storage.getStore()).toBeUndefined();
  });

  test('enterWith stays in the micro-thread', async () => {
    const storage = new AsyncLocalStorage<string>();
    const thread = spawn(function* () {
      storage.enterWith('inside');
      yield* sleep(1);
      return storage.getStore();
    });
    expect(storage.getStore()).toBeUndefined();
    expect(await thread).toBe('inside');
  });
});
