import { expect, test, vi } from 'vitest';
import dns from 'node:dns';
import { library, newPort, outputOf, sleep } from './support/harness';

const stage = new URL('./stage/fixtures/echo.mjs', import.meta.url).href;

/** Everything that drives the library stands still, once that is loaded. */
const still = `
  import { mock } from 'node:test';
  mock.timers.enable({ apis: ['setTimeout', 'setInterval', 'setImmediate', 'Date'] });
`;
/** Beyond what node:test replaces: sinon, vitest and jest do. */
const more = `
  process.nextTick = globalThis.queueMicrotask = () => undefined;
  performance.now = () => 0;
`;

test('timers that tests replace do not stop a port', async () => {
  const printed = await outputOf(`${still}${more}
    const port = new CompletionPort();
    const listener = await port.listen({ host: '127.0.0.1', port: 0 });
    const where = { host: '127.0.0.1', port: listener.address().port, timeout: 30_000 };
    const [served, socket] = await Promise.all([listener.accept(), port.connect(where)]);
    // More than the event loop is kept from its other work for.
    for (let i = 0; i < 300; i++) {
      await socket.send('x');
      await served.receive();
    }
    await port.timer().wait(1);
    const receive = served.receive();
    receive.cancel();
    await receive.catch(({ code }) => process.stdout.write(code));
    await port.close();
  `);
  expect(printed).toBe('ECANCELED');
});

test('timers that tests replace do not stop a pipeline', async () => {
  const printed = await outputOf(`${still}
    import net from 'node:net';
    import { Pipeline } from ${JSON.stringify(library.replace('index.js', 'stages.js'))};
    const pipeline = new Pipeline({ a: { stage: new URL(${JSON.stringify(stage)}), threads: 1 } });
    const { port } = await pipeline.listen('a', { host: '127.0.0.1', port: 0 });
    const client = net.connect(port, '127.0.0.1').on('error', () => undefined);
    await new Promise((resolve) => client.once('data', resolve).write('x'));
    // It looks again and again whether the last connection has gone.
    await pipeline.close({ grace: 0 });
    process.stdout.write('closed');
  `);
  expect(printed).toBe('closed');
});

test.each([2 ** 31, 2 ** 32 - 1])(
  'O6: a timeout of %i ms, more than a timer of Node.js takes, does not pass at once',
  async (timeout) => {
    // Finding the name takes longer than a timer does that fires at once.
    const lookup = vi.spyOn(dns.promises, 'lookup').mockImplementation((async () => {
      await sleep(50);
      return [{ address: '127.0.0.1', family: 4 }];
    }) as never);
    try {
      const port = newPort();
      const listener = await port.listen({ host: 'a.name', port: 0, timeout });
      await port.connect({ host: 'a.name', port: listener.address()!.port, timeout });
      expect(lookup).toHaveBeenCalledTimes(2);
    } finally {
      lookup.mockRestore();
    }
  },
);
