/**
 * What a sandbox, an old kernel or a shortage refuses, and what is done without it.
 */
import { execFileSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import {
  connectedPair,
  drivers,
  newPort,
  outputOf,
  temporaryDirectory,
  type CompletionPort,
} from './support/harness';
import { nouring } from './support/nouring';

const linux = process.platform === 'linux';

describe.runIf(linux)('where statx is refused', () => {
  test('files open, tell what they are, and give their status', async () => {
    const folder = temporaryDirectory();
    const name = path.join(folder, 'file');
    writeFileSync(name, '12345');
    const script = `
      import fs from 'node:fs';
      const port = new CompletionPort();
      const file = await port.open(${JSON.stringify(name)});
      const { size, mtimeMs, ino } = await file.stat();
      const real = fs.fstatSync(fs.openSync(${JSON.stringify(name)}));
      const copy = await port.open(fs.openSync(${JSON.stringify(name)}));
      console.log(size, Math.abs(mtimeMs - real.mtimeMs) < 1, ino === real.ino, String(await copy.read({ length: 9 })));
      await port.close();`;
    const launcher = [nouring(), 'EPERM,statx'];
    const env = { COMPLETION_PORT_DRIVER: undefined };
    expect(await outputOf(script, { env, launcher })).toBe('5 true true 12345');
  });
});

describe.runIf(linux).each(drivers)('%s', (driver) => {
  test('FIFOs that nobody reads keep no other file from being opened for writing', async () => {
    const port = newPort({ driver });
    const folder = temporaryDirectory();
    const names = Array.from({ length: 24 }, (_, i) => path.join(folder, `fifo${i}`));
    execFileSync('mkfifo', names);
    const stop = new AbortController();
    const waiting = names.map((name) =>
      port.open(name, 'w', { signal: stop.signal }).then(
        () => 'open',
        (error: NodeJS.ErrnoException) => error.code,
      ),
    );
    const file = await port.open(path.join(folder, 'file'), 'w');
    expect(await file.write('bytes', 0)).toBe(5);
    await file.sync();
    stop.abort();
    expect(new Set(await Promise.all(waiting))).toEqual(new Set(['ABORT_ERR']));
    await port.close();
  });

  test('a file that the kernel makes up as it is read can be sent', async () => {
    const port = newPort({ driver });
    const { client, server } = await connectedPair(port);
    const file = await port.open('/proc/self/status');
    const received: Buffer[] = [];
    const receiving = (async () => {
      for await (const bytes of client) received.push(bytes);
    })();
    const sent = await server.sendFile(file);
    await server.end();
    await receiving;
    const text = Buffer.concat(received);
    expect(text.length).toBe(sent);
    expect(text.toString()).toContain(`Pid:\t${process.pid}`);
    await port.close();
  });

  test('a spool directory in /proc is told of when the stage is made', async () => {
    // Nothing can be created there, whichever way it is asked for.
    const { frames } = await import('../dist/stages.js');
    const wrong = (): unknown =>
      frames({ length: 'u32be', spool: 'file', directory: '/proc/self' });
    expect(wrong).toThrow(expect.objectContaining({ code: expect.any(String) as string }));
  });
});

const both = ['io_uring', 'epoll'].every((driver) =>
  (drivers as readonly string[]).includes(driver),
);

test.runIf(both).each([
  ['io_uring', 'epoll'],
  ['epoll', 'io_uring'],
] as const)('a listener goes on from %s to %s, and nobody waits in a call', async (from, to) => {
  const ports: CompletionPort[] = [newPort({ driver: from }), newPort({ driver: to })];
  const [first, second] = ports as [CompletionPort, CompletionPort];
  const listener = await first.listen({ host: '127.0.0.1', port: 0, key: 1 });
  const { port } = listener.address()!;
  // No accept is in flight when it goes.
  const cancelled = new Promise<void>((resolve) => {
    const service = first.consume((packet) => {
      if (packet.code !== 'ECANCELED') return;
      service.stop();
      resolve();
    });
  });
  listener.cancel();
  await cancelled;
  listener.handOff(second, 2);
  const accepted = new Promise<void>((resolve) => {
    second.consume((packet) => {
      if (packet.type === 'handedOff') {
        (packet.handle as typeof listener).accept({ multishot: true });
      }
      if (packet.type === 'accepted') resolve();
    });
  });
  // The event loop turns while nobody connects.
  for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
  await second.connect({ host: '127.0.0.1', port });
  await accepted;
  for (const each of ports) await each.close();
});

test.runIf(linux)('attaching without a descriptor left says so', async () => {
  const script = `
    import { Worker } from 'node:worker_threads';
    const port = new CompletionPort();
    const code = \`
      const { CompletionPort } = require(process.env.LIBRARY);
      const { workerData, parentPort } = require('node:worker_threads');
      const fs = require('node:fs');
      const taken = [];
      try { for (;;) taken.push(fs.openSync('/dev/null')); } catch {}
      let answer;
      try { CompletionPort.attach(workerData); answer = 'attached'; }
      catch (error) { answer = error.code + ' ' + error.message; }
      for (const descriptor of taken) fs.closeSync(descriptor);
      parentPort.postMessage(answer);
    \`;
    const worker = new Worker(code, { eval: true, execArgv: [], workerData: port.token });
    worker.once('message', async (answer) => { console.log(answer); await worker.terminate(); await port.close(); });`;
  for (const driver of drivers) {
    const env = { COMPLETION_PORT_DRIVER: driver, LIBRARY: path.resolve('dist/index.js') };
    const launcher = ['sh', '-c', 'ulimit -n 60; exec "$@"', 'sh'];
    expect(await outputOf(script, { env, launcher })).toMatch(new RegExp(`^EMFILE .*${driver}$`));
  }
});
