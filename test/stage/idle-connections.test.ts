/** `idleTimeout` of `pipeline.listen`: connections of stages on which nothing moves end. */
import { expect, test } from 'vitest';
import { frames, type StageFailure } from '../../dist/stages.js';
import { until } from '../support/harness';
import { Client, empty, fixture, newPipeline } from '../support/stages';

const where = { host: '127.0.0.1', port: 0, idleTimeout: 100 };

test('O10: a stage hears of it in `failed`, which closes the connection unless it is handled', async () => {
  const pipeline = newPipeline({ echo: { stage: fixture('echo.mjs'), threads: 2 } });
  const failures: StageFailure[] = [];
  pipeline.on('failed', (failure) => failures.push(failure));
  const { port } = await pipeline.listen('echo', where);
  const client = new Client(port);
  await client.ask('hello', 'hello');
  await until(() => client.closed);
  expect(client.error).toBeUndefined();
  await empty(pipeline);
  await until(() => failures.length > 0);
  expect(failures.map(({ error }) => error)).toMatchObject([{ code: 'ETIMEDOUT', timeout: true }]);
});

test('O10: a native stage ends it between documents and in the middle of one', async () => {
  const native = frames({ length: 'u32be', maxLength: 1000 });
  const pipeline = newPipeline({
    spool: { native, next: 'work', threads: 1 },
    work: { stage: fixture('answers.mjs'), threads: 1, data: {} },
  });
  const { port } = await pipeline.listen('spool', where);
  const [between, middle] = [new Client(port), new Client(port)];
  between.write('\0\0\0\x02hi');
  middle.write('\0\0\0\x02h');
  await until(() => between.text === '<hi>');
  await until(() => between.closed && middle.closed);
  await empty(pipeline);
});
