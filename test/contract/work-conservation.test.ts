/**
 * Rule D5 while a handler runs for long: what completes for its thread meanwhile is for a thread
 * that idles. The heavy handler is let go only after everything else has been answered, so a test
 * that passes has seen it happen.
 */
import { execFileSync } from 'node:child_process';
import { closeSync, constants, openSync, writeSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, onTestFinished, test } from 'vitest';
import { Client, comesBack, Crew, stayLively } from '../support/crew';
import {
  rawServer,
  skipOnWindows,
  temporaryDirectory,
  temporaryFile,
  until,
  windows,
} from '../support/harness';
import { Client as StageClient, fixture, newPipeline } from '../support/stages';

const styles = ['get', 'serve', 'packets'] as const;
const portable = ['loop', 'json', 'regexp', 'pbkdf2', 'wait', 'vm'];

/** A pipe that a handler may wait at until the test writes. */
function pipe(): { readonly reader: number; write(): void } {
  const fifo = path.join(temporaryDirectory(), 'pipe');
  execFileSync('mkfifo', [fifo]);
  const descriptor = openSync(fifo, constants.O_RDWR);
  onTestFinished(() => closeSync(descriptor));
  return { reader: descriptor, write: () => void writeSync(descriptor, 'x') };
}

describe('D5: a handler that runs for long', () => {
  for (const style of styles) {
    test.each(portable)(`D5: others answer while it is in %s (${style})`, async (heavy) => {
      const { crew, clients } = await Crew.start({ style, heavy }, 12);
      await stayLively(crew, clients);
      await comesBack(crew, clients[0]!);
    });

    test(`D5: others answer while it waits for a process (${style})`, async (context) => {
      skipOnWindows(context, 'there is no sleep(1)');
      const { crew, clients } = await Crew.start({ style, heavy: 'exec' }, 12);
      await stayLively(crew, clients);
      await comesBack(crew, clients[0]!);
    });

    test(`D5: others answer while it waits for a pipe (${style})`, async (context) => {
      skipOnWindows(context, 'there is no mkfifo(1)');
      const { reader, write } = pipe();
      const { crew, clients } = await Crew.start({ style, heavy: 'read', pipe: reader }, 12);
      onTestFinished(write);
      await stayLively(crew, clients);
      write();
      await comesBack(crew, clients[0]!);
    });
  }

  test('D5: connections are accepted meanwhile', async () => {
    const { crew, clients } = await Crew.start({ heavy: 'wait' }, 1);
    await crew.makeBusy(clients[0]!);
    for (let i = 0; i < 20; i++) {
      const client = await Client.connect(crew.listening);
      expect(await client.ask('new')).toBe('new');
    }
    await comesBack(crew, clients[0]!);
  });

  test('D5: timers of its thread fire, again and again', async () => {
    const { crew, clients } = await Crew.start({ heavy: 'wait', prepares: { timer: 5 } }, 1);
    await crew.makeBusy(clients[0]!);
    await until(() => crew.others('fired').length >= 5);
    await comesBack(crew, clients[0]!);
  });

  test('D5: operations of its thread time out', async () => {
    const { port } = await rawServer();
    const silent = { port, timeout: 1000 };
    const { crew, clients } = await Crew.start({ heavy: 'wait', prepares: { silent } }, 1);
    await crew.makeBusy(clients[0]!);
    await until(() => crew.seen.some(({ key, code }) => key === 3 && code === 'ETIMEDOUT'));
    await comesBack(crew, clients[0]!);
  });

  test('D5: one that never ends costs its thread and nothing else', async () => {
    const { port } = await rawServer();
    const prepares = { timer: 5, silent: { port, timeout: 1000 } };
    const { crew, clients } = await Crew.start({ heavy: 'forever', prepares }, 8);
    await stayLively(crew, clients);
    for (let i = 0; i < 10; i++) {
      const client = await Client.connect(crew.listening);
      expect(await client.ask('new')).toBe('new');
    }
    await until(() => crew.others('fired').length >= 5);
    await until(() => crew.seen.some(({ key, code }) => key === 3 && code === 'ETIMEDOUT'));
    // Its operation on this connection is in the lane of the busy thread, and ends there.
    clients[1]!.send('close');
    await until(() => clients[1]!.ended && crew.others('closed').length === 1);
    const file = await crew.port.open(temporaryFile('of a file'));
    expect(await file.read(new Uint8Array(9), 0)).toBe(9);
    await crew.endBusy();
    await crew.soundness(clients.slice(2));
  });
});

describe('D5: what a busy thread has submitted', () => {
  test.each(styles)(
    'D5: an answer goes out while its handler still computes (%s)',
    async (style) => {
      const { crew, clients } = await Crew.start({ style, heavy: 'answered' }, 3);
      clients[0]!.send('!');
      await until(() => clients[0]!.received === '!');
      await crew.soundness(clients.slice(1));
      crew.release();
      await until(() => clients[0]!.received === '!!');
    },
  );

  test('D5: a file is read, and whoever waits gets the bytes', async () => {
    const file = temporaryFile('bytes of the file');
    const { crew, clients } = await Crew.start({ heavy: 'file', file }, 1);
    clients[0]!.send('!');
    await until(() => crew.seen.some(({ type, key }) => type === 'read' && key === 4));
    expect(clients[0]!.received).toBe('');
    await comesBack(crew, clients[0]!);
  });

  test('D5: a connection that it closes ends', async () => {
    const { crew, clients } = await Crew.start({ heavy: 'closing' }, 3);
    clients[0]!.send('!');
    await until(() => clients[0]!.ended);
    await crew.soundness(clients.slice(1));
    crew.release();
    // Its key was the busy thread's until then.
    await until(() => crew.seen.some(({ type }) => type === 'closed'));
  });

  test('D5: a message that it posts is taken by another', async () => {
    const { crew, clients } = await Crew.start({ heavy: 'posting' }, 1);
    clients[0]!.send('!');
    await until(() => crew.seen.some(({ type, value }) => type === 'posted' && value === 123));
    expect(clients[0]!.received).toBe('');
    await comesBack(crew, clients[0]!);
  });
});

describe('D5: a stage with a heavy handler', () => {
  // There is no sleep(1) and no mkfifo(1) on Windows.
  const unix = windows ? [] : ['exec', 'read'];
  const heavies = ['loop', 'json', 'regexp', 'pbkdf2', 'wait', ...unix];
  test.each(heavies)('D5: its other connections are answered while it is in %s', async (heavy) => {
    const gate = new Int32Array(new SharedArrayBuffer(8));
    const { reader, write } = heavy === 'read' ? pipe() : { reader: 0, write: () => undefined };
    const pipeline = newPipeline({
      work: { stage: fixture('heavy.mjs'), threads: 3, data: { gate, heavy, pipe: reader } },
    });
    const release = (): void => {
      Atomics.store(gate, 0, 1);
      Atomics.notify(gate, 0);
      write();
    };
    onTestFinished(release);
    const { port } = await pipeline.listen('work', { host: '127.0.0.1', port: 0 });
    const [busy, ...light] = Array.from({ length: 12 }, () => new StageClient(port));
    for (const client of [busy!, ...light]) await client.ask('hello', 'hello');
    busy!.forget();
    busy!.write('!');
    // What it has sent goes out while it computes.
    await until(() => busy!.text === 'busy');
    for (let round = 0; round < 5; round++) {
      await Promise.all(light.map((client) => client.ask(`round ${round}`, `round ${round}`)));
    }
    const late = new StageClient(port);
    await late.ask('late', 'late');
    expect(busy!.text).toBe('busy');
    release();
    await until(() => busy!.text === 'busy!');
  });
});

describe('D4: blocking', () => {
  test.each(styles)(
    'D4: the lane of a thread in `blocking` is looked after, also when it is nested (%s)',
    async (style) => {
      const { crew, clients } = await Crew.start({ style, heavy: 'blocking' }, 12);
      await stayLively(crew, clients);
      expect(crew.port.stats().running).toBeLessThan(3);
      await comesBack(crew, clients[0]!);
    },
  );
});
