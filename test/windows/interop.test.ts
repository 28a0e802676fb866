/**
 * Programs for Windows under Wine, talked to from outside: scripts/test-windows.mjs says which
 * Node.js and which addon.
 */
import { spawnSync } from 'node:child_process';
import { createHash, randomBytes } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { buffer } from 'node:stream/consumers';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { expect, onTestFinished, test } from 'vitest';
import { runInWine, startInWine, windowsPath } from '../../scripts/windows/wine.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const node = process.env['COMPLETION_PORT_TEST_NODE']!;
const env = { COMPLETION_PORT_BINDING: windowsPath(process.env['COMPLETION_PORT_TEST_BINDING']!) };

function temporaryDirectory(): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'completion-port-'));
  onTestFinished(() => rmSync(directory, { recursive: true, force: true }));
  return directory;
}

const example = (name: string): string =>
  windowsPath(path.join(root, 'examples', 'programs', `${name}.mjs`));

/** What a program wrote, and its exit code. */
async function runNode(args: readonly string[]): Promise<{ code: number | null; output: string }> {
  const log = path.join(temporaryDirectory(), 'log');
  const code = await runInWine(node, args, { log, env, seconds: 50 });
  return { code, output: readFileSync(log, 'utf8') };
}

/** Starts a server, which is killed after the test, and waits until it listens: on which port. */
async function startServer(
  name: string,
  args: readonly string[] = [],
  threads = 2,
): Promise<number> {
  const log = path.join(temporaryDirectory(), 'log');
  const all = [example(name), '--port', '0', '--threads', String(threads), ...args];
  const child = startInWine(node, all, { log, env });
  onTestFinished(async () => {
    if (child.exitCode === null && child.kill('SIGKILL')) await once(child, 'exit');
  });
  for (;;) {
    const said = readFileSync(log, 'utf8');
    const ready = /^listening on \S+:(\d+) driver=(\S+)/m.exec(said);
    if (ready) {
      expect(ready[2]).toBe('iocp');
      return Number(ready[1]);
    }
    if (child.exitCode !== null) throw new Error(`not ready: ${said}`);
    await sleep(20);
  }
}

async function connect(port: number): Promise<net.Socket> {
  const socket = net.connect({ host: '127.0.0.1', port, allowHalfOpen: true });
  onTestFinished(() => void socket.destroy());
  await once(socket, 'connect');
  return socket;
}

/** What comes back for `bytes` until the other side ends. */
async function answerTo(port: number, bytes: Buffer): Promise<Buffer> {
  const socket = await connect(port);
  socket.end(bytes);
  return buffer(socket);
}

test('echo: 50 connections at once, each byte comes back', async () => {
  const port = await startServer('echo');
  const sent = Array.from({ length: 50 }, () => randomBytes(200_000));
  const answers = await Promise.all(sent.map((bytes) => answerTo(port, bytes)));
  for (const [i, answer] of answers.entries()) expect(answer.equals(sent[i]!)).toBe(true);
});

test('echo: goes on when clients reset their connections', async () => {
  const port = await startServer('echo');
  for (let round = 0; round < 20; round++) {
    const clients = await Promise.all(Array.from({ length: 5 }, () => connect(port)));
    for (const client of clients) {
      client.on('error', () => undefined);
      client.write(randomBytes(100_000));
    }
    if (round % 2) await sleep(1);
    for (const client of clients) client.resetAndDestroy();
  }
  expect(String(await answerTo(port, Buffer.from('still here')))).toBe('still here');
});

test('echo: nc', async (context) => {
  const port = await startServer('echo');
  const bytes = randomBytes(1_000_000);
  const nc = spawnSync('nc', ['-N', '127.0.0.1', String(port)], {
    input: bytes,
    maxBuffer: 1 << 24,
  });
  if (nc.error !== undefined) context.skip('nc is not installed');
  expect(nc.stdout.equals(bytes)).toBe(true);
});

test('proxy: carries both directions, half-closed ones too', async () => {
  const target = net.createServer({ allowHalfOpen: true }, (socket) => {
    const hash = createHash('sha256');
    socket.on('data', (bytes) => hash.update(bytes));
    socket.on('end', () => socket.end(hash.digest()));
  });
  target.listen(0, '127.0.0.1');
  await once(target, 'listening');
  onTestFinished(() => void target.close());
  const { port: behind } = target.address() as net.AddressInfo;
  const port = await startServer('proxy', ['--target', `127.0.0.1:${behind}`], 1);
  const sent = Array.from({ length: 20 }, (_, i) => randomBytes(i * 100_000));
  const answers = await Promise.all(sent.map((bytes) => answerTo(port, bytes)));
  for (const [i, answer] of answers.entries()) {
    expect(answer.toString('hex'), `client ${i}`).toBe(
      createHash('sha256').update(sent[i]!).digest('hex'),
    );
  }
});

function framed(contents: Buffer): Buffer {
  const header = Buffer.alloc(4);
  header.writeUInt32BE(contents.length);
  return Buffer.concat([header, contents]);
}

function* frames(bytes: Buffer): Generator<Buffer> {
  for (let at = 0; at < bytes.length;) {
    const length = bytes.readUInt32BE(at);
    yield bytes.subarray(at + 4, at + 4 + length);
    at += 4 + length;
  }
}

test.each([
  ['native', 'on'],
  ['in JavaScript', 'off'],
])('spool server, %s: documents in memory and in files are answered', async (_what, native) => {
  const spool = temporaryDirectory();
  const port = await startServer('spool-server', [
    '--spool',
    windowsPath(spool),
    '--memory',
    '64KiB',
    '--native',
    native,
  ]);
  const talk = async (): Promise<void> => {
    const sent = [0, 1, 1000, 65_536, 65_537, 3_000_000, 10].map((length) => randomBytes(length));
    const answer = await answerTo(port, Buffer.concat(sent.map(framed)));
    const answers = [...frames(answer)].map((frame) => JSON.parse(String(frame)));
    expect(answers).toMatchObject(
      sent.map((contents) => ({
        bytes: contents.length,
        sha256: createHash('sha256').update(contents).digest('hex'),
      })),
    );
  };
  await Promise.all(Array.from({ length: 8 }, talk));
  for (let left = -1; left !== 0; await sleep(10)) left = readdirSync(spool).length;
});

test('copy: a file comes out the same', async () => {
  const directory = temporaryDirectory();
  const [from, to] = ['from', 'to'].map((name) => path.join(directory, name)) as [string, string];
  const contents = Buffer.concat([randomBytes(5_000_000), Buffer.alloc(3 << 20), randomBytes(17)]);
  writeFileSync(from, contents);
  const { code, output } = await runNode([example('copy'), windowsPath(from), windowsPath(to)]);
  expect(code, output).toBe(0);
  expect(readFileSync(to).equals(contents)).toBe(true);
});

test('doctor: the driver is iocp, and nothing is wrong', async () => {
  const cli = windowsPath(path.join(root, 'dist/cli.js'));
  const { code, output } = await runNode([cli, 'doctor', '--json']);
  expect(code, output).toBe(0);
  expect(JSON.parse(output)).toMatchObject({
    status: 'good',
    driver: { name: 'iocp', reason: '' },
    binary: { platform: 'win32-x64', origin: 'chosen' },
    advice: [],
  });
});

test('the prebuilt binary loads, also in a program of another name', async (context) => {
  const prebuilt = path.join(root, 'prebuilds/win32-x64/completion-port.node');
  if (!existsSync(prebuilt)) context.skip('there is none: npm run prebuilds -- win32-x64');
  const directory = temporaryDirectory();
  const host = path.join(directory, 'host.exe');
  mkdirSync(path.dirname(host), { recursive: true });
  writeFileSync(host, readFileSync(node));
  const log = path.join(directory, 'log');
  const script = `const { CompletionPort } = require(${JSON.stringify(windowsPath(path.join(root, 'dist/index.js')))});
    const port = new CompletionPort();
    port.post(1, 2);
    for (const packet of port.get(1)) console.log(port.driver, packet.value);
    void port.close();`;
  const how = { log, env: { COMPLETION_PORT_BINDING: windowsPath(prebuilt) }, seconds: 50 };
  const code = await runInWine(host, ['-e', script], how);
  expect(code, readFileSync(log, 'utf8')).toBe(0);
  expect(readFileSync(log, 'utf8').trim()).toBe('iocp 2');
});
