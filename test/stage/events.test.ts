import { describe, expect, test } from 'vitest';
import { codeOf, failureOf, sleep, turns, until } from '../support/harness';
import { Client, empty, scripted } from '../support/stages';

describe('events', () => {
  test('entered, received, ended, closed, in this order; then the record is released', async () => {
    const { pipeline, log, port } = await scripted();
    const client = new Client(port);
    await client.ask('say hello', 'hello');
    client.socket.end();
    await log.first('closed');
    expect(log.story()).toEqual(['entered obedient', 'received obedient', 'closed obedient']);
    await empty(pipeline);
    expect(pipeline.stats().stages['first']).toMatchObject({ arrived: 1, closed: 1, failures: 0 });
  });

  test('a returned state is entered; not when it is the one it is in', async () => {
    const { log, port } = await scripted();
    const client = new Client(port);
    await client.ask('say 1;go obedient', '1');
    await client.ask('say 2;go careful', '2');
    await client.ask('say 3', '3');
    await until(() => log.of('sent').length === 1);
    expect(log.story().slice(0, 6)).toEqual([
      'entered obedient',
      'received obedient',
      'received obedient',
      'entered careful',
      'received careful',
      'sent careful',
    ]);
  });

  test('`entered` may go on at once, through several states', async () => {
    const { log, port } = await scripted();
    const client = new Client(port);
    await client.ask('go passing;say x;go passing', 'x');
    await until(() => log.of('entered').length === 3);
    expect(log.of('entered').map(({ state }) => state)).toEqual([
      'obedient',
      'passing',
      'obedient',
    ]);
  });

  test('states that enter each other without end fail', async () => {
    const { log, port, failures, pipeline } = await scripted();
    new Client(port).write('go circle');
    await log.first('closed');
    await until(() => failures.length > 0);
    expect(codeOf(failures[0]!.error)).toBe('ERR_ENDLESS_TRANSITIONS');
    await empty(pipeline);
  });

  test('`sent` is told the bytes of each send', async () => {
    const { log, port } = await scripted();
    const client = new Client(port);
    await client.ask('say x;go careful', 'x');
    await client.ask('say four;say sixsix', 'sixsix');
    await until(() => log.of('sent').length === 2);
    expect(log.of('sent').map(({ bytes }) => bytes)).toEqual([4, 6]);
  });

  test('`posted` comes of c.post and of pipeline.post, with the value', async () => {
    const { pipeline, log, port } = await scripted();
    const client = new Client(port);
    await client.ask('post 1001', 'posted 1001');
    const { key } = pipeline.connections()[0]!;
    pipeline.post(key, 1002.5);
    await until(() => log.of('posted').length === 2);
    expect(log.of('posted').map(({ value }) => value)).toEqual([1001, 1002.5]);
  });

  test('`timeout` comes once, in the state it is in then', async () => {
    const { log, port } = await scripted();
    const client = new Client(port);
    await client.ask('timeout 40;go careful', '').catch(() => undefined);
    await log.first('timeout');
    expect(log.of('timeout').map(({ state }) => state)).toEqual(['careful']);
    await until(() => client.text === 'timeout');
    await client.ask('say on', 'on');
    await turns();
    expect(log.of('timeout')).toHaveLength(1);
  });

  test.each([0, Infinity])('timeout(%d) takes it back', async (none) => {
    const { log, port } = await scripted();
    const client = new Client(port);
    await client.ask('go careful;say a;go careful', 'a');
    await client.ask(`timeout 60;timeout ${none};say b`, 'b');
    await sleep(150);
    await client.ask('say c', 'c');
    expect(log.of('timeout')).toEqual([]);
  });

  test('a timeout that is not handled fails with ETIMEDOUT and closes', async () => {
    const { log, port } = await scripted();
    const client = new Client(port);
    client.write('timeout 1');
    expect(await log.first('failed')).toMatchObject({ code: 'ETIMEDOUT' });
    await until(() => client.closed);
  });

  test('`ended` may still send; without a handler the connection is closed', async () => {
    const { log, port } = await scripted();
    const client = new Client(port, { allowHalfOpen: true });
    await client.ask('say x;go careful', 'x');
    client.forget();
    client.socket.end();
    await until(() => client.ended);
    expect(client.text).toBe('goodbye');
    await log.first('closed');
  });

  test('a reset is `failed` with ECONNRESET, not an end', async () => {
    const { log, port, pipeline } = await scripted();
    const client = new Client(port);
    await client.ask('say x;go careful', 'x');
    client.socket.resetAndDestroy();
    await until(() => log.of('failed').length > 0);
    expect(log.of('failed')[0]).toMatchObject({ code: 'ECONNRESET' });
    expect(log.of('ended')).toEqual([]);
    pipeline.post(log.told[0]!.key, 77);
    await log.first('closed');
  });

  test('close() is carried out when the handler is done; `closed` is the last event', async () => {
    const { log, port, pipeline } = await scripted();
    const client = new Client(port);
    client.write('close;say bye');
    await until(() => client.ended);
    expect(client.text).toBe('bye');
    await log.first('closed');
    expect(log.story().at(-1)).toBe('closed obedient');
    await empty(pipeline);
  });
});

describe('failures', () => {
  test('a handler that throws sends the connection to `failed`, and the pool goes on', async () => {
    const { log, port, failures, pipeline, deaths } = await scripted();
    const client = new Client(port);
    client.write('throw OOPS');
    expect(await log.first('failed')).toMatchObject({ code: 'OOPS', state: 'obedient' });
    await until(() => client.closed && failures.length === 1);
    expect(failures[0]).toMatchObject({ stage: 'first', state: 'obedient', event: 'received' });
    expect(codeOf(failures[0]!.error)).toBe('OOPS');
    await empty(pipeline);
    await new Client(port).ask('say still here', 'still here');
    expect(pipeline.stats().stages['first']!.failures).toBe(1);
    expect(deaths).toEqual([]);
  });

  test('whatever a handler throws is told of, and the pool goes on', async () => {
    const { port, failures, pipeline, deaths } = await scripted();
    const odd = ['message', 'name', 'getter', 'stack', 'proxy', 'inspected', 'nothing'];
    for (const [n, which] of odd.entries()) {
      const client = new Client(port);
      client.write(`odd ${which}`);
      await until(() => client.closed && failures.length === n + 1);
      expect(failures[n]!.error).toBeInstanceOf(Error);
    }
    await empty(pipeline);
    await new Client(port).ask('say still here', 'still here');
    expect(deaths).toEqual([]);
  });

  test('so does one that rejects', async () => {
    const { log, port, pipeline } = await scripted();
    new Client(port).write('reject LATER');
    expect(await log.first('failed')).toMatchObject({ code: 'LATER' });
    await empty(pipeline);
  });

  test('a connection may go on after `failed`', async () => {
    const { port } = await scripted();
    const client = new Client(port);
    await client.ask('say x;go careful', 'x');
    await client.ask('throw ONE', 'failed ONE');
    await client.ask('reject TWO', 'failed TWO');
    await client.ask('say three', 'three');
  });

  test('an unknown state is an error that names the stage, the state and the key', async () => {
    const { log, port } = await scripted();
    const client = new Client(port);
    client.write('go nowhere');
    const failed = await log.first('failed');
    expect(failed).toMatchObject({ code: 'ERR_UNKNOWN_STATE' });
    expect(failed['message']).toContain(`'first'`);
    expect(failed['message']).toContain(`'obedient'`);
    expect(failed['message']).toContain(String(failed.key));
    expect(failed['message']).toContain(`'nowhere'`);
  });

  test('so is anything else that is no state', async () => {
    const { log, port } = await scripted();
    new Client(port).write('return');
    expect(await log.first('failed')).toMatchObject({ code: 'ERR_UNKNOWN_STATE' });
  });

  test('a `failed` that throws closes; both failures are counted', async () => {
    const { log, port, failures, pipeline } = await scripted();
    const client = new Client(port);
    await client.ask('say x;go broken', 'x');
    client.write('throw FIRST');
    await log.first('closed');
    await until(() => failures.length === 2);
    expect(failures.map(({ error }) => codeOf(error))).toEqual(['FIRST', 'AGAIN']);
    await empty(pipeline);
  });

  test('a `closed` that throws is counted, and the record released all the same', async () => {
    const { port, failures, pipeline } = await scripted();
    const client = new Client(port);
    await client.ask('say x;go closing', 'x');
    client.write('close');
    await until(() => failures.length === 1);
    expect(failures[0]).toMatchObject({ event: 'closed' });
    await empty(pipeline);
  });

  test('an `entered` that throws fails in the state it was to enter', async () => {
    const { log, port } = await scripted();
    new Client(port).write('go throwing');
    expect(await log.first('failed')).toMatchObject({ code: 'ENTERED', state: 'throwing' });
  });

  test('an unknown stage or state of a hand-off is an error of the handler', async () => {
    const { port } = await scripted();
    const client = new Client(port);
    await client.ask('say x;go careful', 'x');
    await client.ask('handoff nowhere', 'failed ERR_UNKNOWN_STAGE');
    await client.ask('handoff second nowhere', 'failed ERR_UNKNOWN_STATE');
    await client.ask('close;handoff second', 'failed ERR_INVALID_STATE');
    await client.ask('handoff second', 'from first');
  });
});

describe('the connection object', () => {
  test('used after its handler it throws, whatever the object stands for meanwhile', async () => {
    const { port } = await scripted({ threads: 1 });
    const client = new Client(port);
    await client.ask('keep;say x', 'x');
    const other = new Client(port);
    // It never stands for another connection, be that one's handler at it or asleep.
    await other.ask('stale', 'ERR_CONNECTION_RELEASED');
    for (let i = 0; i < 20; i++) {
      new Client(port).write('sleep 60000');
      await other.ask(`say ${i};stale`, `${i}ERR_CONNECTION_RELEASED`);
    }
    await client.ask('sleep 20;keep;later 1', 'later');
    await other.ask('say again;stale', 'againERR_CONNECTION_RELEASED');
  });

  test('the generation of a record changes: the next connection has another key', async () => {
    const { pipeline, log, port } = await scripted({}, {}, { maxConnections: 1 });
    const keys = new Set<number>();
    for (let i = 0; i < 5; i++) {
      const client = new Client(port);
      await client.ask(`record ${i + 1};say x`, 'x');
      keys.add(pipeline.connections()[0]!.key);
      client.socket.end();
      await empty(pipeline);
    }
    expect(keys.size).toBe(5);
    // Each began with a record that was cleared.
    expect(log.of('entered').map(({ n }) => n)).toEqual([0, 0, 0, 0, 0]);
    const error = await failureOf(() => pipeline.post([...keys][0]!, 1));
    expect(codeOf(error)).toBe('ERR_CONNECTION_GONE');
    expect(pipeline.tryPost([...keys][0]!, 1)).toBe(false);
  });

  test('what is beyond `connections` is refused and counted', async () => {
    const { pipeline, port } = await scripted({}, {}, { maxConnections: 2 });
    const kept = [new Client(port), new Client(port)];
    for (const client of kept) await client.ask('say x', 'x');
    const refused = new Client(port);
    await until(() => refused.closed);
    await until(() => pipeline.stats().refused === 1);
    kept[0]!.socket.end();
    await until(() => pipeline.stats().connections === 1);
    await new Client(port).ask('say in', 'in');
  });
});

describe('promises (rule D8)', () => {
  test('D8: an async handler holds its key: nothing else happens to the connection meanwhile', async () => {
    const { pipeline, log, port } = await scripted();
    const client = new Client(port);
    await client.ask('say x', 'x');
    const { key } = pipeline.connections()[0]!;
    client.write('record 5;later 60');
    await until(() => log.of('received').length === 2);
    pipeline.post(key, 1);
    client.write('record 9;say y');
    await until(() => client.text.includes('y'));
    expect(client.text).toBe('xlater 5y');
    expect(log.story().slice(2)).toEqual([
      'received obedient',
      'posted obedient',
      'received obedient',
    ]);
  });

  test('D8: other connections go on, in the same thread', async () => {
    const { port } = await scripted({ threads: 1 });
    const sleeping = new Client(port);
    await sleeping.ask('say x', 'x');
    sleeping.write('hang');
    await turns();
    await new Client(port).ask('say awake', 'awake');
  });

  test('one that never settles does not keep the pipeline from closing', async () => {
    const { pipeline, log, port } = await scripted();
    new Client(port).write('hang');
    await log.first('received');
    await pipeline.close();
    expect(pipeline.closed).toBe(true);
  });
});
