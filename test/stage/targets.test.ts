/** The names of stages that a definition hands over to: `stages`. */
import { describe, expect, onTestFinished, test } from 'vitest';
import { defineStage, type StageFailure } from '../../dist/stages.js';
import { codeOf, failureNow, failureOf, until } from '../support/harness';
import { fixture, newPipeline, Pipeline } from '../support/stages';

const end = defineStage({ states: { idle: { handedOff: (c) => c.close() } } });
const sending = (stages: readonly string[] | undefined, name: string): typeof end =>
  defineStage({
    stages,
    states: { idle: { posted: (c) => c.handOff(name), failed: (c) => c.close() } },
  }) as typeof end;

describe('a stage that the pipeline does not have', () => {
  test('of a stage in this thread: new Pipeline throws, with both names and those there are', () => {
    const stage = sending(['work', 'wrok'], 'work');
    const stages = { first: { stage, threads: 0 }, work: { stage: end, threads: 0 } } as const;
    const error = failureNow(() => new Pipeline(stages));
    expect(codeOf(error)).toBe('ERR_UNKNOWN_STAGE');
    expect(error.message).toBe(
      "Stage 'first' hands over to 'wrok' (definition.stages), which is not in this pipeline; it " +
        "has 'first', 'work'",
    );
  });

  test('of a module: ready() rejects so, and listen() as well', async () => {
    const data = { stages: ['work', 'wrok'], names: ['work'] };
    const pipeline = newPipeline({
      first: { stage: fixture('sender.mjs'), threads: 2, data },
      work: { stage: end, threads: 0 },
    });
    const listening = failureOf(() => pipeline.listen('first', { port: 0 }));
    const error = await failureOf(() => pipeline.ready());
    expect([codeOf(error), codeOf(await listening)]).toEqual([
      'ERR_UNKNOWN_STAGE',
      'ERR_UNKNOWN_STAGE',
    ]);
    expect(error.message).toMatch(/^Stage 'first' hands over to 'wrok' .* has 'first', 'work'$/);
    expect(pipeline.closed).toBe(true);
  });
});

/** What becomes of one task of `first`, which hands it to `name`. */
async function fate(threads: number, stages: string[] | undefined, name: string): Promise<string> {
  const data = { stages, names: [name] };
  const first =
    threads === 0
      ? ({ stage: sending(stages, name), threads: 0 } as const)
      : { stage: fixture('sender.mjs'), threads, data };
  const pipeline = newPipeline({
    first,
    work: { stage: end, threads: 0 },
    log: { stage: end, threads: 0 },
  });
  const failures: StageFailure[] = [];
  pipeline.on('failed', (failure) => failures.push(failure));
  onTestFinished(() => pipeline.close());
  await pipeline.ready();
  pipeline.start('first', 0);
  await until(() => pipeline.stats().connections === 0);
  if (pipeline.stats().stages['first']!.failures === 0) return 'handed over';
  await until(() => failures.length > 0);
  return `${codeOf(failures[0]!.error)}: ${failures[0]!.error.message}`;
}

describe.each([0, 1])('c.handOff (%d threads)', (threads) => {
  test('to a stage that is listed', async () => {
    expect(await fate(threads, ['work'], 'work')).toBe('handed over');
  });

  test('to any, where none are listed', async () => {
    expect(await fate(threads, undefined, 'log')).toBe('handed over');
  });

  test('to one that is there and not listed fails', async () => {
    expect(await fate(threads, ['work'], 'log')).toBe(
      "ERR_UNKNOWN_STAGE: Stage 'first' does not hand over to 'log': definition.stages names 'work'",
    );
  });

  test('to one that is not there fails, listed or not', async () => {
    expect(await fate(threads, undefined, 'nowhere')).toMatch(/^ERR_UNKNOWN_STAGE: .*'nowhere'/);
    expect(await fate(threads, ['work'], 'nowhere')).toMatch(/^ERR_UNKNOWN_STAGE: .*'nowhere'/);
  });
});
