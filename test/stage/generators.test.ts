/** Handlers that are generators. */
import { existsSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import path from 'node:path';
import { expect, test } from 'vitest';
import { MicroThread } from '../../dist/micro.js';
import { defineStage, type StageFailure } from '../../dist/stages.js';
import { codeOf, outputOf, temporaryDirectory, until } from '../support/harness';
import { Client, empty, fixture, newPipeline } from '../support/stages';

async function generators(threads = 1) {
  const definition = fixture('generators.mjs');
  const stage =
    threads === 0 ? ((await import(definition.href)) as { default: never }).default : definition;
  const pipeline = newPipeline({ talk: { stage, threads } as never });
  const failures: StageFailure[] = [];
  pipeline.on('failed', (failure) => failures.push(failure));
  const { port } = await pipeline.listen('talk', { host: '127.0.0.1', port: 0 });
  return { pipeline, port, failures };
}

test.each([1, 0])(
  'a generator waits, with the connection and its bytes (%i threads)',
  async (n) => {
    const { pipeline, port, failures } = await generators(n);
    const client = new Client(port);
    await client.ask('now at-once', 'at-once\n');
    await client.ask('later x', 'x 1 7\n');
    await client.ask('other', 'entered\n');
    await client.ask('name', 'entered\n');
    await client.ask('close', 'bye\n');
    await until(() => client.ended);
    await empty(pipeline);
    expect(failures).toEqual([]);
  },
);

test('D8: what follows waits until the generator is done', async () => {
  const { port } = await generators();
  const client = new Client(port);
  client.write('slow a');
  await until(() => client.text.includes('begins a'));
  client.write('slow b');
  await until(() => client.text.includes('ends b'));
  expect(client.text).toBe('begins a\nends a\nbegins b\nends b\n');
  const clients = Array.from({ length: 20 }, () => new Client(port));
  await Promise.all(clients.map((one, i) => one.ask(`later n${i}`, `n${i} 1 `)));
});

test('errors reach `failed`, wherever they are thrown', async () => {
  const { port, failures } = await generators();
  const client = new Client(port);
  await client.ask('fail', 'failed E_HANDLER\n');
  await client.ask('failNow', 'failed E_HANDLER\n');
  await client.ask('nowhere', 'failed ERR_UNKNOWN_STATE\n');
  await client.ask('now still-there', 'still-there\n');
  await until(() => failures.length === 3);
  expect(failures.map(({ event, error }) => `${event} ${codeOf(error)}`)).toEqual([
    ...['received E_HANDLER', 'received E_HANDLER', 'received ERR_UNKNOWN_STATE'],
  ]);
});

test('an async generator is refused: `failed` is called, and the connection closed', async () => {
  const posted = async function* (c: { close(): unknown }): AsyncGenerator {
    yield await Promise.resolve();
    return c.close();
  };
  const told: string[] = [];
  const stage = defineStage({
    states: {
      one: {
        posted: posted as never,
        failed: (c, error) => (told.push(codeOf(error)!), c.close()),
        closed: () => void told.push('closed'),
      },
    },
  });
  const pipeline = newPipeline({ one: { stage, threads: 0 } });
  await pipeline.ready();
  pipeline.start('one', 1);
  await until(() => told.includes('closed'));
  expect(told).toEqual(['ERR_UNKNOWN_STATE', 'closed']);
});

test.each([1, 0])(
  'closing the pipeline ends those that wait: clean-up runs (%i threads)',
  async (n) => {
    const { pipeline, port } = await generators(n);
    const files = ['a', 'b'].map((name) => path.join(temporaryDirectory(), name));
    const clients = files.map(() => new Client(port));
    await Promise.all(clients.map((client, i) => client.ask(`forever ${files[i]}`, 'waits\n')));
    expect(files.map((file) => existsSync(file))).toEqual([false, false]);
    await pipeline.close();
    expect(files.map((file) => readFileSync(file, 'utf8'))).toEqual(['cleaned', 'cleaned']);
  },
);

test('one that waits is listed by its stage, its handler, and where the stage is defined', async () => {
  const { port } = await generators(0);
  const client = new Client(port);
  client.write('slow a');
  await until(() => client.text.includes('begins a'));
  const [waiting] = MicroThread.list().filter(({ name }) => name === 'talk.received');
  const file = fixture('generators.mjs').href;
  const line = readFileSync(fileURLToPath(file), 'utf8')
    .split('\n')
    .findIndex((text) => text.includes('defineStage({'));
  expect(waiting).toMatchObject({ operation: 'sleep of 30 ms' });
  expect(waiting!.spawnedAt).toMatch(/^talk\.received \(.*generators\.mjs:\d+:\d+\)$/);
  expect(waiting!.spawnedAt).toContain(`generators.mjs:${line + 1}:`);
  await until(() => client.text.includes('ends a'));
});

test('micro-threads are loaded with the first handler that is a generator', async () => {
  const output = await outputOf(
    `
    import { createRequire } from 'node:module';
    import net from 'node:net';
    import path from 'node:path';
    const require = createRequire(path.resolve('x.js'));
    const { Pipeline, defineStage } = require('./dist/stages.js');
    const loaded = () => Object.keys(require.cache).some((file) => /dist.micro/.test(file));
    const stage = defineStage({ states: { one: {
      received: (c, bytes) => String(bytes) === 'g' ? (function* () { c.send('g'); })() : void c.send('p'),
    } } });
    const pipeline = new Pipeline({ one: { stage, threads: 0 } });
    const { port } = await pipeline.listen('one', { host: '127.0.0.1', port: 0 });
    const socket = net.connect(port, '127.0.0.1');
    for (const text of ['p', 'g']) {
      socket.write(text);
      await new Promise((resolve) => socket.once('data', resolve));
      console.log(text, loaded());
    }
    socket.destroy();
    await pipeline.close();`,
    { bare: true },
  );
  expect(output).toBe('p false\ng true');
});
