/** Connections that a pipeline turns away: a channel tells of them. */
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { expect, onTestFinished, test } from 'vitest';
import { frames, type StageChannelMessages } from '../../dist/stages.js';
import { until } from '../support/harness';
import { Client, fixture, newPipeline, type Pipeline } from '../support/stages';

const CHANNEL = 'completion-port:connection:refused';
type Message = StageChannelMessages[typeof CHANNEL];

/** The numbers of connections that were refused at each stage of the pipeline. */
function refusals(pipeline: Pipeline): Map<string, number> {
  const counts = new Map<string, number>();
  const hear = (message: unknown): void => {
    const { pipeline: from, stage, count } = message as Message;
    if (from !== pipeline) return;
    expect(count).toBeGreaterThan(0);
    counts.set(stage, (counts.get(stage) ?? 0) + count);
  };
  subscribe(CHANNEL, hear);
  onTestFinished(() => void unsubscribe(CHANNEL, hear));
  return counts;
}

const where = { host: '127.0.0.1', port: 0 };

test('beyond maxConnections of the listener, at a native stage and at one in JavaScript', async () => {
  const pipeline = newPipeline({
    spool: { native: frames({ length: 'u8' }), next: 'echo', threads: 1 },
    echo: { stage: fixture('echo.mjs'), threads: 1 },
  });
  const counts = refusals(pipeline);
  for (const stage of ['spool', 'echo']) {
    const { port } = await pipeline.listen(stage, { ...where, maxConnections: 1 });
    const first = new Client(port);
    await until(() => pipeline.stats().stages[stage]!.connections === 1);
    for (let i = 1; i <= 3; i++) {
      const refused = new Client(port);
      await until(() => refused.closed);
      await until(() => counts.get(stage) === i);
    }
    expect(pipeline.stats().stages[stage]!.refused).toBe(3);
    expect(first.closed).toBe(false);
  }
});

test('beyond maxConnections of the pipeline', async () => {
  const stages = { echo: { stage: fixture('echo.mjs'), threads: 1 } };
  const pipeline = newPipeline(stages, { maxConnections: 2 });
  const counts = refusals(pipeline);
  const { port } = await pipeline.listen('echo', where);
  const all = Array.from({ length: 7 }, () => new Client(port));
  await until(() => counts.get('echo') === 5);
  await until(() => all.filter(({ closed }) => closed).length === 5);
});
