import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { readFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { inspect } from 'node:util';
import { describe, expect, onTestFinished, test } from 'vitest';
import { defineStage, frames, type PipelineOptions, type StageFailure } from '../../dist/stages.js';
import {
  codeOf,
  ofDriver,
  failureOf,
  outputOf,
  skipOnWindows,
  temporaryFile,
  until,
} from '../support/harness';
import { Client, empty, fixture, newPipeline, Pipeline, scripted } from '../support/stages';

/** Closes tasks, and answers connections, on the event loop of the test. */
const here = defineStage({
  record: { value: 'f64' },
  states: {
    idle: {
      received: (c, bytes) => void c.send(`here ${bytes}`),
      posted(c, value) {
        c.record.value = value;
        return value < 0 ? 'stuck' : c.close();
      },
    },
    stuck: {
      posted: (c) => c.close(),
    },
  },
});

test('records that no view could show, 4 GiB and more, are refused with what would fit', async () => {
  const large = defineStage({
    record: { text: 'bytes[4096]', more: 'bytes[140]' },
    states: { idle: {} },
  });
  const stages = { large: { stage: large, threads: 0 } } as const;
  const pipeline = newPipeline(stages, { maxConnections: 1_000_000 });
  const error = await failureOf(() => pipeline.ready());
  expect(codeOf(error)).toBe('ERR_OUT_OF_RANGE');
  expect(error.message).toMatch(/options\.maxConnections.*at most \d+, with records of \d+ bytes/);
});

describe('waiting for a pipeline', () => {
  /** A stage whose module is not there before it is let. */
  const late = (): { pipeline: Pipeline; let: () => void } => {
    const gate = new Int32Array(new SharedArrayBuffer(4));
    const stage = fixture('late.mjs');
    const pipeline = newPipeline({ late: { stage, threads: 1, data: { gate } } });
    const open = (): void => {
      Atomics.store(gate, 0, 1);
      Atomics.notify(gate, 0);
    };
    onTestFinished(open);
    return { pipeline, let: open };
  };

  test('ends with a signal, or a timeout, and leaves the pipeline alone', async () => {
    const { pipeline, let: open } = late();
    const controller = new AbortController();
    const { signal } = controller;
    const where = { host: '127.0.0.1', port: 0 };
    const waiting = [
      failureOf(() => pipeline.ready({ signal })),
      failureOf(() => pipeline.listen('late', { ...where, signal })),
    ];
    const late1 = await failureOf(() => pipeline.ready({ timeout: 1 }));
    const late2 = await failureOf(() => pipeline.listen('late', { ...where, timeout: 1 }));
    expect([late1, late2]).toMatchObject([
      { code: 'ETIMEDOUT', timeout: true },
      { code: 'ETIMEDOUT', timeout: true },
    ]);
    controller.abort();
    expect((await Promise.all(waiting)).map(({ name }) => name)).toEqual([
      'AbortError',
      'AbortError',
    ]);
    open();
    await pipeline.ready({ timeout: 60_000, signal: new AbortController().signal });
    // What was given up listens nowhere.
    await until(() => pipeline.stats().stages['late']!.port.handles === 0);
    const { port } = await pipeline.listen('late', where);
    new Client(port).socket.destroy();
    expect((await failureOf(() => pipeline.ready({ signal }))).name).toBe('AbortError');
  });

  test('wrong options are refused', async () => {
    const { pipeline } = late();
    const code = async (fn: () => unknown): Promise<string | undefined> =>
      codeOf(await failureOf(fn));
    expect(await code(() => pipeline.ready({ timeout: -1 }))).toBe('ERR_OUT_OF_RANGE');
    expect(await code(() => pipeline.ready({ tag: 1 } as never))).toBe('ERR_INVALID_ARG_VALUE');
    expect(await code(() => pipeline.ready({ signal: 1 as never }))).toBe('ERR_INVALID_ARG_TYPE');
  });
});

describe('tasks and messages', () => {
  test('a connection that a handler kept stands for no other one in the handlers that follow', async () => {
    const kept: { readonly key: number }[] = [];
    const codes: string[] = [];
    const stage = defineStage({
      states: {
        idle: {
          entered(c) {
            for (const other of kept) {
              try {
                codes.push(`read ${other.key}`);
              } catch (error) {
                codes.push(String(codeOf(error as Error)));
              }
            }
            kept.push(c);
            return c.close();
          },
        },
      },
    });
    const pipeline = newPipeline({ idle: { stage, threads: 0 } });
    await pipeline.ready();
    for (let i = 0; i < 4; i++) pipeline.start('idle');
    await until(() => kept.length === 4);
    expect(codes).toEqual(new Array(6).fill('ERR_CONNECTION_RELEASED'));
  });

  test('c.enter() goes to a state from an async handler, and tells of one that is none', async () => {
    const visited: string[] = [];
    const failures: string[] = [];
    const stage = defineStage({
      states: {
        first: {
          async posted(c) {
            await Promise.resolve();
            return c.enter('second');
          },
        },
        second: {
          entered: (c) => {
            visited.push(c.state);
            return c.enter('third');
          },
        },
        third: {
          entered(c) {
            visited.push(c.state);
            c.enter('nowhere' as never);
          },
          failed(c, error) {
            failures.push(String(codeOf(error)));
            return c.close();
          },
        },
      },
    });
    const pipeline = newPipeline({ only: { stage, threads: 0 } });
    await pipeline.ready();
    pipeline.start('only');
    await empty(pipeline);
    expect([visited, failures]).toEqual([['second', 'third'], ['ERR_UNKNOWN_STATE']]);
  });

  test('start() gives a task its value; its key is good for post()', async () => {
    const { pipeline, log } = await scripted();
    const key = pipeline.start('first', 1.5);
    pipeline.post(key, 2);
    expect(pipeline.tryPost(key, 77)).toBe(true);
    await log.first('closed');
    expect(log.story(key)).toEqual([
      'entered obedient',
      'posted obedient',
      'posted obedient',
      'posted obedient',
      'closed obedient',
    ]);
    expect(log.of('posted').map(({ value }) => value)).toEqual([1.5, 2, 77]);
    await empty(pipeline);
  });

  test('a task has no socket: sending is an error of the handler', async () => {
    const { pipeline, failures } = await scripted();
    pipeline.start('first', 1000);
    await until(() => failures.length === 1);
    expect(failures[0]).toMatchObject({ event: 'posted' });
    expect(codeOf(failures[0]!.error)).toBe('ERR_INVALID_STATE');
    await empty(pipeline);
  });

  test('Q2: a full queue is an error of post(), and false from tryPost()', async () => {
    const pipeline = newPipeline({ here: { stage: here, threads: 0, queueLimit: 4 } });
    await pipeline.ready();
    const key = pipeline.start('here', -1);
    for (let i = 0; i < 3; i++) pipeline.post(key, -1);
    expect(pipeline.tryPost(key, -1)).toBe(false);
    expect(codeOf(await failureOf(() => pipeline.post(key, -1)))).toBe('ERR_QUEUE_FULL');
    expect(codeOf(await failureOf(() => pipeline.start('here', 1)))).toBe('ERR_QUEUE_FULL');
    expect(pipeline.stats().connections).toBe(1);
    await empty(pipeline);
    expect(pipeline.tryPost(key, 1)).toBe(false);
  });

  test('start() fails when all records are in use', async () => {
    const pipeline = newPipeline({ here: { stage: here, threads: 0 } }, { maxConnections: 2 });
    await pipeline.ready();
    const keys = [pipeline.start('here', -1), pipeline.start('here', -1)];
    expect(codeOf(await failureOf(() => pipeline.start('here')))).toBe('ERR_CONNECTION_LIMIT');
    for (const key of keys) pipeline.post(key);
    await empty(pipeline);
    pipeline.start('here', 1);
    await empty(pipeline);
  });
});

describe('where a stage runs', () => {
  test('threads: 0 runs it on the event loop that made the pipeline', async () => {
    const pipeline = newPipeline({ here: { stage: here, threads: 0 } });
    const { port } = await pipeline.listen('here', { host: '127.0.0.1', port: 0 });
    await new Client(port).ask('you', 'here you');
    expect(pipeline.stats().stages['here']).toMatchObject({ threads: 1, arrived: 1 });
  });

  test('a path, a URL, a CommonJS module, an object or a function that makes one', async () => {
    const library = JSON.stringify(path.resolve('dist/stages.js'));
    const close = `{ states: { only: { posted: (c) => c.close() } } }`;
    const text = `const { defineStage } = require(${library});\n`;
    const modules = [
      temporaryFile(`${text} module.exports = defineStage(${close});`, 'a.cjs'),
      pathToFileURL(
        temporaryFile(`${text} exports.default = () => defineStage(${close});`, 'b.cjs'),
      ),
      fixture('fragile.mjs').href,
    ];
    for (const [i, stage] of modules.entries()) {
      const data = i === 0 ? undefined : { loads: new SharedArrayBuffer(4), after: 9 };
      const pipeline = newPipeline({ it: { stage, threads: 1, data } });
      await pipeline.ready();
      pipeline.start('it', 1);
      await empty(pipeline);
    }
  });

  test('pin: thread i runs on the i-th CPU of the process, and nowhere else', async (context) => {
    skipOnWindows(context, 'it has no /proc; test/native/cpus_test.cc asks its threads');
    const where = temporaryFile(
      `import { readFileSync } from 'node:fs';
       import { defineStage } from ${JSON.stringify(pathToFileURL(path.resolve('dist/stages-esm.mjs')))};
       const status = readFileSync('/proc/thread-self/status', 'utf8');
       const [, list] = /Cpus_allowed_list:\\s*(\\S+)/.exec(status);
       export default defineStage({ states: { only: { posted: (c) => void c.send(list) } },
         otherwise: { received: (c) => void c.send(list) } });`,
      'pin.mjs',
    );
    const pipeline = newPipeline({ it: { stage: where, threads: 1, pin: true } });
    const { port } = await pipeline.listen('it', { host: '127.0.0.1', port: 0 });
    const client = new Client(port);
    const status = readFileSync('/proc/self/status', 'utf8');
    const [, first] = /Cpus_allowed_list:\s*(\d+)/.exec(status)!;
    await client.ask('where', first!);
    expect(client.text).toBe(first);
  });

  test("order: 'state' runs a batch state by state, each key in its order", async () => {
    const seen: string[] = [];
    const stage = defineStage({
      states: {
        a: { posted: (c, value) => (value === 0 ? undefined : note(c.state, c.key, value)) },
        b: { posted: (c, value) => note(c.state, c.key, value) },
      },
      otherwise: { entered: () => undefined },
    });
    const note = (state: string, key: number, value: number): void =>
      void seen.push(`${state} ${key} ${value}`);
    const turn = defineStage({
      states: { only: { posted: (c, value) => c.handOff('it', { state: value > 0 ? 'b' : 'a' }) } },
    });
    const pipeline = newPipeline({
      it: { stage, threads: 0, order: 'state' },
      turn: { stage: turn, threads: 0 },
    });
    await pipeline.ready();
    const keys = [0, 1, 0, 1].map((value) => pipeline.start('turn', value));
    await until(() => pipeline.connections().every(({ state }) => state === 'a' || state === 'b'));
    // Posted in turns to the one and the other. A thread that was slow just now takes fewer at a time.
    let states = '';
    while (states !== 'aaaaaabbbbbb') {
      seen.length = 0;
      for (let value = 1; value <= 3; value++) for (const key of keys) pipeline.post(key, value);
      await until(() => seen.length === 12);
      states = seen.map((text) => text[0]).join('');
      for (const key of keys) {
        const values = seen.filter((text) => text.includes(` ${key} `)).map((text) => text.at(-1));
        expect(values).toEqual(['1', '2', '3']);
      }
    }
  });

  test('T3: a pipeline keeps the process alive until it is closed, and no longer', async () => {
    const library = JSON.stringify(pathToFileURL(path.resolve('dist/stages-esm.mjs')));
    const output = await outputOf(`
      const { Pipeline } = await import(${library});
      const stage = new URL(${JSON.stringify(fixture('fragile.mjs').href)});
      const data = { loads: new SharedArrayBuffer(4), after: 9 };
      const pipeline = new Pipeline({ it: { stage, threads: 2, data } }, ${JSON.stringify(ofDriver)});
      await pipeline.ready();
      setTimeout(async () => { await pipeline.close(); console.log('closed'); }, 50);
    `);
    expect(output).toBe('closed');
  });

  test('T1: process.exit() while handlers run, with connections open', async () => {
    const library = JSON.stringify(pathToFileURL(path.resolve('dist/stages-esm.mjs')));
    const output = await outputOf(`
      const { Pipeline, frames } = await import(${library});
      const net = await import('node:net');
      const stage = new URL(${JSON.stringify(fixture('digest.mjs').href)});
      const pipeline = new Pipeline({
        spool: { native: frames({ length: 'u8' }), next: 'work' },
        work: { stage, threads: 2 },
      }, ${JSON.stringify(ofDriver)});
      const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
      for (let i = 0; i < 20; i++) net.connect(port, '127.0.0.1').write('\\x04hang');
      const look = () => {
        if (pipeline.stats().stages.work.packets < 20) return setTimeout(look, 5);
        console.log('leaving');
        process.exit(0);
      };
      look();
    `);
    expect(output).toBe('leaving');
  });
});

describe('looking on', () => {
  test('stats(): counts, states, times', async () => {
    const { pipeline, port } = await scripted();
    const clients = Array.from({ length: 6 }, () => new Client(port));
    for (const client of clients) await client.ask('say x', 'x');
    await clients[0]!.ask('say y;go careful', 'y');
    await clients[1]!.ask('handoff second', 'from first');
    await until(() => pipeline.stats().stages['first']!.states['careful'] === 1);
    const { stages, connections, refused, restarts } = pipeline.stats();
    expect({ connections, refused, restarts }).toEqual({ connections: 6, refused: 0, restarts: 0 });
    const { first, second } = stages;
    expect(first!.states).toMatchObject({ obedient: 4, careful: 1, deaf: 0 });
    expect(first).toMatchObject({
      connections: 5,
      threads: 2,
      arrived: 6,
      handedOff: 1,
      closed: 0,
    });
    expect(second).toMatchObject({ connections: 1, arrived: 1, failures: 0 });
    expect(first!.packets).toBeGreaterThanOrEqual(14);
    for (const summary of [first!.queueing, first!.handling]) {
      expect(summary.count).toBe(first!.packets);
      expect(summary.min).toBeGreaterThan(0);
      expect(summary.p50).toBeGreaterThanOrEqual(summary.min);
      expect(summary.p999).toBeLessThanOrEqual(summary.max);
    }
    expect(first!.frames).toBeUndefined();
  });

  test('the time of an async handler counts until its promise is settled', async () => {
    const { pipeline, port } = await scripted();
    await new Client(port).ask('later 40', 'later');
    await until(() => pipeline.stats().stages['first']!.handling.max >= 38_000);
  });

  test('listen() gives a listener: one is closed, and the others go on', async () => {
    const { pipeline, port } = await scripted();
    const controller = new AbortController();
    const where = { host: '127.0.0.1', port: 0 };
    const second = await pipeline.listen('first', where);
    const third = await pipeline.listen('first', { ...where, signal: controller.signal });
    expect(second).toMatchObject({ address: '127.0.0.1', family: 'IPv4', closed: false });
    const closing = second.close();
    expect(second.close()).toBe(closing);
    await closing;
    controller.abort();
    await third.close();
    for (const listener of [second, third]) {
      expect(listener.closed).toBe(true);
      const refused = new Promise((resolve) =>
        net.connect(listener.port, '127.0.0.1').once('error', resolve),
      );
      expect(await refused).toMatchObject({ code: 'ECONNREFUSED' });
    }
    await new Client(port).ask('say hello', 'hello');
  });

  test('a listener of a native stage is closed by itself', async () => {
    const pipeline = newPipeline({
      spool: { native: frames({ length: 'u8' }), next: 'here' },
      here: { stage: here, threads: 0 },
    });
    const where = { host: '127.0.0.1', port: 0 };
    const first = await pipeline.listen('spool', where);
    const second = await pipeline.listen('spool', where);
    await first.close();
    const refused = new Promise((resolve) =>
      net.connect(first.port, '127.0.0.1').once('error', resolve),
    );
    expect(await refused).toMatchObject({ code: 'ECONNREFUSED' });
    const client = new Client(second.port);
    await until(() => pipeline.stats().connections === 1);
    client.socket.end();
  });

  test('connections() are those asked for', async () => {
    const { pipeline, port } = await scripted();
    const clients = [new Client(port), new Client(port), new Client(port)];
    await clients[0]!.ask('handoff second', 'from first');
    await until(() => pipeline.connections({ stage: 'first', state: 'obedient' }).length === 2);
    expect(pipeline.connections({ stage: 'second' })).toHaveLength(1);
    expect(pipeline.connections({ limit: 2 })).toHaveLength(2);
    expect(pipeline.connections({ state: 'deaf' })).toEqual([]);
    const wrong = [
      { state: 'none' },
      { stage: 'third' },
      { limit: -1 },
      { states: 'a' },
      { state: 5 },
    ];
    expect(
      await Promise.all(
        wrong.map(async (o) => codeOf(await failureOf(() => pipeline.connections(o as object)))),
      ),
    ).toEqual([
      'ERR_UNKNOWN_STATE',
      'ERR_UNKNOWN_STAGE',
      'ERR_OUT_OF_RANGE',
      'ERR_INVALID_ARG_VALUE',
      'ERR_INVALID_ARG_TYPE',
    ]);
  });

  test('connections(): who is where, and for how long', async () => {
    const { pipeline, port } = await scripted();
    const client = new Client(port);
    await client.ask('say 12345;go careful', '12345');
    const task = pipeline.start('second', 1);
    // What it says may be there before it has gone.
    await until(() => pipeline.connections()[0]?.state === 'careful');
    await until(() => pipeline.connections().every(({ state }) => state !== ''));
    const [connection, other] = pipeline.connections();
    const { localAddress, localPort } = client.socket;
    expect(connection).toMatchObject({
      stage: 'first',
      state: 'careful',
      remote: `${localAddress}:${localPort}`,
      received: 20,
      closing: false,
      document: undefined,
    });
    expect(other).toMatchObject({ key: task, stage: 'second', remote: undefined });
    const { elapsed } = connection!;
    await until(() => pipeline.connections()[0]!.elapsed > elapsed);
    const listener = await pipeline.listen('first', { host: '127.0.0.1', port: 0 });
    expect(inspect(listener)).toMatch(
      /^StageListener \{\s+address: '127.0.0.1',\s+port: \d+,\s+family: 'IPv4',\s+closed: false\s+\}$/,
    );
    expect(inspect(pipeline)).toMatch(/Pipeline .*state: 'open'.*connections: 2/s);
  });

  test('failures are published on the diagnostics channel', async () => {
    const told: StageFailure[] = [];
    const hear = (message: unknown): void => void told.push(message as StageFailure);
    subscribe('completion-port:stage:failed', hear);
    onTestFinished(() => void unsubscribe('completion-port:stage:failed', hear));
    const { port, log } = await scripted();
    new Client(port).write('throw OOPS');
    await until(() => told.length === 1);
    const { key } = log.told[0]!;
    expect(told[0]).toMatchObject({ stage: 'first', state: 'obedient', event: 'received', key });
    expect(codeOf(told[0]!.error)).toBe('OOPS');
  });
});

describe('bad input', () => {
  const stage = fixture('fragile.mjs');
  const made = defineStage({ states: { a: {} } });
  const native = frames({ length: 'u8' });
  test.each([
    [undefined, {}, 'ERR_INVALID_ARG_TYPE'],
    [{}, {}, 'ERR_OUT_OF_RANGE'],
    [{ a: undefined }, {}, 'ERR_INVALID_ARG_TYPE'],
    [{ a: {} }, {}, 'ERR_INVALID_ARG_TYPE'],
    [{ a: { stage: 'work.mjs' } }, {}, 'ERR_INVALID_ARG_VALUE'],
    [{ a: { stage: '/no/such/module.mjs' } }, {}, 'ERR_INVALID_ARG_VALUE'],
    [{ a: { stage: made } }, {}, 'ERR_INVALID_ARG_VALUE'],
    [{ a: { stage, threads: 0 } }, {}, 'ERR_INVALID_ARG_VALUE'],
    [{ a: { stage, threads: 257 } }, {}, 'ERR_OUT_OF_RANGE'],
    [{ a: { stage, threads: '2' } }, {}, 'ERR_INVALID_ARG_TYPE'],
    [{ a: { stage, concurrency: 0 } }, {}, 'ERR_OUT_OF_RANGE'],
    [{ a: { stage, pin: 1 } }, {}, 'ERR_INVALID_ARG_TYPE'],
    [{ a: { stage, dispatch: 'all' } }, {}, 'ERR_INVALID_ARG_VALUE'],
    [{ a: { stage, order: 'random' } }, {}, 'ERR_INVALID_ARG_VALUE'],
    [{ a: { stage, queueLimit: 0 } }, {}, 'ERR_OUT_OF_RANGE'],
    [{ a: { stage, thread: 1 } }, {}, 'ERR_INVALID_ARG_VALUE'],
    [{ a: { native: {}, next: 'a' } }, {}, 'ERR_INVALID_ARG_VALUE'],
    [
      { a: { native, next: 'b' }, b: { native, next: 'c' }, c: { stage } },
      {},
      'ERR_INVALID_ARG_VALUE',
    ],
    [{ a: { native, next: 'b' } }, {}, 'ERR_UNKNOWN_STAGE'],
    [{ a: { native, next: 'a' } }, {}, 'ERR_INVALID_ARG_VALUE'],
    [{ a: { native } }, {}, 'ERR_INVALID_ARG_TYPE'],
    [{ a: { native, next: 'b', threads: 0 }, b: { stage } }, {}, 'ERR_OUT_OF_RANGE'],
    [{ a: { native, next: 'b', order: 'state' }, b: { stage } }, {}, 'ERR_INVALID_ARG_VALUE'],
    [{ a: { stage } }, { maxConnections: 0 }, 'ERR_OUT_OF_RANGE'],
    [{ a: { stage } }, { maxConnections: 2 ** 20 }, 'ERR_OUT_OF_RANGE'],
    [{ a: { stage } }, { driver: 'kqueue' }, 'ERR_INVALID_ARG_VALUE'],
    [{ a: { stage } }, { clients: 7 }, 'ERR_INVALID_ARG_VALUE'],
    [{ a: { stage } }, { memoryLimit: -1 }, 'ERR_OUT_OF_RANGE'],
  ])('new Pipeline(%o, %o): %s', async (stages, options, code) => {
    const error = await failureOf(() => new Pipeline(stages as never, options as PipelineOptions));
    expect(codeOf(error)).toBe(code);
  });

  test.each([
    [
      () => ({ a: made }),
      'ERR_INVALID_ARG_VALUE',
      /'stages\.a' is a stage itself: write \{ stage, thr/,
    ],
    [
      () => ({ a: fixture('echo.mjs') }),
      'ERR_INVALID_ARG_TYPE',
      /type object: \{ stage: module \}/,
    ],
    [() => ({ a: '/x.mjs' }), 'ERR_INVALID_ARG_TYPE', /type object: \{ stage: module \}/],
  ])('a stage that is given without options, %#', async (stages, code, text) => {
    const error = await failureOf(() => new Pipeline(stages() as never));
    expect(codeOf(error)).toBe(code);
    expect(error.message).toMatch(text);
  });

  test('of the methods', async () => {
    const { pipeline } = await scripted();
    const bad: [() => unknown, string][] = [
      [() => pipeline.listen('third', { port: 0 }), 'ERR_UNKNOWN_STAGE'],
      [() => pipeline.listen(3 as never, { port: 0 }), 'ERR_INVALID_ARG_TYPE'],
      [() => pipeline.listen('first', undefined as never), 'ERR_INVALID_ARG_TYPE'],
      [() => pipeline.listen('first', { port: 70_000 }), 'ERR_OUT_OF_RANGE'],
      [() => pipeline.start('third'), 'ERR_UNKNOWN_STAGE'],
      [() => pipeline.post(-1), 'ERR_OUT_OF_RANGE'],
      [() => pipeline.post(0), 'ERR_CONNECTION_GONE'],
      [() => pipeline.post(5, 'x'), 'ERR_CONNECTION_GONE'],
      [() => pipeline.publish(5 as never, 'x'), 'ERR_INVALID_ARG_TYPE'],
      [() => pipeline.tryPost('1' as never), 'ERR_INVALID_ARG_TYPE'],
      [() => pipeline.close({ grace: -1 }), 'ERR_OUT_OF_RANGE'],
      [() => pipeline.close(7 as never), 'ERR_INVALID_ARG_TYPE'],
    ];
    for (const [call, code] of bad) expect(codeOf(await failureOf(call))).toBe(code);
    const cannotBeCopied = await failureOf(() => pipeline.start('first', () => undefined));
    expect(cannotBeCopied.name).toBe('DataCloneError');
  });

  test('listening on a port in use is EADDRINUSE, natively too', async () => {
    const { port } = await scripted();
    const pipeline = newPipeline({
      a: { native, next: 'b' },
      b: { stage: made, threads: 0 },
    });
    for (const name of ['a', 'b']) {
      const error = await failureOf(() => pipeline.listen(name, { host: '127.0.0.1', port }));
      expect(codeOf(error)).toBe('EADDRINUSE');
    }
    const started = await failureOf(() => pipeline.start('a'));
    expect(codeOf(started)).toBe('ERR_INVALID_ARG_VALUE');
  });

  test('a closed pipeline says so', async () => {
    const pipeline = newPipeline({ a: { stage: made, threads: 0 } });
    await pipeline.close();
    for (const call of [
      () => pipeline.listen('a', { port: 0 }),
      () => pipeline.start('a'),
      () => pipeline.post(1),
      () => pipeline.stats(),
      () => pipeline.connections(),
    ]) {
      expect(codeOf(await failureOf(call))).toBe('ERR_PIPELINE_CLOSED');
    }
    await pipeline.close();
    await pipeline[Symbol.asyncDispose]();
  });

  test('two stages that declare a field differently', async () => {
    const other = defineStage({ record: { value: 'u8' }, states: { a: {} } });
    const pipeline = newPipeline({
      a: { stage: here, threads: 0 },
      b: { stage: other, threads: 0 },
    });
    const error = await failureOf(() => pipeline.ready());
    expect(codeOf(error)).toBe('ERR_STAGE_RECORD');
  });
});

test.each(['native', 'JavaScript'])(
  'a listener of a %s stage closes what comes beyond its maxConnections',
  async (kind) => {
    const work = { stage: fixture('lines.mjs'), threads: 2 };
    const pipeline =
      kind === 'native'
        ? newPipeline({
            spool: { native: frames({ delimiter: '\n', pipelined: 10 }), next: 'work' },
            work,
          })
        : newPipeline({ spool: { stage: fixture('echo.mjs'), threads: 2 } });
    const where = { host: '127.0.0.1', port: 0, maxConnections: 2 };
    const { port } = await pipeline.listen('spool', where);
    const clients = [new Client(port), new Client(port)];
    for (const client of clients) await client.ask('line\n', '\n');
    const third = new Client(port);
    await until(() => third.closed);
    expect(pipeline.stats().stages['spool']!.refused).toBe(1);
    clients[0]!.socket.destroy();
    // Its record is free before its descriptor is.
    for (let answered = false; !answered;) {
      const next = new Client(port);
      next.write('line\n');
      await until(() => next.closed || next.size > 0);
      answered = next.size > 0;
    }
  },
);
