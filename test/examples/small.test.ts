/** The examples that fit a screen: each stands alone, and does what its first line says. */
import { spawn } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { describeDrivers, outcome, type Driver } from '../support/examples';
import {
  ended,
  rawClient,
  root,
  startProcess,
  temporaryDirectory,
  until,
  type Ended,
} from '../support/harness';
import { noRedis, startRedis } from '../support/redis';

const folder = path.join(root, 'examples');
const names = readdirSync(folder).filter((name) => name.endsWith('.mjs'));

describe('each example', () => {
  test.each(names)('%s has at most 40 lines, and imports the package alone', (name) => {
    const text = readFileSync(path.join(folder, name), 'utf8');
    expect(text.split('\n').length - 1).toBeLessThanOrEqual(40);
    const imports = [...text.matchAll(/from '([^']+)'/g)].map(([, from]) => from!);
    const own = /^(node:|completion-port(\/|$)|\.\/[\w-]+\.tasks\.mjs$)/;
    expect(imports.filter((from) => !own.test(from))).toEqual([]);
  });
});

function start(
  name: string,
  driver: Driver,
  args: readonly string[] = [],
  env: NodeJS.ProcessEnv = {},
) {
  const child = spawn(
    process.execPath,
    ['--no-warnings', path.join(folder, `${name}.mjs`), ...args],
    { cwd: root, env: { ...process.env, COMPLETION_PORT_DRIVER: driver, ...env } },
  );
  onTestFinished(() => void child.kill('SIGKILL'));
  return child;
}

function run(name: string, driver: Driver, args: readonly string[]): Promise<Ended> {
  return ended(start(name, driver, args));
}

/** Starts a server, and waits until it says its port. */
async function serve(
  name: string,
  driver: Driver,
  args: readonly string[] = [],
  env: NodeJS.ProcessEnv = {},
): Promise<number> {
  const child = start(name, driver, args, env);
  let said = '';
  child.stdout.on('data', (text) => (said += text));
  child.stderr.on('data', (text) => (said += text));
  await until(() => said.includes('\n') || child.exitCode !== null);
  const port = Number(/^listening on \S+:(\d+)\n/.exec(said)?.[1]);
  if (!(port > 0)) throw new Error(`not ready: ${said}`);
  return port;
}

/** Sends all, then the end, and gives what comes back. */
async function exchange(port: number, bytes: Uint8Array): Promise<Buffer> {
  const socket = await rawClient(port);
  const answer = outcome(socket);
  socket.end(bytes);
  return (await answer).bytes;
}

describeDrivers('small examples', (driver) => {
  const bytes = randomBytes(3_000_001);

  test('echo, and proxy before it', async () => {
    const target = await serve('echo', driver, ['--port', '0', '--threads', '2']);
    expect((await exchange(target, bytes)).equals(bytes)).toBe(true);
    const port = await serve('proxy', driver, ['0', '127.0.0.1', String(target)]);
    expect((await exchange(port, bytes)).equals(bytes)).toBe(true);
  });

  test('cat and copy', async () => {
    const directory = temporaryDirectory();
    const [from, to] = ['from', 'to'].map((name) => path.join(directory, name));
    writeFileSync(from!, bytes);
    expect(await run('copy', driver, [from!, to!])).toMatchObject({ code: 0, stderr: '' });
    expect(readFileSync(to!).equals(bytes)).toBe(true);
    expect((await run('copy', driver, [from!, to!])).stderr).toContain('EEXIST');
    const text = path.join(root, 'package.json');
    const { code, stdout } = await run('cat', driver, [text, text]);
    expect({ code, stdout }).toEqual({ code: 0, stdout: readFileSync(text, 'utf8').repeat(2) });
  });

  async function sums(apply: string, env: NodeJS.ProcessEnv = {}): Promise<void> {
    const port = await serve('sum-server', driver, ['--port', '0', '--apply', apply], env);
    const options = ['--port', String(port), '--n', '25000', '--seconds', '0.3'];
    const { code, stdout, stderr } = await run('sum-client', driver, ['8', ...options]);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/^[1-9]\d* answers, /);
    const answers: string[] = [];
    for (const text of ['10', '100\n', 'x\n', '123456789\n', '']) {
      answers.push((await exchange(port, Buffer.from(text))).toString());
    }
    const no = 'a number, please';
    expect(answers).toEqual(['55', '5050', no, no, no]);
  }

  test.each(['inline', 'exclusive', 'pool'])('sums for many clients, computed by %s', (apply) =>
    sums(apply),
  );

  test('sums for many clients, computed by way of BullMQ', async (context) => {
    if (noRedis !== undefined) context.skip(noRedis);
    const redis = await startRedis();
    onTestFinished(() => redis.stop());
    const cli = path.join(root, 'dist/cli.js');
    const args = ['work', '--queue', 'sums', '--redis', redis.url, '--concurrency', '2'];
    startProcess([cli, ...args, path.join(folder, 'sum.tasks.mjs')]);
    await sums('bullmq', { REDIS_URL: redis.url });
  });

  test('ingest', async () => {
    const port = await serve('ingest', driver, ['0']);
    const documents = ['one', '', 'x'.repeat(200_000)];
    const answers = await exchange(
      port,
      Buffer.from(documents.map((text) => `${text}\n`).join('')),
    );
    const digests = documents.map((text) => createHash('sha256').update(text).digest('hex'));
    expect(answers.toString()).toBe(digests.map((digest) => `${digest}\n`).join(''));
  });
});
