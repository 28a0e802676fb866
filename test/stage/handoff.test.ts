import { describe, expect, test } from 'vitest';
import { codeOf, failureOf, newSeed, pattern, Random, until } from '../support/harness';
import {
  Client,
  empty,
  fixture,
  newPipeline,
  scripted,
  type Pipeline,
  type StageOptions,
} from '../support/stages';

describe('hand-off', () => {
  test('A3: `entered`, then `handedOff` with the stage it came from; the record travels', async () => {
    const { log, port, pipeline } = await scripted();
    const client = new Client(port);
    await client.ask('record 7;handoff second', 'from first');
    expect(log.told.at(-1)).toMatchObject({
      event: 'handedOff',
      name: 'second',
      from: 'first',
      n: 7,
    });
    expect(log.story().slice(2, 4)).toEqual(['entered obedient', 'handedOff obedient']);
    expect(pipeline.connections()[0]).toMatchObject({ stage: 'second', state: 'obedient' });
    await client.ask('record 9;handoff first', 'from second');
    expect(log.told.at(-1)).toMatchObject({ event: 'handedOff', name: 'first', n: 9 });
    expect(pipeline.stats().stages['first']).toMatchObject({ arrived: 2, handedOff: 1 });
  });

  test('into another state than the initial one', async () => {
    const { log, port } = await scripted();
    const client = new Client(port);
    await client.ask('handoff second careful', 'from first');
    expect(log.of('handedOff')[0]).toMatchObject({ state: 'careful', name: 'second' });
    await client.ask('throw X', 'failed X');
  });

  test('to the stage it is at begins it anew', async () => {
    const { log, port } = await scripted();
    const client = new Client(port);
    await client.ask('say x;go careful', 'x');
    await client.ask('handoff first', 'from first');
    expect(log.told.filter(({ event }) => event === 'handedOff')[0]).toMatchObject({
      state: 'obedient',
    });
    await client.ask('say y', 'y');
  });

  test('a message for a connection that has gone on follows it', async () => {
    const { log, port, pipeline } = await scripted();
    const client = new Client(port);
    await client.ask('say x', 'x');
    const { key } = pipeline.connections()[0]!;
    for (let i = 0; i < 200; i++) pipeline.post(key, 55);
    // Each of those moves it from the first stage to the second; there it is handed to itself.
    pipeline.post(key, 1234);
    await until(() => client.text.includes('posted 1234'));
    expect(log.of('posted').filter(({ value }) => value === 1234)).toHaveLength(1);
  });

  test('a deadline does not go with the connection', async () => {
    const { log, port } = await scripted();
    const client = new Client(port);
    await client.ask('timeout 60;handoff second careful', 'from first');
    await client.ask('say a', 'a');
    await new Promise((resolve) => setTimeout(resolve, 150));
    await client.ask('say b', 'b');
    expect(log.of('timeout')).toEqual([]);
  });

  test('bytes that a state does not want wait, and go with the connection', async () => {
    const { pipeline, log, port } = await scripted();
    const client = new Client(port);
    await client.ask('say x;go deaf', 'x');
    const { key } = pipeline.connections()[0]!;
    client.write('say one');
    await new Promise((resolve) => setTimeout(resolve, 30));
    expect(log.of('received')).toHaveLength(1);
    pipeline.post(key, 1);
    await until(() => client.text.includes('one'));
  });
});

function relays(first: Partial<StageOptions> = {}, second: Partial<StageOptions> = {}): Pipeline {
  const stage = (to: string, every: number, given: Partial<StageOptions>): StageOptions =>
    ({ stage: fixture('relay.mjs'), threads: 2, data: { to, every }, ...given }) as StageOptions;
  return newPipeline({ ping: stage('pong', 1, first), pong: stage('ping', 2, second) });
}

/** Writes `length` bytes in pieces of random size, and compares what comes back. */
async function echo(port: number, length: number, random: Random): Promise<Client> {
  const client = new Client(port);
  const sent = pattern(length);
  for (let at = 0; at < length;) {
    const end = Math.min(length, at + 1 + random.below(random.below(10) === 0 ? 100_000 : 2000));
    client.write(sent.subarray(at, end));
    at = end;
    if (random.below(4) === 0) await new Promise(setImmediate);
  }
  await until(() => client.size >= length || client.closed);
  expect(client.received.equals(sent)).toBe(true);
  return client;
}

describe('hand-off under load', () => {
  const variants: [string, Partial<StageOptions>][] = [
    ['as usual', {}],
    ['affine', { dispatch: 'affine' }],
    ['in the order of states', { order: 'state' }],
    ['one thread', { threads: 1 }],
    ['many threads', { threads: 5, concurrency: 4 }],
  ];
  test.each(variants)('no byte is lost or comes out of order: %s', async (_name, options) => {
    const random = new Random(newSeed('hand-off'));
    const pipeline = relays(options, options);
    const { port } = await pipeline.listen('ping', { host: '127.0.0.1', port: 0 });
    const clients = await Promise.all(
      Array.from({ length: 8 }, () => echo(port, 300_000 + random.below(400_000), random)),
    );
    const { ping, pong } = pipeline.stats().stages as Record<string, { handedOff: number }>;
    expect(ping!.handedOff + pong!.handedOff).toBeGreaterThan(100);
    for (const client of clients) client.socket.end();
    await until(() => clients.every(({ closed }) => closed));
    await empty(pipeline);
    const { stages } = pipeline.stats();
    expect(stages['ping']!.failures + stages['pong']!.failures).toBe(0);
    expect(stages['ping']!.closed + stages['pong']!.closed).toBe(8);
  });

  test('a task goes to and fro thousands of times', async () => {
    const pipeline = relays();
    await pipeline.ready();
    for (let i = 0; i < 8; i++) pipeline.start('ping', 2000);
    await empty(pipeline);
    const { ping, pong } = pipeline.stats().stages as Record<string, { handedOff: number }>;
    expect(ping!.handedOff + pong!.handedOff).toBe(8 * 2000);
  });

  test('a message that is overtaken by a return is not lost when the connection goes on', async () => {
    const stage = (to: string): StageOptions => ({
      stage: fixture('bouncer.mjs'),
      threads: 2,
      data: { to },
    });
    const pipeline = newPipeline({ ping: stage('pong'), pong: stage('ping') });
    await pipeline.ready();
    for (let i = 0; i < 8; i++) pipeline.start('ping', 500);
    await empty(pipeline);
  });

  test('messages posted while a connection moves arrive once each', async () => {
    const { pipeline, log, port } = await scripted({ threads: 3 }, { threads: 3 });
    const client = new Client(port);
    await client.ask('say x', 'x');
    const { key } = pipeline.connections()[0]!;
    const random = new Random(newSeed('messages'));
    for (let i = 1; i <= 1000; i++) {
      const moves = random.below(3) === 0;
      pipeline.post(key, moves ? 55 + random.below(2) : 100 + i / 2000);
      if (random.below(7) === 0) await new Promise(setImmediate);
    }
    await until(() => log.of('posted').length >= 1000);
    const values = log.of('posted').map(({ value }) => value as number);
    const numbered = values.filter((value) => value >= 100);
    expect(values).toHaveLength(1000);
    expect(new Set(numbered).size).toBe(numbered.length);
    await client.ask('say y', 'y');
    expect(codeOf(await failureOf(() => pipeline.post(key ^ 0x100000, 1)))).toBe(
      'ERR_CONNECTION_GONE',
    );
  });
});
