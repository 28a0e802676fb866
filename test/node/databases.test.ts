/** ioredis and pg over a port, with the real servers at the other end. */
import { once } from 'node:events';
import { Redis } from 'ioredis';
import { Client } from 'pg';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { over } from '../../dist/node.js';
import { newPort, windows } from '../support/harness';
import { noPostgres, startPostgres, type Postgres } from '../support/postgres';
import { noRedis, startRedis, type Redis as Server } from '../support/redis';

/** Where everything is to be there, what is missing is a failure. */
const ci = process.env['CI'] !== undefined;

describe.skipIf(windows || (noRedis !== undefined && !ci))('Redis', () => {
  let server: Server;
  beforeAll(async () => void (server = await startRedis()));
  afterAll(() => server.stop());

  function client(): Redis {
    const { hostname: host, port } = new URL(server.url);
    const { Connector } = over(newPort({ concurrency: 1 }));
    return new Redis({ host, port: Number(port), Connector: Connector as never });
  }

  test('commands, pipelines and large values come back as they were', async () => {
    const redis = client();
    expect(await redis.set('key', 'value')).toBe('OK');
    expect(await redis.get('key')).toBe('value');
    const large = Buffer.alloc(5_000_000, 'large ');
    await redis.set('large', large);
    expect((await redis.getBuffer('large'))!.equals(large)).toBe(true);
    const pipeline = redis.pipeline();
    for (let i = 0; i < 1000; i++) pipeline.incr('counter');
    const results = (await pipeline.exec())!;
    expect(results.map(([, value]) => value)).toEqual(
      Array.from({ length: 1000 }, (_, i) => i + 1),
    );
    redis.disconnect();
    await once(redis, 'end');
  });

  test('what is published arrives, and a client that was cut off comes back', async () => {
    const [subscriber, publisher] = [client(), client()];
    await subscriber.subscribe('news');
    const heard = once(subscriber, 'message');
    await publisher.publish('news', 'something');
    expect(await heard).toEqual(['news', 'something']);
    const again = once(subscriber, 'ready');
    await publisher.call('CLIENT', 'KILL', 'TYPE', 'pubsub');
    await again;
    const heardAgain = once(subscriber, 'message');
    // Until it is subscribed again nobody is told.
    while ((await publisher.publish('news', 'more')) === 0);
    expect(await heardAgain).toEqual(['news', 'more']);
    for (const redis of [subscriber, publisher]) {
      redis.disconnect();
      await once(redis, 'end');
    }
  });
});

describe.skipIf(windows || (noPostgres !== undefined && !ci))('PostgreSQL', () => {
  let server: Postgres;
  beforeAll(async () => void (server = await startPostgres()));
  afterAll(() => server.stop());

  async function client(host: string): Promise<Client> {
    const { port, user } = server;
    const { stream } = over(newPort({ concurrency: 1 }));
    const pg = new Client({ host, port, user, database: 'postgres', stream: stream as never });
    await pg.connect();
    return pg;
  }

  test.each(['TCP', 'a UNIX socket'])('queries over %s', async (way) => {
    const pg = await client(way === 'TCP' ? '127.0.0.1' : server.directory);
    const { rows } = await pg.query<{ sum: number }>('SELECT $1::int + $2::int AS sum', [20, 22]);
    expect(rows).toEqual([{ sum: 42 }]);
    await expect(pg.query('SELECT nothing')).rejects.toMatchObject({ code: '42703' });
    await pg.query('CREATE TEMP TABLE numbers (n int, text text)');
    const text = 'x'.repeat(2_000_000);
    await pg.query('INSERT INTO numbers SELECT n, $1 FROM generate_series(1, 3) AS n', [text]);
    const stored = await pg.query<{ n: number; text: string }>('SELECT * FROM numbers ORDER BY n');
    expect(stored.rows.map(({ n }) => n)).toEqual([1, 2, 3]);
    for (const row of stored.rows) expect(row.text).toBe(text);
    await pg.end();
  });

  test('a notification arrives, and a connection that the server ends is an error', async () => {
    const [listener, other] = [await client('127.0.0.1'), await client('127.0.0.1')];
    await listener.query('LISTEN news');
    const heard = once(listener, 'notification');
    await other.query("NOTIFY news, 'something'");
    expect((await heard)[0]).toMatchObject({ channel: 'news', payload: 'something' });
    const { rows } = await listener.query<{ pid: number }>('SELECT pg_backend_pid() AS pid');
    const failed = once(listener, 'error');
    const ended = new Promise<void>((resolve) => listener.once('end', resolve));
    listener.on('error', () => undefined); // why, and then that it has ended
    await other.query('SELECT pg_terminate_backend($1)', [rows[0]!.pid]);
    expect((await failed)[0]).toBeInstanceOf(Error);
    await ended;
    await other.end();
  });
});
