import { expect, onTestFinished, test } from 'vitest';
import { newSeed, ofDriver, Random, until } from '../support/harness';
import { disturb, live, wanderers } from '../support/wandering.mjs';

async function round(seed: number, crashes: number, clients: number): Promise<number> {
  const random = new Random(seed);
  const pipeline = wanderers(random, { ...ofDriver, crashes });
  onTestFinished(() => pipeline.close());
  const errors: Error[] = [];
  pipeline.on('error', (error) => errors.push(error));
  const { port } = await pipeline.listen('one', { host: '127.0.0.1', port: 0 });
  const { stop } = disturb(pipeline, random);
  const lives = await Promise.all(
    Array.from({ length: clients }, () => live(port, new Random(random.below(2 ** 31)), 150_000)),
  );
  stop();
  const sum = (name: 'closed' | 'handedOff'): number =>
    Object.values(pipeline.stats().stages).reduce((total, stage) => total + stage[name], 0);
  // A client may be gone before its connection is accepted.
  const over = (): boolean =>
    pipeline.stats().connections === 0 && (crashes > 0 || sum('closed') === clients);
  await until(() => over() || errors.length > 0);
  expect(errors).toEqual([]);
  const { restarts } = pipeline.stats();
  expect(sum('handedOff')).toBeGreaterThan(clients);
  // A thread that dies is in the middle of one connection, or of those whose promises it awaits.
  if (crashes === 0) expect(lives.filter(({ lost }) => lost)).toEqual([]);
  expect(restarts).toBeLessThanOrEqual(crashes);
  await pipeline.close();
  return restarts;
}

test('model: every byte comes back once, in order, and every record is released', async () => {
  const seed = newSeed('model');
  for (let i = 0; i < 3; i++) await round(seed + i, 0, 24);
});

test('model: the same while threads die', async () => {
  const seed = newSeed('model with deaths');
  let restarts = 0;
  // Whether one dies is up to the messages that reach it.
  for (let i = 0; i < 3 || (restarts === 0 && i < 30); i++)
    restarts += await round(seed + i, 6, 24);
  expect(restarts).toBeGreaterThan(0);
});
