/** Workers that end with micro-threads in every state: terminated, or by process.exit(). */
import { Worker } from 'node:worker_threads';
import { expect, test } from 'vitest';
import { newPort, newSeed, Random, rawServer, sleep, until } from '../support/harness';

/** A whole run, which CI may lengthen: COMPLETION_PORT_TEST_WORKERS=200. */
const WORKERS = Number(process.env['COMPLETION_PORT_TEST_WORKERS'] ?? 40);
const busy = new URL('fixtures/busy.mjs', import.meta.url);

test.each(['terminate()', 'process.exit()'])(
  'T1: workers with micro-threads in every state end by %s at random moments',
  { timeout: 240_000 },
  async (how) => {
    const random = new Random(newSeed(`micro-threads, ${how}`));
    const port = newPort({ concurrency: 4 });
    const server = await rawServer((socket) => {
      socket.on('data', (bytes) => socket.write(bytes));
      socket.on('error', () => undefined);
    });
    let begun = 0;
    let cleaned = 0;
    await Promise.all(
      Array.from({ length: 4 }, async () => {
        while (begun++ < WORKERS) {
          const exits = how === 'process.exit()';
          const end = exits ? random.below(20) : undefined;
          const worker = new Worker(busy, {
            workerData: { token: port.token, tcpPort: server.port, end },
            execArgv: ['--no-warnings'],
          });
          const ended = new Promise<unknown>((resolve) => {
            worker.once('exit', resolve);
            worker.once('error', resolve);
          });
          worker.on('message', (message) => {
            if (message === 'finally') cleaned++;
          });
          await new Promise((resolve) => worker.once('message', resolve));
          if (!exits) {
            await sleep(random.below(20));
            await worker.terminate();
          }
          expect(await ended).toBeTypeOf('number');
        }
      }),
    );
    if (how === 'process.exit()') expect(cleaned).toBe(WORKERS);
    await until(() => port.stats().threads === 1 && port.stats().handles === 0);
  },
);
