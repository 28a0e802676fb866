import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';
import { drivers, ended, outputOf, startProcess, until, wine, windows } from './support/harness';

/** Wine's server has a descriptor of its own for each end of each connection. */
const FEASIBLE = wine ? 2000 : 10_000;
const CONNECTIONS = Number(process.env['COMPLETION_PORT_TEST_CONNECTIONS'] ?? FEASIBLE);
const program = fileURLToPath(new URL('./support/many-connections.mjs', import.meta.url));

/** `crew`: two workers serve them. */
async function hold(driver: string, crew: string[], size: number): Promise<void> {
  const limit = windows
    ? 1e6
    : Number(
        await outputOf(`
    import { execSync } from 'node:child_process';
    console.log(execSync('ulimit -H -n').toString().replace('unlimited', '1000000'));`),
      );
  // On both sides: the descriptors, and some for Node.js.
  const connections = Math.min(CONNECTIONS, limit - 200);
  const env = { COMPLETION_PORT_DRIVER: driver };
  const server = startProcess([program, 'server', ...crew], { env });
  let output = '';
  server.stdout!.on('data', (text) => (output += text));
  const serverEnded = ended(server);
  await until(() => output.includes('port'));
  const port = /port (\d+)/.exec(output)![1]!;
  const client = startProcess([program, 'client', port, `${connections}`, `${size}`], { env });
  const result = await ended(client);
  expect(result, result.stderr).toMatchObject({ code: 0, stderr: '' });
  expect(result.stdout.trim()).toBe(`echoed ${connections}`);
  server.stdin!.end();
  expect((await serverEnded).code).toBe(0);
  expect(output).toContain(`most at once: ${connections}`);
}

test.each(drivers)(`${CONNECTIONS} connections held at once, each echoes (%s)`, async (driver) => {
  await hold(driver, [], 0);
});

test.each(drivers)(
  `${CONNECTIONS} connections over two workers that are busy now and then, every byte (%s)`,
  async (driver) => {
    await hold(driver, ['crew'], 2000);
  },
);
