/**
 * The programs of README and the guides run when they are copied: each block that begins with
 * `// name.mjs` is a file, those of one document lie in one folder, and a client talks to what
 * listens. Port 8080 is any that is free.
 */
import { spawn } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import { mkdirSync, readFileSync, symlinkSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { blocksOf, guides } from './support/documents';
import { ended, pattern, root, temporaryDirectory, until, windows, wine } from './support/harness';

interface Started {
  /** The TCP port it says that it listens on. */
  port(): Promise<number>;
  stop(): void;
  /** Its whole output, when it has ended by itself, without an error. */
  output(): Promise<string>;
}

/** The files of a document, where `completion-port` is installed. */
function copied(document: string, port: number): string {
  const folder = temporaryDirectory();
  mkdirSync(path.join(folder, 'node_modules'));
  symlinkSync(root, path.join(folder, 'node_modules', 'completion-port'), 'junction');
  for (const { file, text } of blocksOf(document))
    if (file?.endsWith('.mjs'))
      writeFileSync(path.join(folder, file), text.replaceAll('8080', String(port)));
  return folder;
}

interface StartOptions {
  readonly args?: readonly string[];
  readonly env?: NodeJS.ProcessEnv;
  readonly port?: number;
}

function start(document: string, name: string, options: StartOptions = {}): Started {
  const { args = [], env = {}, port = 0 } = options;
  const child = spawn(process.execPath, [name, ...args], {
    cwd: copied(document, port),
    env: { ...process.env, COMPLETION_PORT_CHECK: '', ...env },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  onTestFinished(() => void child.kill('SIGKILL'));
  const end = ended(child);
  let said = '';
  child.stdout.on('data', (text) => (said += text));
  return {
    async port() {
      const found = () => /port: (\d+)/.exec(said)?.[1];
      await until(() => found() !== undefined || child.exitCode !== null);
      if (found() === undefined) throw new Error((await end).stderr);
      return Number(found());
    },
    stop: () => void child.kill('SIGTERM'),
    async output() {
      const { code, stdout, stderr } = await end;
      expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
      return stdout;
    },
  };
}

/** A connection to a server, closed after the test. */
class Client {
  private readonly socket: net.Socket;
  private said = '';
  private over = false;

  constructor(port: number) {
    this.socket = net.connect(port, '127.0.0.1');
    this.socket.setEncoding('latin1');
    this.socket.on('data', (text) => (this.said += text));
    this.socket.once('close', () => (this.over = true));
    onTestFinished(() => void this.socket.destroy());
  }

  /** Sends `text`, and waits until that has been answered. */
  async ask(text: string, answer: string | RegExp): Promise<void> {
    this.said = '';
    this.socket.write(text, 'latin1');
    const matches = () =>
      typeof answer === 'string' ? this.said.length >= answer.length : answer.test(this.said);
    await until(() => matches() || this.over);
    if (typeof answer === 'string') expect(this.said).toBe(answer);
    else expect(this.said).toMatch(answer);
  }

  /** Sends no more; resolves when the server has closed, too. */
  async end(): Promise<void> {
    this.socket.end();
    await until(() => this.over);
  }
}

async function echoes(program: Started): Promise<void> {
  const port = await program.port();
  const clients = Array.from({ length: 10 }, () => new Client(port));
  for (let i = 0; i < 3; i++)
    await Promise.all(clients.map((client, at) => client.ask(`hello ${at}`, `hello ${at}`)));
  await Promise.all(clients.map((client) => client.end()));
}

/** Stops it while a client is connected, who is answered all the same, and is done then. */
async function endsInOrder(
  program: Started,
  asked: string,
  answer: string,
  afterwards: (client: Client) => Promise<void>,
): Promise<void> {
  const client = new Client(await program.port());
  await client.ask(asked, answer);
  program.stop();
  await afterwards(client);
  await program.output();
}

/** Below those that the system gives to others meanwhile. */
async function freePort(): Promise<number> {
  for (;;) {
    const port = 20_000 + Math.floor(Math.random() * 10_000);
    const server = net.createServer().listen(port);
    const free = await once(server, 'listening').then(
      () => true,
      () => false,
    );
    if (!free) continue;
    server.close();
    await once(server, 'close');
    return port;
  }
}

type Run = (program: (options?: StartOptions) => Started) => Promise<void>;

/** Sub-paths that are experimental say so. */
const quiet: StartOptions = { env: { NODE_NO_WARNINGS: '1' } };

/** What is done with each program, by document and name. */
const runs: Record<string, Record<string, Run>> = {
  'README.md': {
    'echo.mjs': (start) => echoes(start()),
    'bytes.mjs': async (start) => {
      const port = await start().port();
      for (let round = 0; round < 2; round++) {
        const clients = Array.from({ length: 20 }, () => new Client(port));
        for (let i = 1; i <= 3; i++)
          await Promise.all(clients.map((client) => client.ask('12345', `${5 * i}\n`)));
        await Promise.all(clients.map((client) => client.end()));
      }
    },
    'upload.mjs': async (start) => {
      const client = new Client(await start().port());
      for (const text of ['hello', '', 'x'.repeat(100)])
        await client.ask(
          `\0\0\0${String.fromCharCode(text.length)}${text}`,
          `${createHash('sha256').update(text).digest('hex')}\n`,
        );
    },
  },
  'docs/guides/files-and-sockets.md': {
    'copy.mjs': async (start) => {
      const folder = temporaryDirectory();
      const [from, to] = [path.join(folder, 'from'), path.join(folder, 'to')];
      writeFileSync(from, pattern(3_000_001));
      expect(await start({ args: [from, to] }).output()).toBe('3000001 bytes\n');
      expect(readFileSync(to).equals(pattern(3_000_001))).toBe(true);
    },
    'client.mjs': async (start) => {
      const server = net.createServer((socket) => socket.pipe(socket)).listen(0);
      onTestFinished(() => void server.close());
      await once(server, 'listening');
      const { port } = server.address() as net.AddressInfo;
      expect(await start({ args: [String(port)] }).output()).toBe('hello\n');
    },
    ...(windows
      ? { 'options.mjs': () => Promise.resolve() } // no typeOfService
      : {
          'options.mjs': async (start) => {
            expect(await start().output()).toMatch(/userTimeout: 45000/);
          },
        }),
    'packets.mjs': (start) => echoes(start()),
  },
  'docs/guides/memory.md': {
    'checksum.mjs': async (start) => {
      const file = path.join(temporaryDirectory(), 'file');
      writeFileSync(file, pattern(3_000_001));
      const hash = createHash('sha256').update(pattern(3_000_001)).digest('hex');
      expect(await start({ args: [file] }).output()).toBe(`${hash}\n`);
    },
    'late.mjs': async (start) => {
      expect(Number(await start().output())).toBeGreaterThan(0);
      expect(await start({ env: { COMPLETION_PORT_CHECK: 'memory' } }).output()).toBe('0\n');
    },
  },
  'docs/guides/threads.md': {
    ...(windows
      ? { 'threads.mjs': () => Promise.resolve() } // no reusePort
      : {
          'threads.mjs': async (start) => {
            const client = new Client(await start({ port: await freePort() }).port());
            await client.ask('hello', /^thread \d: hello$/);
            await client.end();
          },
        }),
    'pool.mjs': (start) => echoes(start()),
  },
  'docs/guides/shutdown.md': {
    'graceful.mjs': (start) =>
      windows
        ? echoes(start())
        : endsInOrder(start(), 'one', 'one', async (client) => {
            await client.ask('two', 'two');
            await client.end();
          }),
    'stages.mjs': async (start) => {
      const program = start();
      if (!windows)
        return endsInOrder(program, 'one\n', 'line 1: 3 bytes\n', (client) => client.end());
      await new Client(await program.port()).ask('one\n', 'line 1: 3 bytes\n');
    },
    'orderly.mjs': async (start) => expect(await start().output()).toBe('5050\n'),
  },
  'docs/guides/observability.md': {
    'requests.mjs': async (start) => {
      const client = new Client(await start().port());
      await client.ask('who', /^you are client 1\n$/);
      await client.ask('who', /^you are client 1\n$/);
      await client.end();
    },
    'opened.mjs': async (start) => {
      const file = path.join(temporaryDirectory(), 'file');
      writeFileSync(file, 'x');
      const [first, second] = (await start({ args: [file] }).output()).split('\n');
      expect([first, second]).toEqual([
        expect.stringMatching(/file: opened, [\d.]+ ms$/),
        expect.stringMatching(/file: ENOENT, [\d.]+ ms$/),
      ]);
    },
  },
  'docs/cpu.md': {
    'sum.mjs': async (start) => expect(await start(quiet).output()).toBe('5050\n12500002500000\n'),
    'logged.mjs': async (start) =>
      expect(await start(quiet).output()).toMatch(/^sumn \d+\.\d+\n500500\n$/),
    'hashes.mjs': async (start) =>
      expect(await start(quiet).output()).toMatch(/^30e14955[0-9a-f]{56}\n1048576 0\n$/),
  },
};

for (const document of ['README.md', 'docs/cpu.md', ...guides]) {
  const named = blocksOf(document).flatMap(({ file }) => file ?? []);
  const programs = named.filter((name) => !/\.(stage|worker|tasks)\.mjs$/.test(name));
  if (programs.length === 0) continue;
  describe.skipIf(wine)(document, () => {
    test('each program is run here', () => {
      expect(Object.keys(runs[document] ?? {}).sort()).toEqual([...programs].sort());
      expect(new Set(named).size).toBe(named.length);
    });
    test.each(programs)('%s', async (name) => {
      await runs[document]![name]!((options) => start(document, name, options));
    });
  });
}
