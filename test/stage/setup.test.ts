/** `setup` and `teardown`: what the handlers of one thread share. */
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { defineStage } from '../../dist/stages.js';
import { codeOf, failureOf, temporaryDirectory, temporaryFile, until } from '../support/harness';
import { fixture, newPipeline, Pipeline } from '../support/stages';
import { prepared } from './fixtures/prepared.mjs';

interface Options {
  readonly fails?: string;
  readonly hangs?: 'setup' | 'teardown';
  readonly waits?: string;
}

function begun(threads: number, options: Options = {}): { pipeline: Pipeline; lines(): string[] } {
  const log = temporaryFile('');
  const data = { log, ...options };
  const pipeline = new Pipeline({
    work:
      threads === 0
        ? { stage: prepared(data), threads }
        : { stage: fixture('prepared.mjs'), threads, data },
  });
  onTestFinished(() => pipeline.close().catch(() => undefined));
  return { pipeline, lines: () => readFileSync(log, 'utf8').trim().split('\n') };
}

const starts = (all: string[], what: RegExp): string[] => all.filter((line) => what.test(line));

test.each([0, 1, 3])('run once in each of %d threads, around its packets', async (threads) => {
  const { pipeline, lines } = begun(threads);
  await pipeline.ready();
  const names = Array.from({ length: Math.max(1, threads) }, (_, i) => `work ${i}`);
  expect(lines().sort()).toEqual(names.map((name) => `${name} begins`));
  for (let i = 0; i < 20; i++) pipeline.start('work', 100 + i);
  await until(() => pipeline.stats().connections === 0);
  await pipeline.close();
  const all = lines();
  expect(starts(all, /writes/)).toHaveLength(20);
  expect(starts(all, /ends/).sort()).toEqual(names.map((name) => `${name} ends`));
  for (const name of names) {
    const own = all.filter((line) => line.startsWith(name));
    expect([own[0], own.at(-1)]).toEqual([`${name} begins`, `${name} ends`]);
  }
});

test.each([0, 2])('a setup that throws: ready() rejects with it (%d threads)', async (threads) => {
  const { pipeline, lines } = begun(threads, { fails: 'setup' });
  const error = await failureOf(() => pipeline.ready());
  expect([codeOf(error), error.message]).toEqual(['NOT_TODAY', 'not today']);
  await pipeline.close();
  // What did not begin does not end.
  expect(starts(lines(), /ends/)).toEqual([]);
});

test.each([0, 2])(
  'a teardown that throws: all is closed, then close() rejects (%d threads)',
  async (threads) => {
    const { pipeline, lines } = begun(threads, { fails: 'teardown' });
    await pipeline.ready();
    let closed = 0;
    pipeline.on('close', () => closed++);
    const closing = pipeline.close();
    expect(await failureOf(() => closing)).toMatchObject({ message: 'no good end' });
    expect([closed, pipeline.closed, pipeline.close() === closing]).toEqual([1, true, true]);
    expect(starts(lines(), /ends/)).toHaveLength(Math.max(1, threads));
  },
);

test('a teardown that never ends: all is closed, then close() rejects with ETIMEDOUT', async () => {
  const errors = await Promise.all(
    [0, 2].map(async (threads) => {
      const { pipeline, lines } = begun(threads, { hangs: 'teardown' });
      await pipeline.ready();
      const error = await failureOf(() => pipeline.close());
      expect(pipeline.closed).toBe(true);
      expect(starts(lines(), /ends/)).toHaveLength(Math.max(1, threads));
      const { code, syscall, timeout, stage } = error as NodeJS.ErrnoException & {
        timeout?: boolean;
        stage?: string;
      };
      return { code, syscall, timeout, stage, message: error.message };
    }),
  );
  expect(errors[0]).toMatchObject({ code: 'ETIMEDOUT', timeout: true, stage: 'work' });
  expect(errors[1]).toEqual(errors[0]);
});

test.each([0, 1])('closing waits for a setup, then runs teardown (%d threads)', async (threads) => {
  const waits = path.join(temporaryDirectory(), 'go on');
  const { pipeline, lines } = begun(threads, { waits });
  const ready = failureOf(() => pipeline.ready());
  await until(() => lines().includes('work 0 begins'));
  const closing = pipeline.close();
  expect(codeOf(await ready)).toBe('ERR_PIPELINE_CLOSED');
  writeFileSync(waits, '');
  await closing;
  expect(lines()).toEqual(['work 0 begins', 'work 0 ends']);
});

test('a setup that never ends is left behind as a teardown is', async () => {
  const closing = [0, 1].map(async (threads) => {
    const { pipeline, lines } = begun(threads, { hangs: 'setup' });
    await until(() => lines().includes('work 0 begins'));
    const error = await failureOf(() => pipeline.close());
    expect(error).toMatchObject({ code: 'ETIMEDOUT', timeout: true, stage: 'work' });
    expect(lines()).toEqual(['work 0 begins']);
  });
  await Promise.all(closing);
});

test('a setup without a teardown is not waited for', async () => {
  let began = false;
  const setup = (): Promise<void> => ((began = true), new Promise(() => undefined));
  const stage = defineStage({ setup, states: { one: {} } });
  const pipeline = newPipeline({ one: { stage, threads: 0 } });
  const ready = failureOf(() => pipeline.ready());
  await until(() => began);
  await pipeline.close();
  expect(codeOf(await ready)).toBe('ERR_PIPELINE_CLOSED');
});

test('closing while a module is loaded: whoever waits for the pipeline hears of it', async () => {
  const pipeline = newPipeline({ one: { stage: fixture('never-loads.mjs'), threads: 1 } });
  const waiting = [
    failureOf(() => pipeline.ready()),
    failureOf(() => pipeline.listen('one', { host: '127.0.0.1', port: 0 })),
  ];
  await pipeline.close();
  const codes = (await Promise.all(waiting)).map(codeOf);
  expect(codes).toEqual(['ERR_PIPELINE_CLOSED', 'ERR_PIPELINE_CLOSED']);
});

test('a thread that takes the place of a dead one runs setup; the dead one no teardown', async () => {
  const { pipeline, lines } = begun(1);
  await pipeline.ready();
  pipeline.start('work', 13);
  await until(() => starts(lines(), /begins/).length === 2);
  pipeline.start('work', 7);
  await until(() => lines().includes('work 0 writes 7'));
  await pipeline.close();
  expect(lines()).toEqual(['work 0 begins', 'work 0 begins', 'work 0 writes 7', 'work 0 ends']);
});

test('a replacement whose setup throws ends the pipeline with an error', async () => {
  const { pipeline } = begun(1, { fails: 'second setup' });
  await pipeline.ready();
  const failed = new Promise<Error>((resolve) => pipeline.on('error', resolve));
  const closed = new Promise<void>((resolve) => pipeline.on('close', () => resolve()));
  pipeline.start('work', 13);
  expect((await failed).message).toBe('not today');
  await closed;
});
