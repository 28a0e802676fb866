/** What all servers among the examples do alike. */
import { describe, expect, test } from 'vitest';
import { pattern, rawClient, rawServer, skipOnWindows, turns } from '../support/harness';
import {
  describeDrivers,
  driverArguments,
  NO_SIGNALS,
  outcome,
  runExample,
  startServer,
  type Driver,
} from '../support/examples';

const signals = ['SIGTERM', 'SIGINT'] as const;

describe.each(['echo', 'proxy', 'spool-server', 'spool-server-net'])('%s', (name) => {
  async function argumentsOf(): Promise<string[]> {
    if (name !== 'proxy') return [];
    const target = await rawServer((socket) => socket.on('data', () => undefined));
    return ['--target', `127.0.0.1:${target.port}`];
  }

  const body = (driver: Driver | 'net') => {
    describe.each([1, 2])('threads: %i', (threads) => {
      test.for(signals)('%s ends it with code 0, connections or not', async (signal, context) => {
        skipOnWindows(context, NO_SIGNALS);
        const server = await startServer(name, driver, threads, await argumentsOf());
        expect(server.ready).toMatch(
          new RegExp(`^listening on 127\\.0\\.0\\.1:\\d+ driver=${driver} threads=${threads}\n$`),
        );
        const clients = await Promise.all(Array.from({ length: 8 }, () => rawClient(server.port)));
        // Some say nothing, some are in the middle of it (a document of 2 MiB, for the spool server),
        // and none reads.
        const header = Buffer.from([0, 32, 0, 0]);
        for (const client of clients.slice(4)) {
          client.write(Buffer.concat([header, pattern(1_500_000)]));
        }
        await turns();
        const outcomes = clients.map(outcome);
        const result = await server.stop(signal);
        expect(result).toEqual({ code: 0, signal: null, stdout: server.ready, stderr: '' });
        await Promise.all(outcomes); // all of them are closed
      });

      test.for(signals)(
        '%s that comes with the ready line ends it with code 0',
        async (signal, context) => {
          skipOnWindows(context, NO_SIGNALS);
          const server = await startServer(name, driver, threads, await argumentsOf());
          expect(await server.stop(signal)).toMatchObject({ code: 0, signal: null, stderr: '' });
        },
      );

      test('signals that come again change nothing', async (context) => {
        skipOnWindows(context, NO_SIGNALS);
        const server = await startServer(name, driver, threads, await argumentsOf());
        await rawClient(server.port);
        await turns();
        server.child.kill('SIGINT');
        server.child.kill('SIGTERM');
        server.child.kill('SIGINT');
        expect(await server.ended).toMatchObject({ code: 0, stderr: '' });
      });
    });

    test.each([1, 2])(
      'a port that is taken: a message and code 1 (threads: %i)',
      async (threads) => {
        const { port } = await rawServer();
        const result = await runExample(name, [
          ...['--port', String(port), ...driverArguments(driver), '--threads', String(threads)],
          ...(await argumentsOf()),
        ]);
        expect(result).toMatchObject({ code: 1, stdout: '' });
        expect(result.stderr).toMatch(new RegExp(`^${name}: .*EADDRINUSE.*\n$`));
      },
    );
  };

  if (name.endsWith('-net')) body('net');
  else describeDrivers('a server', body);
});
