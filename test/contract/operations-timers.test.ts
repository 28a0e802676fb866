import { describe, expect, test } from 'vitest';
import { codeOf, Collector, failureOf, newPort, take, turns, until } from '../support/harness';

describe('O1', () => {
  test('O1: a timer answers once, never inside of wait()', async () => {
    const port = newPort();
    const timer = port.timer();
    let fired = 0;
    const waiting = timer.wait(0).then(() => fired++);
    expect(fired).toBe(0);
    await waiting;
    await turns();
    expect(fired).toBe(1);
  });

  test('O1: a repeating timer carries `more` until it is stopped', async () => {
    const port = newPort();
    const collector = new Collector(port);
    const timer = port.timer({ key: 4 });
    timer.start(1, { repeat: true });
    await collector.count(5);
    expect(
      collector.packets.every(({ type, more, key }) => type === 'fired' && more && key === 4),
    ).toBe(true);
    timer.stop();
    await until(() => !collector.packets.at(-1)!.more);
    const { length } = collector.packets;
    expect(collector.packets.at(-1)!.error).toMatchObject({ code: 'ECANCELED' });
    await turns(100);
    expect(collector.packets).toHaveLength(length);
  });

  test('O1: a timer that fires once has one packet, without `more`', async () => {
    const port = newPort();
    const timer = port.timer({ key: 4 });
    timer.start(1);
    const [packet] = await take(port, 1);
    expect(packet).toMatchObject({ type: 'fired', key: 4, more: false, value: 1, handle: timer });
    await turns();
    expect([...port.get(8, 0)]).toEqual([]);
  });

  test('O1: a late loop learns how often the timer has fired; no firing is lost or made up', async () => {
    const port = newPort();
    const timer = port.timer({ key: 4 });
    timer.start(2, { repeat: true });
    expect([...port.get(1, 0)]).toEqual([]);
    const until = performance.now() + 60;
    while (performance.now() < until) {
      // The thread is busy.
    }
    let fired = 0;
    for (const packet of port.get(1)) fired = packet.value!;
    expect(fired).toBeGreaterThan(1);
  });
});

describe('O4', () => {
  test('O4: a cancelled timer ends once, with ECANCELED or by itself', async () => {
    const port = newPort();
    const timer = port.timer();
    for (let round = 0; round < 100; round++) {
      const waiting = timer.wait(round % 3);
      if (round % 2) await turns(2);
      waiting.cancel();
      const code = await waiting.then(() => 'fired', codeOf);
      expect(['fired', 'ECANCELED']).toContain(code);
    }
  });

  test('O4: cancelling one of several leaves the others alone', async () => {
    const port = newPort();
    const timers = Array.from({ length: 20 }, () => port.timer());
    const waits = timers.map((timer, i) => timer.wait(i % 2 ? 3_600_000 : 5));
    waits.forEach((wait, i) => i % 2 && wait.cancel());
    const results = await Promise.allSettled(waits);
    expect(results.map(({ status }) => status)).toEqual(
      timers.map((_, i) => (i % 2 ? 'rejected' : 'fulfilled')),
    );
  });

  test('O4: an operation of another thread is cancelled through its handle', async () => {
    const port = newPort();
    const timer = port.timer({ key: 1 });
    timer.start(3_600_000);
    await turns();
    timer.cancel();
    const [packet] = await take(port, 1);
    expect(packet).toMatchObject({ type: 'fired', error: { code: 'ECANCELED' }, more: false });
  });
});

describe('O5', () => {
  test('O5: closing a timer ends it; the closed packet is the last', async () => {
    const port = newPort();
    const collector = new Collector(port);
    const timer = port.timer({ key: 1 });
    timer.start(3_600_000);
    timer.close();
    await collector.count(2);
    await turns();
    expect(collector.packets.map(({ type }) => type)).toEqual(['fired', 'closed']);
  });

  test('O5: closing an awaited timer ends its waits with ECANCELED', async () => {
    const port = newPort();
    const timer = port.timer();
    const waits = [timer.wait(3_600_000), timer.wait(3_600_000)].map((wait) =>
      failureOf(() => wait),
    );
    await timer.close();
    for (const error of await Promise.all(waits)) expect(error.code).toBe('ECANCELED');
  });
});

describe('O6', () => {
  test('O6: waiting longer than the timeout is ETIMEDOUT', async () => {
    const port = newPort();
    const timer = port.timer();
    expect((await failureOf(() => timer.wait(3_600_000, { timeout: 1 }))).code).toBe('ETIMEDOUT');
    await timer.wait(1, { timeout: 3_600_000 });
  });

  test('O6: timers fire in the order of their times, whatever the order of starting', async () => {
    const port = newPort();
    const collector = new Collector(port);
    const delays = [90, 10, 50, 130, 0, 70, 30, 110];
    // One turn of the loop: all are set at about the same moment, far closer than 20 ms would be
    // were it not for stalls, which delay all of them together.
    const timers = delays.map((delay) => port.timer({ key: delay }));
    timers.forEach((timer, i) => timer.start(delays[i]!));
    await collector.count(delays.length);
    const keys = collector.packets.map(({ key }) => key);
    expect(keys).toEqual([...delays].sort((a, b) => a - b));
  });
});

test('every(): a turn for each interval until the loop is left', async () => {
  const port = newPort();
  const timer = port.timer();
  let ticks = 0;
  for await (const count of timer.every(1)) {
    expect(count).toBeGreaterThan(0);
    ticks += count;
    if (ticks >= 5) break;
  }
  await timer.wait(1);
});
