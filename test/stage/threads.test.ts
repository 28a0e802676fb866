import { describe, expect, test } from 'vitest';
import { codeOf, failureOf, sleep, turns, until } from '../support/harness';
import { Client, empty, fixture, newPipeline, scripted } from '../support/stages';

/** Ended by `process.exit` in the middle of `commands`. */
async function lost(commands: string, options: { state?: string; threads?: number } = {}) {
  const running = await scripted({ threads: options.threads ?? 2 });
  const client = new Client(running.port);
  await client.ask(`say x;go ${options.state ?? 'careful'}`, 'x');
  client.forget();
  client.write(commands);
  await until(() => running.deaths.length === 1);
  return { ...running, client };
}

describe('a thread that dies', () => {
  test('T1: in a handler: its connection is `abandoned`, another thread goes on with it', async () => {
    const { client, log, deaths, pipeline } = await lost('say perhaps;exit');
    // What a handler submitted before its thread died may have been begun by another (rule T1).
    await until(() => /^(perhaps)?abandoned$/.test(client.text));
    const [before] = log.of('received');
    expect(log.of('abandoned')).toHaveLength(1);
    expect(log.of('abandoned')[0]!.threadId).not.toBe(before!.threadId + 100);
    expect(deaths[0]).toMatchObject({ stage: 'first' });
    expect(codeOf(deaths[0]!.error)).toBe('ERR_STAGE_THREAD_EXIT');
    await client.ask('say on', 'on');
    await until(() => pipeline.stats().restarts === 1);
  });

  test('T1: without an `abandoned` handler the connection is closed, and `closed` is told', async () => {
    const { client, log, pipeline } = await lost('exit', { state: 'obedient' });
    await until(() => client.closed);
    await log.first('closed');
    await empty(pipeline);
  });

  test('T1: the only thread: its connections go on in the one that replaces it', async () => {
    const { client, port, pipeline } = await lost('exit', { threads: 1 });
    await until(() => client.text === 'abandoned');
    await client.ask('say on', 'on');
    await new Client(port).ask('say new', 'new');
    expect(pipeline.stats().restarts).toBe(1);
  });

  test('T1: connections it was not at do not notice', async () => {
    const { port, deaths, log, failures } = await scripted({ threads: 1 });
    const others = Array.from({ length: 5 }, () => new Client(port));
    for (const [i, client] of others.entries()) await client.ask(`record ${i};say x`, 'x');
    new Client(port).write('exit');
    await until(() => deaths.length === 1);
    for (const client of others) await client.ask('later 1', 'later');
    expect(others.map(({ text }) => text)).toEqual([0, 1, 2, 3, 4].map((i) => `later ${i}`));
    expect(log.of('abandoned')).toEqual([]);
    expect(failures).toEqual([]);
  });

  test('T1: while a promise is awaited: the connection is abandoned', async () => {
    const { port, log, deaths } = await scripted({ threads: 1 });
    const waiting = new Client(port);
    await waiting.ask('say x;go careful', 'x');
    waiting.write('hang');
    await until(() => log.of('received').length === 2);
    new Client(port).write('exit');
    await until(() => deaths.length === 1 && waiting.text.includes('abandoned'));
    await waiting.ask('say on', 'on');
  });

  test('T1: between handlers, by an exception that nobody catches', async () => {
    const { client, deaths, port, log } = await lost('crash OUCH', { threads: 1 });
    expect(codeOf(deaths[0]!.error)).toBe('OUCH');
    await client.ask('say on', 'on');
    await new Client(port).ask('say new', 'new');
    expect(log.of('abandoned')).toEqual([]);
  });

  test('T1: behind a hand-off: it has happened, or the connection is abandoned', async () => {
    const { port, log, deaths, pipeline } = await scripted({ threads: 1 });
    const client = new Client(port);
    await client.ask('say x', 'x');
    client.forget();
    const { key } = pipeline.connections()[0]!;
    // Most often both are in one batch, so that native code has not heard of the hand-off.
    pipeline.post(key, 55);
    pipeline.start('first', 99);
    await until(() => deaths.length === 1);
    await until(() => client.closed || client.text.includes('from first'));
    if (!client.closed) return client.ask('say on', 'on');
    await until(() => log.of('closed').some((told) => told.key === key));
    expect(log.told.filter(({ name }) => name === 'second')).toEqual([]);
    await empty(pipeline);
  });

  test('T1: in `closed`: the record is released all the same', async () => {
    const { port, deaths, pipeline } = await scripted({ threads: 1 });
    const client = new Client(port);
    await client.ask('say x;go lastwords', 'x');
    client.write('close');
    await until(() => deaths.length === 1 && client.closed);
    await empty(pipeline);
  });

  test('T1: a task that it was at is abandoned, too', async () => {
    const { pipeline, log, deaths } = await scripted({ threads: 1 });
    pipeline.start('first', 99);
    await until(() => deaths.length === 1);
    await log.first('closed');
    await empty(pipeline);
  });

  test('T1: its messages go to the others', async () => {
    const { pipeline, log, deaths, port } = await scripted({ threads: 1 });
    const clients = Array.from({ length: 20 }, () => new Client(port));
    for (const client of clients) await client.ask('say x', 'x');
    const keys = pipeline.connections().map(({ key }) => key);
    pipeline.start('first', 99);
    for (const key of keys) pipeline.post(key, 100);
    await until(() => deaths.length === 1 && log.of('posted').length === 21);
    expect(new Set(log.of('posted').map(({ key }) => key)).size).toBe(21);
  });

  test('T1: a listener goes on accepting, whoever dies', async () => {
    const { port, deaths } = await scripted({ threads: 2 });
    for (let round = 1; round <= 4; round++) {
      new Client(port).write('exit');
      await until(() => deaths.length === round);
      await Promise.all(Array.from({ length: 5 }, () => new Client(port).ask('say here', 'here')));
    }
  });

  test('T1: what lives in a thread is made anew by the one that takes over', async () => {
    const { port, log, deaths } = await scripted({ threads: 3, local: true });
    const client = new Client(port);
    await client.ask('say x;go careful', 'x');
    client.forget();
    client.write('exit');
    await until(() => deaths.length === 1 && client.text.includes('abandoned'));
    const [told] = log.of('abandoned');
    expect(told).toMatchObject({ local: { made: told!.threadId, by: told!.key } });
  });
});

describe('objects of one thread', () => {
  test('`local` is made once for each connection, and pins it to that thread', async () => {
    const { port } = await scripted({ threads: 4, local: true });
    const clients = Array.from({ length: 12 }, () => new Client(port));
    const threads = new Set<number>();
    await Promise.all(clients.map((client) => client.ask('say x;go local', 'x')));
    for (let round = 0; round < 6; round++) {
      await Promise.all(clients.map((client) => client.ask('?', '}')));
      for (const { text } of clients) {
        const { made, threadId, times } = JSON.parse(text) as Record<string, number>;
        expect(made).toBe(threadId);
        expect(times).toBe(round + 1);
        threads.add(threadId!);
      }
    }
    expect(threads.size).toBeGreaterThan(0);
  });

  test('one that throws is a failure of the connection', async () => {
    const { port, failures, pipeline } = await scripted({ local: true });
    const client = new Client(port);
    await client.ask('say x;handoff second', 'from');
    await client.ask('local bad;handoff first', '').catch(() => undefined);
    await until(() => failures.length > 0 && client.closed);
    expect(failures[0]).toMatchObject({ event: 'local', stage: 'first' });
    await empty(pipeline);
  });
});

describe('a module that does not load', () => {
  const loads = (): SharedArrayBuffer => new SharedArrayBuffer(4);

  test.each(['throw', 'exit', 'reject', 'wrong'])('`ready` rejects: %s', async (how) => {
    const pipeline = newPipeline({
      fragile: { stage: fixture('fragile.mjs'), threads: 2, data: { loads: loads(), how } },
    });
    const error = await failureOf(() => pipeline.ready());
    const codes: Record<string, string | undefined> = {
      throw: 'FRAGILE',
      exit: 'ERR_STAGE_THREAD_EXIT',
      reject: undefined,
      wrong: 'ERR_STAGE_MODULE',
    };
    expect(codeOf(error)).toBe(codes[how]);
    expect(pipeline.closed).toBe(true);
    const listening = await failureOf(() => pipeline.listen('fragile', { port: 0 }));
    expect(codeOf(listening)).toBe(codes[how]);
    await pipeline.close();
  });

  test('`ready` rejects where there is data, and the module exports no function that takes it', async () => {
    const pipeline = newPipeline({
      echo: { stage: fixture('echo.mjs'), threads: 1, data: { loads: loads() } },
    });
    const error = await failureOf(() => pipeline.ready());
    expect(codeOf(error)).toBe('ERR_STAGE_MODULE');
    expect(error.message).toMatch(/^Stage 'echo': its data would reach nobody: .*a function of it/);
    await pipeline.close();
  });

  test('for the second time: the pipeline fails, and closes', async () => {
    const counter = loads();
    const pipeline = newPipeline({
      fragile: {
        stage: fixture('fragile.mjs'),
        threads: 2,
        data: { loads: counter, after: 2, how: 'throw' },
      },
    });
    const failed = new Promise<Error>((resolve) => pipeline.once('error', resolve));
    await pipeline.ready();
    pipeline.start('fragile', 99);
    expect(codeOf(await failed)).toBe('FRAGILE');
    await pipeline.close();
  });

  test('threads that die faster than they work: the pipeline fails, and closes', async () => {
    const deaths: unknown[] = [];
    const pipeline = newPipeline({
      fragile: {
        stage: fixture('fragile.mjs'),
        threads: 1,
        data: { loads: loads(), how: 'later' },
      },
    });
    pipeline.on('threadExit', (death) => deaths.push(death));
    const failed = new Promise<Error>((resolve) => pipeline.once('error', resolve));
    expect(codeOf(await failed)).toBe('ERR_STAGE_THREAD_EXIT');
    expect(deaths).toHaveLength(5);
    await pipeline.close();
  });
});

describe('terminate and close', () => {
  test('T1: close() while handlers are async, threads die and connections come', async () => {
    const { pipeline, port } = await scripted({ threads: 2 });
    const clients = Array.from({ length: 20 }, () => new Client(port));
    await Promise.all(clients.map((client) => client.ask('say x', 'x')));
    for (const [i, client] of clients.entries()) client.write(i % 5 === 4 ? 'exit' : 'sleep 5');
    await turns(5);
    await pipeline.close();
    await until(() => clients.every(({ closed }) => closed));
  });

  test('close({ grace }) lets connections come to their end', async () => {
    const { pipeline, port, log } = await scripted();
    const client = new Client(port);
    await client.ask('say x', 'x');
    const closing = pipeline.close({ grace: 30_000 });
    await client.ask('say still there', 'still there');
    client.socket.end();
    await closing;
    const refused = new Client(port);
    await until(() => refused.closed);
    expect(refused.error).toMatchObject({ code: 'ECONNREFUSED' });
    expect(log.of('closed')).toHaveLength(1);
    expect(await failureOf(() => pipeline.start('first'))).toMatchObject({
      code: 'ERR_PIPELINE_CLOSED',
    });
  });

  test('close() closes what is left; the `closed` handlers run', async () => {
    const { pipeline, port, log } = await scripted();
    const clients = Array.from({ length: 10 }, () => new Client(port));
    await Promise.all(clients.map((client) => client.ask('say x', 'x')));
    await pipeline.close({ grace: 50 });
    await until(() => clients.every(({ closed }) => closed));
    await until(() => log.of('closed').length === 10);
  });

  test('T2: nothing is left of a pipeline: threads, descriptors', async () => {
    const { readdirSync } = await import('node:fs');
    const count = (): number => readdirSync('/proc/self/fd').length;
    const tasks = (): number => readdirSync('/proc/self/task').length;
    const round = async (): Promise<void> => {
      const pipeline = newPipeline({ fragile: here() });
      const { port } = await pipeline.listen('fragile', { host: '127.0.0.1', port: 0 });
      const client = new Client(port);
      await until(() => pipeline.stats().connections === 1);
      await pipeline.close();
      await until(() => client.closed);
    };
    const here = () => ({
      stage: fixture('fragile.mjs'),
      threads: 2,
      data: { loads: loadsOf(), after: 1000 },
    });
    const loadsOf = (): SharedArrayBuffer => new SharedArrayBuffer(4);
    await round();
    await sleep(50);
    const [descriptors, threads] = [count(), tasks()];
    for (let i = 0; i < 3; i++) await round();
    await until(() => count() <= descriptors && tasks() <= threads);
  });
});
