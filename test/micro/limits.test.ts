/** `signal` and `timeout` of puts and takes, and of what else waits for a turn. */
import { getEventListeners } from 'node:events';
import { describe, expect, onTestFinished, test } from 'vitest';
import {
  Channel,
  exclusive,
  race,
  select,
  SharedChannel,
  sleep,
  spawn,
  within,
  type Micro,
} from '../../dist/micro.js';
import { codeOf, failureNow, newPort, turns, until } from '../support/harness';
import { Sharer } from './shared';

type Either = Channel<number> | SharedChannel<number>;

const kinds: [string, (capacity: number) => Either][] = [
  ['Channel', (capacity) => new Channel<number>(capacity)],
  ['SharedChannel', (capacity) => new SharedChannel<number>(newPort(), capacity)],
];

const why = new Error('no longer wanted');

function* put(channel: Either, item: number, options: object): Micro<void> {
  yield* channel.put(item, options);
}

function* take(channel: Either, options?: object): Micro<number> {
  return yield* channel.take(options);
}

const listeners = (signal: AbortSignal): number => getEventListeners(signal, 'abort').length;

describe.each(kinds)('%s', (_name, newChannel) => {
  test('a take whose signal is aborted throws an AbortError, and has taken nothing', async () => {
    const channel = newChannel(2);
    const { signal, abort } = controller();
    const [first, second] = [spawn(take(channel, { signal })), spawn(take(channel))];
    await turns(3);
    const failure = failed(first);
    abort(why);
    expect(await failure).toMatchObject({ name: 'AbortError', code: 'ABORT_ERR', cause: why });
    expect(first.state).toBe('failed');
    expect(channel.tryPut(1)).toBe(true);
    expect(await second).toBe(1);
    expect(listeners(signal)).toBe(0);
  });

  test('a put whose signal is aborted throws an AbortError, and has put nothing', async () => {
    const channel = newChannel(1);
    channel.tryPut(0);
    const { signal, abort } = controller();
    const first = spawn(put(channel, 1, { signal }));
    const second = spawn(put(channel, 2, {}));
    await turns(3);
    abort(why);
    expect(await failed(first)).toMatchObject({ code: 'ABORT_ERR', cause: why });
    expect([channel.tryTake(), channel.tryTake()]).toEqual([0, 2]);
    await second;
    expect([channel.tryTake(), listeners(signal)]).toEqual([undefined, 0]);
  });

  test('a signal that is aborted already lets nothing begin', async () => {
    const channel = newChannel(2);
    channel.tryPut(0);
    const signal = AbortSignal.abort(why);
    for (const one of [take(channel, { signal }), put(channel, 1, { signal })]) {
      expect(await failed(spawn<unknown>(one))).toMatchObject({ code: 'ABORT_ERR', cause: why });
    }
    const chosen = spawn(function* () {
      return yield* race<unknown>([channel.take({ signal }), sleep(60_000)]);
    });
    expect(await failed(chosen)).toMatchObject({ code: 'ABORT_ERR' });
    expect([channel.size, channel.tryTake(), channel.size]).toEqual([1, 0, 0]);
  });

  test('an abort after the value is there drops nothing', async () => {
    const channel = newChannel(1);
    const { signal, abort } = controller();
    let handed: number | undefined;
    // The value is given while another micro-thread runs: the taker has it, and runs later.
    const taker = spawn(function* () {
      handed = yield* channel.take({ signal });
    });
    spawn(function* () {
      yield* channel.put(7);
      abort();
    });
    const end = await Promise.allSettled([taker]);
    // Either it has the value, or the value is in the channel: never neither.
    const left = channel.tryTake();
    expect([handed, left].filter((one) => one !== undefined)).toEqual([7]);
    expect(end[0].status).toBe(handed === undefined ? 'rejected' : 'fulfilled');
    expect(await spawn(put(channel, 8, { signal: controller().signal }))).toBe(undefined);
    expect(channel.tryTake()).toBe(8);
    expect(listeners(signal)).toBe(0);
  });

  test('a time limit throws ETIMEDOUT, and the waiter leaves the queue', async () => {
    const channel = newChannel(1);
    const taker = spawn(take(channel, { timeout: 5 }));
    expect(await failed(taker)).toMatchObject({ code: 'ETIMEDOUT', timeout: true });
    channel.tryPut(0);
    const putter = spawn(put(channel, 1, { timeout: 5 }));
    expect(await failed(putter)).toMatchObject({ code: 'ETIMEDOUT', timeout: true });
    expect([channel.tryTake(), channel.tryTake()]).toEqual([0, undefined]);
    // 0 and Infinity: none.
    const patient = [0, Infinity].map((timeout) => spawn(take(channel, { timeout })));
    await turns(20);
    expect(patient.map(({ state }) => state)).toEqual(['waiting', 'waiting']);
    channel.close();
    for (const one of patient.map(failed)) expect(codeOf(await one)).toBe('ERR_CHANNEL_CLOSED');
  });

  test('the limits of a take are over when select goes on without it, and begin anew', async () => {
    const channel = newChannel(1);
    const { signal, abort } = controller();
    await spawn(function* () {
      const limited = channel.take({ signal, timeout: 60_000 });
      const first = yield* select({ limited, time: sleep(1) });
      expect([first.which, listeners(signal)]).toEqual(['time', 0]);
      const second = spawn(function* () {
        return yield* select({ limited, time: sleep(60_000) });
      });
      expect(listeners(signal)).toBe(1);
      abort(why);
      try {
        yield* second;
        expect.unreachable();
      } catch (error) {
        expect(error).toMatchObject({ code: 'ABORT_ERR' });
      }
    });
  });

  test('a failed one is caught as any error is: the micro-thread is not cancelled', async () => {
    const channel = newChannel(1);
    const { signal, abort } = controller();
    const one = spawn(function* () {
      try {
        return yield* channel.take({ signal });
      } catch {
        yield* sleep(1);
        return -1;
      }
    });
    abort();
    expect(await one).toBe(-1);
  });

  test('wrong options are refused at once', () => {
    const channel = newChannel(1);
    const wrong: [object, string][] = [
      [{ signal: 5 }, 'ERR_INVALID_ARG_TYPE'],
      [{ timeout: -1 }, 'ERR_OUT_OF_RANGE'],
      [{ timeout: '5' }, 'ERR_INVALID_ARG_TYPE'],
      [{ timeuot: 5 }, 'ERR_INVALID_ARG_VALUE'],
      [new AbortController().signal, 'ERR_INVALID_ARG_TYPE'],
    ];
    for (const [options, code] of wrong) {
      expect(codeOf(failureNow(() => channel.take(options)))).toBe(code);
      expect(codeOf(failureNow(() => channel.put(1, options)))).toBe(code);
    }
    expect(channel.size).toBe(0);
  });

  test('pipe: a signal ends the stage, and its output fails', async () => {
    const channel = newChannel(1);
    const { signal, abort } = controller();
    const output = channel.pipe<number>(
      function* stage(input, out) {
        for (;;) yield* out.put(yield* input.take());
      },
      { signal },
    );
    const taker = spawn(function* () {
      return yield* output.take();
    });
    taker.then(undefined, () => undefined);
    await turns(3);
    abort(why);
    expect(codeOf(await failed(taker))).toBe('ECANCELED');
  });
});

describe('SharedChannel, awaited', () => {
  test('a take that is given up by its signal or its time has taken nothing', async () => {
    const channel = new SharedChannel<number>(newPort(), 1);
    const { signal, abort } = controller();
    const [aborted, timed] = [channel.take({ signal }), channel.take({ timeout: 5 })];
    const failures = [failed(aborted), failed(timed)];
    expect(listeners(signal)).toBe(1);
    abort(why);
    expect(await failures[0]).toMatchObject({ name: 'AbortError', cause: why });
    expect(await failures[1]).toMatchObject({ code: 'ETIMEDOUT', timeout: true });
    await channel.put(1);
    expect([await channel.take({ signal: controller().signal }), listeners(signal)]).toEqual([
      1, 0,
    ]);
  });

  test('a put that is given up is not in the channel, and its memory goes back', async () => {
    const port = newPort();
    const channel = new SharedChannel<Buffer>(port, 1);
    await channel.put(Buffer.alloc(1));
    channel.tryTake();
    channel.tryPut(Buffer.from('first'));
    const before = port.stats().allocatedBytes;
    const { signal, abort } = controller();
    const puts = [
      channel.put(Buffer.alloc(1 << 20), { signal }),
      channel.put(Buffer.alloc(1 << 20), { timeout: 5 }),
    ].map((one) => failed(one));
    expect(port.stats().allocatedBytes).toBeGreaterThanOrEqual(before + 2 * (1 << 20));
    abort();
    expect(codeOf(await puts[0])).toBe('ABORT_ERR');
    expect(codeOf(await puts[1])).toBe('ETIMEDOUT');
    expect(String(channel.tryTake())).toBe('first');
    expect([channel.size, port.stats().allocatedBytes]).toEqual([0, before]);
  });

  test('one whose signal is aborted already is a rejection, and begins nothing', async () => {
    const channel = new SharedChannel<number>(newPort(), 1);
    const signal = AbortSignal.abort(why);
    expect(await failed(channel.put(1, { signal }))).toMatchObject({ cause: why });
    expect(await failed(channel.take({ signal }))).toMatchObject({ cause: why });
    expect(channel.size).toBe(0);
    const unhandled = new Promise((resolve) => process.once('unhandledRejection', resolve));
    void channel.take({ signal });
    expect(await unhandled).toMatchObject({ code: 'ABORT_ERR' });
  });

  test('values that other threads put while takes are aborted are taken once, none is lost', async () => {
    const channel = new SharedChannel<number>(newPort(), 4);
    const sharer = await Sharer.start([channel] as never[]);
    const count = 3000;
    const produced = sharer.begin('produce', 0, 0, count, 0);
    const got: number[] = [];
    let aborted = 0;
    // Aborts meet a value that is on its way, one that is there, and none.
    while (got.length < count) {
      const { signal, abort } = controller();
      const taking = channel.take({ signal });
      if (aborted % 3 === 0) await turns(1);
      abort();
      try {
        got.push(await taking);
      } catch (error) {
        expect(codeOf(error)).toBe('ABORT_ERR');
        aborted++;
        got.push(await channel.take());
      }
    }
    await produced.end;
    expect([...got].sort((a, b) => a - b)).toEqual(Array.from({ length: count }, (_, i) => i));
    expect([channel.size, aborted > 0]).toEqual([0, true]);
  });

  test('puts that are aborted are in the channel, or have failed: never both, never neither', async () => {
    const channel = new SharedChannel<number>(newPort(), 1);
    const sharer = await Sharer.start([channel] as never[]);
    const all = sharer.begin('all', 0);
    const put: number[] = [];
    for (let i = 0; i < 2000; i++) {
      const { signal, abort } = controller();
      const putting = channel.put(i, { signal });
      if (i % 3 === 0) await turns(1);
      abort();
      try {
        await putting;
        put.push(i);
      } catch (error) {
        expect(codeOf(error)).toBe('ABORT_ERR');
      }
    }
    channel.close();
    expect(await all.end).toEqual(put);
    expect(put.length).toBeGreaterThan(0);
  });
});

describe('exclusive', () => {
  test('a signal and a timeout end the wait for the turn, not what runs in it', async () => {
    const port = newPort();
    const timer = port.timer();
    onTestFinished(() => timer.close());
    const { signal, abort } = controller();
    const freed = new AbortController();
    const first = spawn(function* () {
      return yield* exclusive(
        timer,
        function* () {
          yield* within(60_000, new Channel<void>(0).take(), { signal: freed.signal });
        },
        { timeout: 5, signal },
      );
    });
    const late = spawn(function* () {
      yield* exclusive(timer, () => sleep(0), { timeout: 5 });
    });
    const gone = spawn(function* () {
      yield* exclusive(timer, () => sleep(0), { signal });
    });
    const next = spawn(function* () {
      return yield* exclusive(timer, function* () {
        yield* sleep(0);
        return 'mine';
      });
    });
    expect(codeOf(await failed(late))).toBe('ETIMEDOUT');
    const given = failed(gone);
    abort();
    expect(codeOf(await given)).toBe('ABORT_ERR');
    expect([first.state, next.state]).toEqual(['waiting', 'waiting']);
    const released = failed(first);
    freed.abort();
    expect(codeOf(await released)).toBe('ABORT_ERR'); // of `within`, in its turn
    expect(await next).toBe('mine');
  });
});

describe('within with a signal', () => {
  test('gives up whatever it waits for: select, a join, a generator, a loop', async () => {
    const { signal, abort } = controller();
    const channel = new Channel<number>(1);
    const sleeper = spawn(function* () {
      yield* sleep(20);
      return 'slept';
    });
    let cleaned = false;
    const waits = [
      spawn(function* () {
        yield* within(0, select({ channel, other: new Channel(1) }), { signal });
      }),
      spawn(function* () {
        yield* within(Infinity, sleeper, { signal });
      }),
      spawn(function* () {
        const body = function* (): Micro<void> {
          try {
            yield* sleep(60_000);
          } finally {
            cleaned = true;
          }
        };
        yield* within(60_000, body(), { signal });
      }),
    ];
    const failures = waits.map(failed);
    await until(() => listeners(signal) === 1);
    abort(why);
    for (const one of failures) expect(await one).toMatchObject({ code: 'ABORT_ERR', cause: why });
    expect([cleaned, await sleeper, listeners(signal)]).toEqual([true, 'slept', 0]);
    channel.tryPut(1);
    expect(channel.tryTake()).toBe(1);
  });

  test('one that is aborted already lets nothing begin', async () => {
    let began = false;
    const one = spawn(function* () {
      const body = function* (): Micro<void> {
        began = true;
        yield* sleep(0);
      };
      yield* within(10, body(), { signal: AbortSignal.abort(why) });
    });
    expect(await failed(one)).toMatchObject({ code: 'ABORT_ERR', cause: why });
    expect(began).toBe(false);
  });
});

/** It fails, and is waited for from now on. */
async function failed(one: PromiseLike<unknown>): Promise<unknown> {
  try {
    await one;
  } catch (error) {
    return error;
  }
  throw new Error('It has not failed');
}

function controller(): { signal: AbortSignal; abort: (reason?: unknown) => void } {
  const made = new AbortController();
  return { signal: made.signal, abort: (reason) => made.abort(reason) };
}
