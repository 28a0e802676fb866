/** How long packets waited: `stats().queueWaitMicroseconds`. */
import { expect, test } from 'vitest';
import {
  newPort,
  sleep,
  take,
  temporaryFile,
  until,
  type CompletionPort,
} from '../support/harness';
import { Taker } from '../support/taker';

const waits = (port: CompletionPort) => port.stats().queueWaitMicroseconds;

async function reads(port: CompletionPort, count: number): Promise<void> {
  const file = await port.open(temporaryFile('x'.repeat(100)), 'r', { key: 5 });
  for (let i = 0; i < count; i++) file.read(port.allocate(10), { position: i });
}

test('each packet counts once, with the time it waited for a thread', async () => {
  const port = newPort();
  await reads(port, 5);
  await until(() => port.stats().queueDepth === 5);
  const before = waits(port).count;
  await sleep(50);
  expect(waits(port).count).toBe(before);
  await take(port, 5);
  const after = waits(port);
  expect(after.count).toBe(before + 5);
  // A timer of Node.js may come a little early, by another clock.
  expect(after.max).toBeGreaterThan(45_000);
  expect(after.percentile(100)).toBe(after.max);
});

test('packets that a loop leaves behind count when they are taken at last', async () => {
  const port = newPort();
  await reads(port, 5);
  await until(() => port.stats().queueDepth === 5);
  const before = waits(port).count;
  for (const packet of port.get(5)) {
    expect(packet.type).toBe('read');
    break;
  }
  await take(port, 4);
  expect(waits(port).count).toBe(before + 5);
});

test('answers to awaited operations count, messages do not', async () => {
  const port = newPort();
  const { count } = waits(port);
  const file = await port.open(temporaryFile('x'));
  await file.close();
  expect(waits(port).count).toBe(count + 2);
  for (let i = 0; i < 10; i++) port.post(i, i);
  await take(port, 10);
  expect(waits(port).count).toBe(count + 2);
});

test('threads are counted together, those that have left as well', async () => {
  const port = newPort({ concurrency: 2 });
  const { count } = waits(port);
  const taker = await Taker.start(port, { holds: false });
  await reads(port, 20);
  await until(() => taker.taken.length === 20);
  await taker.worker.terminate();
  await until(() => port.stats().threads === 1);
  expect(waits(port).count).toBe(count + 1 + 20);
});
