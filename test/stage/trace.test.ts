import diagnostics from 'node:diagnostics_channel';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { Worker } from 'node:worker_threads';
import { describe, expect, onTestFinished, test, vi } from 'vitest';
import { defineStage, frames, type StageFailure, type TraceEntry } from '../../dist/stages.js';
import { names } from '../../dist/stage/definition/events.js';
import { slotsOf, Trace } from '../../dist/stage/record/trace.js';
import { EPOCH } from '../../dist/support/clock.js';
import { codeOf, failureNow, root, until } from '../support/harness';
import { Client, empty, fixture, newPipeline, scripted, type Pipeline } from '../support/stages';

const told = (trace: readonly TraceEntry[] | undefined): string[] =>
  (trace ?? []).map(({ stage, state, event, bytes }) => {
    const what = `${stage}.${state} ${event}`;
    return bytes === 0 ? what : `${what} ${bytes}`;
  });

const story = (pipeline: Pipeline, key: number): string[] => told(pipeline.inspect(key)?.trace);

/** Threads measure by one clock, but for some microseconds in how they found its zero. */
function inOrder(trace: readonly TraceEntry[]): void {
  for (const who of new Set(trace.map(({ stage, thread }) => `${stage} ${thread}`))) {
    const own = trace.filter(({ stage, thread }) => `${stage} ${thread}` === who);
    const times = own.map(({ time }) => time);
    expect(times).toEqual([...times].sort((a, b) => a - b));
  }
}

/** Counts down by messages to itself, on the event loop of the test. */
const countdown = defineStage({
  states: {
    even: { posted: (c, value) => (value > 0 ? (c.post(value - 1), 'odd') : undefined) },
    odd: { posted: (c, value) => (value > 0 ? (c.post(value - 1), 'even') : undefined) },
    broken: {
      entered() {
        throw new Error('as told');
      },
    },
  },
});

describe('the trace of a connection', () => {
  test('has its events, the oldest first, each with stage, state, thread, time and bytes', async () => {
    const { pipeline, port } = await scripted({}, {}, { trace: 31 });
    const before = Date.now();
    const client = new Client(port);
    await client.ask('say 1', '1');
    await client.ask('say 2;go careful', '2');
    await client.ask('say 3', '3');
    const { key } = pipeline.connections()[0]!;
    await until(() => story(pipeline, key).length === 6);
    expect(story(pipeline, key)).toEqual([
      'first.obedient entered',
      'first.obedient received 5',
      'first.obedient received 16',
      'first.careful entered',
      'first.careful received 5',
      'first.careful sent 1',
    ]);
    const details = pipeline.inspect(key)!;
    expect(details).toMatchObject({ key, stage: 'first', state: 'careful', closed: false });
    expect(details).toMatchObject({ remote: expect.stringMatching(/^127/), closing: false });
    inOrder(details.trace);
    for (const { thread, time } of details.trace) {
      expect([0, 1]).toContain(thread);
      // Two clocks, which may differ by their resolution and by what the system's is put right.
      expect(Math.abs(time - before)).toBeLessThan(600_000);
    }
    expect(Object.getPrototypeOf(details.trace[0])).toBe(Object.prototype);
  });

  test('goes on where the connection goes to another stage and its threads, and back', async () => {
    const { pipeline, port } = await scripted({}, {}, { trace: 63 });
    const client = new Client(port);
    await client.ask('say 1;handoff second', '1');
    await client.ask('say 2;handoff first careful', '2');
    await client.ask('say 3', '3');
    const { key } = pipeline.connections()[0]!;
    // When a send is out is the system's to say.
    expect(story(pipeline, key).filter((line) => !line.includes('sent'))).toEqual([
      'first.obedient entered',
      'first.obedient received 20',
      'first.obedient handOff',
      'second.obedient entered',
      'second.obedient handedOff',
      'second.obedient received 27',
      'second.obedient handOff',
      'first.careful entered',
      'first.careful handedOff',
      'first.careful received 5',
    ]);
    inOrder(pipeline.inspect(key)!.trace);
  });

  test('has what native threads did with it, and the document and its answer', async () => {
    const work = { stage: fixture('digest.mjs'), threads: 1 };
    const spool = { native: frames({ length: 'u32be' }), next: 'work', threads: 2 } as const;
    const pipeline = newPipeline({ spool, work, other: work }, { trace: 63 });
    const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
    const client = new Client(port);
    const header = Buffer.from([0, 0, 0, 11]);
    client.write(Buffer.concat([header, Buffer.from('bytes ')]));
    await until(() => pipeline.stats().stages['spool']!.states['receiving'] === 1);
    client.write('hello');
    await until(() => client.text === 'hello');
    const { key } = pipeline.connections()[0]!;
    await until(() => story(pipeline, key).at(-1) === 'spool.idle entered');
    expect(story(pipeline, key)).toEqual([
      'spool.idle entered',
      'spool.receiving entered',
      'spool.waiting entered',
      'spool.waiting handOff 11',
      'work.work entered',
      'work.work handedOff 11',
      'work.work reply 5',
      'spool. handedOff',
      'spool.answering entered',
      'spool.answering sent 5',
      'spool.idle entered',
    ]);
    inOrder(pipeline.inspect(key)!.trace);
    client.socket.end();
    await empty(pipeline);
    expect(story(pipeline, key).slice(-3)).toEqual([
      'spool.idle ended',
      'spool.closing entered',
      'spool.closing closed',
    ]);
  });

  test('tells of a document that is too long, and of a client that is too late', async () => {
    const work = { stage: fixture('digest.mjs'), threads: 1 };
    const limits = { maxLength: 4, stallTimeout: 20 };
    const spool = { native: frames({ length: 'u32be', ...limits }), next: 'work' } as const;
    const pipeline = newPipeline({ spool, work, other: work }, { trace: 15 });
    const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
    const stories: string[][] = [];
    for (const bytes of [Buffer.from([0, 0, 0, 9, 1]), Buffer.from([0, 0, 0, 3, 1])]) {
      const client = new Client(port);
      await until(() => pipeline.connections().length === 1);
      const { key } = pipeline.connections()[0]!;
      client.write(bytes);
      await until(() => client.closed);
      await empty(pipeline);
      stories.push(story(pipeline, key));
    }
    expect(stories[0]).toContain('spool.idle failed');
    expect(stories[1]).toContain('spool.receiving timeout');
    for (const one of stories) expect(one.at(-1)).toBe('spool.closing closed');
  });

  test('is in `failed`, up to the failure, whichever thread had it', async () => {
    const { port, failures } = await scripted({}, {}, { trace: 7 });
    await new Client(port).ask('say 1;go careful', '1');
    const client = new Client(port);
    await client.ask('say 2;go careful', '2');
    await client.ask('throw OOPS', 'failed');
    await until(() => failures.length === 1);
    expect(told(failures[0]!.trace)).toEqual([
      'first.obedient entered',
      'first.obedient received 16',
      'first.careful entered',
      'first.careful received 10',
      'first.careful failed',
    ]);
    const reset = new Client(port);
    await reset.ask('say 3;go careful', '3');
    reset.socket.resetAndDestroy();
    await until(() => failures.length >= 2);
    expect(told(failures[1]!.trace).at(-1)).toBe('first.careful failed');
  });

  test('is read for a failure only where somebody is told of that', async () => {
    const stage = defineStage({
      states: {
        idle: {
          posted() {
            throw new Error('as told');
          },
        },
      },
    });
    const pipeline = newPipeline({ idle: { stage, threads: 0 } }, { trace: 7 });
    await pipeline.ready();
    const read = vi.spyOn(Trace.prototype, 'snapshot');
    onTestFinished(() => read.mockRestore());
    pipeline.start('idle', 1);
    await until(() => pipeline.stats().stages.idle!.failures === 1);
    expect(read).not.toHaveBeenCalled();
    const failures: StageFailure[] = [];
    pipeline.once('failed', (failure) => failures.push(failure));
    pipeline.start('idle', 2);
    await until(() => failures.length === 1);
    expect(read).toHaveBeenCalledOnce();
    const channel = diagnostics.channel('completion-port:stage:failed');
    const subscriber = (failure: unknown): void => void failures.push(failure as StageFailure);
    channel.subscribe(subscriber);
    onTestFinished(() => void channel.unsubscribe(subscriber));
    pipeline.start('idle', 3);
    await until(() => failures.length === 2);
    expect(failures.map(({ trace }) => told(trace).at(-1))).toEqual([
      'idle.idle failed',
      'idle.idle failed',
    ]);
  });

  test('is at hand in handlers, `failed` among them', async () => {
    const seen: TraceEntry[][] = [];
    const late: (() => unknown)[] = [];
    const stage = defineStage({
      states: {
        idle: {
          posted(c) {
            seen.push(c.trace);
            throw new Error('as told');
          },
          failed(c) {
            seen.push(c.trace);
            late.push(() => c.trace);
            return c.close();
          },
        },
      },
    });
    const pipeline = newPipeline({ idle: { stage, threads: 0 } }, { trace: 8 });
    pipeline.on('failed', ({ trace }) => seen.push([...trace!]));
    await pipeline.ready();
    const key = pipeline.start('idle');
    await empty(pipeline);
    const upTo = ['idle.idle entered', 'idle.idle posted', 'idle.idle failed'];
    expect(seen.map(told)).toEqual([upTo.slice(0, 2), upTo, upTo]);
    expect(story(pipeline, key)).toEqual([...upTo, 'idle.idle close', 'idle.idle closed']);
    expect(codeOf(failureNow(late[0]!))).toBe('ERR_CONNECTION_RELEASED');
  });

  test('tells of an async handler when it began, and of what followed when that did', async () => {
    let settle!: () => void;
    const gate = new Promise<void>((resolve) => (settle = resolve));
    const stage = defineStage({
      states: {
        idle: {
          async posted(c) {
            await gate;
            return c.enter('other');
          },
        },
        other: {},
      },
    });
    const pipeline = newPipeline({ idle: { stage, threads: 0 } }, { trace: 8 });
    await pipeline.ready();
    const key = pipeline.start('idle');
    await until(() => story(pipeline, key).length === 2);
    const until1 = Date.now() + 5;
    await until(() => Date.now() > until1);
    settle();
    await until(() => story(pipeline, key).length === 3);
    const { trace } = pipeline.inspect(key)!;
    expect(told(trace)).toEqual(['idle.idle entered', 'idle.idle posted', 'idle.other entered']);
    expect(trace[2]!.time - trace[1]!.time).toBeGreaterThan(4);
  });

  test('ends with transitions without end, which are found as without one', async () => {
    const circle = defineStage({
      states: {
        one: { entered: () => 'other', failed: (c) => c.close() },
        other: { entered: () => 'one' },
      },
    });
    for (const trace of [0, 3]) {
      const pipeline = newPipeline({ circle: { stage: circle, threads: 0 } }, { trace });
      const failures: StageFailure[] = [];
      pipeline.on('failed', (failure) => failures.push(failure));
      await pipeline.ready();
      const key = pipeline.start('circle');
      await empty(pipeline);
      const codes = new Set(failures.map(({ error }) => codeOf(error)));
      expect([...codes]).toEqual(['ERR_ENDLESS_TRANSITIONS']);
      if (trace > 0) expect(told(failures[0]!.trace)).toHaveLength(3);
      if (trace > 0) expect(told(failures[0]!.trace).at(-1)).toMatch(/ failed$/);
      expect(story(pipeline, key)).toHaveLength(trace);
    }
  });

  test('outlives the connection, until another one has its record, and that one has its own', async () => {
    const pipeline = newPipeline(
      { idle: { stage: countdown, threads: 0 } },
      { trace: 4, maxConnections: 1 },
    );
    await pipeline.ready();
    const first = pipeline.start('idle', 7);
    await until(() => pipeline.inspect(first)?.trace.at(-1)?.state === 'odd');
    await until(() => pipeline.stats().stages['idle']!.queueDepth === 0);
    expect(pipeline.inspect(first)).toMatchObject({ closed: false });
    await pipeline.close();
    expect(codeOf(failureNow(() => pipeline.inspect(first)))).toBe('ERR_PIPELINE_CLOSED');

    const brief = defineStage({ states: { idle: { posted: (c) => c.close() } } });
    const again = newPipeline(
      { idle: { stage: brief, threads: 0 } },
      { trace: 4, maxConnections: 1 },
    );
    await again.ready();
    const one = again.start('idle');
    await empty(again);
    const whole = ['idle.idle entered', 'idle.idle posted', 'idle.idle close', 'idle.idle closed'];
    expect(again.inspect(one)).toMatchObject({ key: one, closed: true, stage: 'idle' });
    expect(again.inspect(one)).toMatchObject({ state: 'idle', closing: true, remote: undefined });
    expect(story(again, one)).toEqual(whole);
    const two = again.start('idle');
    expect(again.inspect(one)).toBeUndefined();
    expect(again.inspect(two)).toMatchObject({ closed: false, trace: [] });
    await empty(again);
    expect(story(again, two)).toEqual(whole);
  });

  test('tells of a thread that ended in the middle, and who went on', async () => {
    const { pipeline, port, deaths } = await scripted({}, {}, { trace: 15 });
    const client = new Client(port);
    await client.ask('say 1;go careful', '1');
    client.forget();
    client.write('exit');
    await until(() => client.text.includes('abandoned'));
    await until(() => deaths.length === 1);
    const { key } = pipeline.connections()[0]!;
    await until(() => story(pipeline, key).some((line) => line.includes('sent')));
    expect(story(pipeline, key)).toEqual([
      'first.obedient entered',
      'first.obedient received 16',
      'first.careful entered',
      'first.careful received 4',
      'first.careful abandoned',
      'first.careful sent 9',
    ]);
    const [died] = pipeline.inspect(key)!.trace.slice(-3);
    expect(died!.thread).toBe(deaths[0]!.index);
  });

  test(
    'has the last one where one is asked for, and all of many',
    { timeout: 60_000 },
    async () => {
      for (const [trace, events] of [
        [1, 20],
        [2, 20],
        [3, 20],
        [64, 1000],
        [65_535, 80_000],
      ] as const) {
        const pipeline = newPipeline(
          { idle: { stage: countdown, threads: 0 } },
          { trace, maxConnections: 4 },
        );
        await pipeline.ready();
        const key = pipeline.start('idle', events / 2);
        // A message and a state for each; the last message leads nowhere.
        const all = ['idle.even entered'];
        for (let left = events / 2; left > 0; left--) {
          const [here, there] = (events / 2 - left) % 2 === 0 ? ['even', 'odd'] : ['odd', 'even'];
          all.push(`idle.${here} posted`, `idle.${there} entered`);
        }
        all.push(`idle.${(events / 2) % 2 === 0 ? 'even' : 'odd'} posted`);
        await until(
          () =>
            pipeline.inspect(key)?.trace.at(-1)?.event === 'posted' &&
            pipeline.stats().stages['idle']!.packets === events / 2 + 1,
        );
        expect(story(pipeline, key)).toEqual(all.slice(-trace));
        inOrder(pipeline.inspect(key)!.trace);
        await pipeline.close();
      }
    },
  );

  test('is whole for whoever looks on while threads of several stages write it', async () => {
    const bounce = (to: string) => ({ stage: fixture('bouncer.mjs'), threads: 2, data: { to } });
    const pipeline = newPipeline({ ping: bounce('pong'), pong: bounce('ping') }, { trace: 15 });
    await pipeline.ready();
    const keys = Array.from({ length: 4 }, () => pipeline.start('ping', 1000));
    const events = ['entered', 'handedOff', 'posted', 'handOff', 'close', 'closed'];
    let looks = 0;
    while (pipeline.stats().connections > 0) {
      for (const key of keys) {
        const { trace } = pipeline.inspect(key)!;
        looks += trace.length;
        inOrder(trace);
        for (const entry of trace) {
          const { stage, state, event, thread, bytes } = entry;
          const known = ['ping', 'pong'].includes(stage) && events.includes(event);
          if (known && state === 'bouncing' && thread < 2 && bytes === 0) continue;
          throw new Error(`torn: ${JSON.stringify(entry)}`);
        }
      }
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect(looks).toBeGreaterThan(0);
    for (const key of keys) expect(story(pipeline, key).at(-1)).toMatch(/bouncing closed$/);
  });
});

describe('without a trace', () => {
  test('nothing is kept, shown or told', async () => {
    const { pipeline, port, failures } = await scripted();
    const client = new Client(port);
    await client.ask('say 1;go careful', '1');
    const { key } = pipeline.connections()[0]!;
    // What a handler sends may arrive before the handler is done.
    await until(() => pipeline.inspect(key)?.state === 'careful');
    expect(pipeline.inspect(key)).toMatchObject({ key, closed: false, trace: [] });
    await client.ask('throw OOPS', 'failed');
    await until(() => failures.length === 1);
    expect(failures[0]).toMatchObject({ event: 'received', trace: undefined });
    client.socket.destroy();
    await empty(pipeline);
    expect(pipeline.inspect(key)).toBeUndefined();
  });

  test('`c.trace` is empty', async () => {
    const seen: unknown[] = [];
    const stage = defineStage({
      states: { idle: { posted: (c) => (seen.push(c.trace), c.close()) } },
    });
    const pipeline = newPipeline({ idle: { stage, threads: 0 } });
    await pipeline.ready();
    pipeline.start('idle');
    await empty(pipeline);
    expect(seen).toEqual([[]]);
  });
});

describe('what is asked for', () => {
  test('is refused at once where it is no number of events, or more than memory', () => {
    const stages = { idle: { stage: countdown, threads: 0 } } as const;
    for (const [trace, code] of [
      [-1, 'ERR_OUT_OF_RANGE'],
      [1.5, 'ERR_OUT_OF_RANGE'],
      [NaN, 'ERR_OUT_OF_RANGE'],
      [Infinity, 'ERR_OUT_OF_RANGE'],
      [65_536, 'ERR_OUT_OF_RANGE'],
      ['3', 'ERR_INVALID_ARG_TYPE'],
      [true, 'ERR_INVALID_ARG_TYPE'],
      [null, 'ERR_INVALID_ARG_TYPE'],
    ] as const) {
      expect(codeOf(failureNow(() => newPipeline(stages, { trace: trace as never })))).toBe(code);
    }
    const much = failureNow(() => newPipeline(stages, { trace: 65_535, maxConnections: 65_536 }));
    expect(codeOf(much)).toBe('ERR_OUT_OF_RANGE');
    expect(much.message).toMatch(/options\.trace.*65536 connections.*4 GiB/);
  });

  test('has to be a key, of a connection that there is or was', async () => {
    const pipeline = newPipeline({ idle: { stage: countdown, threads: 0 } }, { trace: 4 });
    const key = (value: unknown) => codeOf(failureNow(() => pipeline.inspect(value as never)));
    expect(key('1')).toBe('ERR_INVALID_ARG_TYPE');
    expect(key(undefined)).toBe('ERR_INVALID_ARG_TYPE');
    expect(key(-1)).toBe('ERR_OUT_OF_RANGE');
    expect(key(2 ** 32)).toBe('ERR_OUT_OF_RANGE');
    expect(pipeline.inspect(1)).toBeUndefined(); // before anything is known of its records
    await pipeline.ready();
    for (const none of [0, 1, 4095, 0xfffff, 2 ** 32 - 1]) {
      expect(pipeline.inspect(none)).toBeUndefined();
    }
  });
});

describe('a ring of events', () => {
  const KEY = 1 << 20;
  const stages = ['even', 'odd'].map((name, index) => ({
    ...{ name, index, port: 0, states: ['a', 'b', 'c'], native: false, pipelined: false },
  }));
  const bytesOf = (kept: number): number => 8 + 24 * slotsOf(kept);
  /** A number of the ring's writer, as an entry has to tell it. */
  const entryOf = (n: number): TraceEntry => ({
    stage: stages[n & 1]!.name,
    state: stages[0]!.states[n % 3]!,
    event: names[1 + (n % 14)]!,
    thread: n % 256,
    time: EPOCH + n * 1048577.25,
    bytes: n * 4294967297,
  });

  test.each([1, 2, 31, 1000])(
    'that keeps %i is read whole while another thread writes as fast as it can',
    { timeout: 60_000 },
    async (kept) => {
      const memory = new SharedArrayBuffer(bytesOf(kept));
      const shared = new Int32Array(new SharedArrayBuffer(8));
      const worker = new Worker(fixture('trace-writer.mjs'), {
        workerData: { memory, kept, key: KEY, shared },
      });
      onTestFinished(() => worker.terminate().then(() => undefined));
      await until(() => Atomics.load(shared, 1) > 10_000);
      const reader = new Trace(memory, kept);
      let read = 0;
      const seen = new Set<number>();
      // Until it has been at work between many looks; it may have the only processor in turns.
      while (seen.size < 200 || read < 2000) {
        const trace = reader.read(KEY, stages)!;
        expect(trace.length).toBeLessThanOrEqual(kept);
        for (const entry of trace) {
          const n = Math.round(entry.bytes / 4294967297);
          const { stage, state, event, thread, time, bytes } = entryOf(n);
          const whole =
            entry.stage === stage &&
            entry.state === state &&
            entry.event === event &&
            entry.thread === thread &&
            entry.bytes === bytes &&
            entry.time === time;
          if (!whole) throw new Error(`torn: ${JSON.stringify(entry)}`);
        }
        read += trace.length;
        seen.add(trace.at(-1)?.bytes ?? 0);
      }
      Atomics.store(shared, 0, 1);
      await new Promise((resolve) => worker.once('exit', resolve));
      const trace = reader.read(KEY, stages)!;
      expect(trace).toHaveLength(kept);
      const latest = Math.round(trace.at(-1)!.bytes / 4294967297);
      expect(trace).toEqual(trace.map((_, i) => entryOf(latest - kept + 1 + i)));
    },
  );

  test('shows no entry of which one word is not its own', () => {
    const kept = 3;
    const memory = new ArrayBuffer(bytesOf(kept));
    const words = new Uint32Array(memory);
    const trace = new Trace(memory, kept);
    words[1] = KEY;
    const write = (n: number): void =>
      trace.write(KEY, n & 1, n % 3, 1 + (n % 14), n % 256, n * 1048577.25, n * 4294967297);
    for (let n = 1; n <= 9; n++) write(n);
    expect(trace.read(KEY, stages)).toEqual([7, 8, 9].map(entryOf));
    const place = (n: number): number => 2 + 6 * ((n - 1) % slotsOf(kept));
    for (let word = 0; word < 6; word++) {
      const at = place(8) + word;
      const before = words[at]!;
      // Of the entry that follows, or was here before, or any other.
      for (const other of [words[place(9) + word]!, words[place(7) + word]!, 0, ~before >>> 0]) {
        if (other === before) continue;
        words[at] = other;
        expect(trace.read(KEY, stages)).toEqual([7, 9].map(entryOf));
      }
      words[at] = before;
    }
    words[1] = KEY + (1 << 20); // another connection's
    expect(trace.read(KEY, stages)).toBeUndefined();
    expect(trace.read(KEY + (1 << 20), stages)).toEqual([]);
  });

  test('goes on when 32 bits have no more numbers', () => {
    const kept = 5;
    const memory = new ArrayBuffer(bytesOf(kept));
    const words = new Uint32Array(memory);
    words.set([0xffffffff - 7, KEY]);
    const trace = new Trace(memory, kept);
    const expected: TraceEntry[] = [];
    for (let n = 1; n <= 20; n++) {
      trace.write(KEY, n & 1, n % 3, 1 + (n % 14), n % 256, n * 1048577.25, n * 4294967297);
      expected.push(entryOf(n));
      expect(trace.read(KEY, stages)).toEqual(expected.slice(-kept));
    }
  });

  test('has the same events in both languages', () => {
    const header = readFileSync(path.join(root, 'native/stage/trace.h'), 'utf8');
    const list = /enum class TraceEvent : std::uint8_t \{([^}]*)\}/.exec(header)![1]!;
    const native = [...list.matchAll(/k(\w+)(?: = (\d+))?,/g)].map(([, name]) => name!);
    expect(list).toContain('kEntered = 1');
    const plain = native.map((name) => name.charAt(0).toLowerCase() + name.slice(1));
    expect(plain).toEqual(names.slice(1));
  });
});
