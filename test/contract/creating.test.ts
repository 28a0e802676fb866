import { spawnSync } from 'node:child_process';
import { copyFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { bindingFile } from '../../dist/native/binding.js';
import {
  CompletionPort,
  driver,
  library,
  newPort,
  outputOf,
  skipInWorld,
  temporaryDirectory,
  windows,
  type PortToken,
} from '../support/harness';
import { Taker } from '../support/taker';

describe('P1', () => {
  test('P1: concurrency is by default the number of CPUs available to the process', () => {
    expect(newPort().concurrency).toBe(availableParallelism());
  });

  test('P1: a process bound to one CPU gets a concurrency of 1', async ({ skip }) => {
    if (spawnSync('taskset', ['-c', '0', 'true']).status !== 0) skip('taskset is not here');
    const launcher = ['taskset', '-c', '0'];
    const script = `const port = new CompletionPort(); console.log(port.concurrency); await port.close();`;
    expect(await outputOf(script, { launcher })).toBe('1');
  });

  test.each([1, 2, 1024])('P1: a concurrency of %d is taken', (concurrency) => {
    expect(newPort({ concurrency }).concurrency).toBe(concurrency);
  });

  test.each([0, 1025, -1, 1.5, NaN, Infinity])(
    'P1: a concurrency of %d is a RangeError',
    (concurrency) => {
      expect(() => new CompletionPort({ concurrency })).toThrow(
        expect.objectContaining({ name: 'RangeError', code: 'ERR_OUT_OF_RANGE' }),
      );
    },
  );
});

describe('P2', () => {
  test('P2: the token can be cloned, and names the same port', () => {
    const port = newPort({ concurrency: 3 });
    const token = structuredClone(port.token);
    expect(token).toEqual(port.token);
    expect(JSON.parse(JSON.stringify(token))).toEqual(port.token);
    expect(CompletionPort.attach(token)).toBe(port);
  });

  test('P2: a worker attaches with the token and takes what the main thread posted', async () => {
    const port = newPort({ concurrency: 3 });
    const { takers, log } = await Taker.team(port, 1);
    expect(port.stats().threads).toBe(2);
    port.post(7, 42);
    await expect.poll(() => log, { timeout: 50_000 }).toHaveLength(1);
    expect(log[0]).toMatchObject({ type: 'posted', key: 7, value: 42 });
    takers[0]!.pass();
  });

  test('P2: a port may be given in the place of its token', () => {
    const port = newPort();
    expect(CompletionPort.attach(port)).toBe(port);
    expect(() => CompletionPort.attach(undefined as never)).toThrow(/CompletionPort or its token/);
  });

  test('P2: a port of another copy of the package is ERR_PORT_FOREIGN', async () => {
    const port = newPort();
    const copy = path.join(temporaryDirectory(), 'copy.node');
    copyFileSync(bindingFile, copy);
    const other = await outputOf(
      `const port = new CompletionPort(); console.log(JSON.stringify(port.token)); await port.close();`,
      { env: { COMPLETION_PORT_BINDING: copy } },
    );
    const token = JSON.parse(other) as PortToken;
    const foreign = expect.objectContaining({ code: 'ERR_PORT_FOREIGN' }) as Error;
    expect(() => CompletionPort.attach(token)).toThrow(foreign);
    expect(() => CompletionPort.attach({ ...port.token, instance: 'x' })).toThrow(foreign);
    const timer = port.timer({ key: 1 });
    expect(() => timer.handOff(token)).toThrow(foreign);
    expect(timer.closed).toBe(false);
  });

  test('P2: two copies in one process have ports of their own', async () => {
    const copy = path.join(temporaryDirectory(), 'copy.node');
    copyFileSync(bindingFile, copy);
    const output = await outputOf(`
      import { createRequire } from 'node:module';
      const first = new CompletionPort();
      const require = createRequire(${JSON.stringify(library)});
      for (const file of Object.keys(require.cache)) delete require.cache[file];
      process.env.COMPLETION_PORT_BINDING = ${JSON.stringify(copy)};
      const { CompletionPort: Other } = require('./index.js');
      const second = new Other();
      let code;
      try { Other.attach(first.token); } catch (error) { code = error.code; }
      console.log(Other === CompletionPort, second.token.completionPort, code);
      // A socket of the other copy: the number of this one's buffer means another one there.
      const listener = await first.listen({ host: '127.0.0.1', port: 0, key: 1 });
      const there = await second.listen({ host: '127.0.0.1', port: 0 });
      const target = await second.connect({ host: '127.0.0.1', port: there.address().port });
      listener.accept();
      const client = await first.connect({ host: '127.0.0.1', port: listener.address().port });
      await client.send('hello');
      for await (const packet of first.packets()) {
        if (packet.type === 'accepted') packet.accepted.receive();
        if (packet.type !== 'received') continue;
        try { packet.sendTo(target); } catch (error) { console.log(error.code, String(packet.data)); }
        break;
      }
      await first.close();
      await second.close();`);
    expect(output.split('\n')).toEqual(['false 1 ERR_PORT_FOREIGN', 'ERR_PORT_FOREIGN hello']);
  });

  test('P2: two ports of one process have different tokens', () => {
    expect(newPort().token.completionPort).not.toBe(newPort().token.completionPort);
  });

  test('P2: attaching to a port that was closed is ERR_PORT_CLOSED', async () => {
    const port = new CompletionPort();
    await port.close();
    expect(() => CompletionPort.attach(port.token)).toThrow(
      expect.objectContaining({ code: 'ERR_PORT_CLOSED' }),
    );
  });
});

describe('P3', () => {
  test('P3: COMPLETION_PORT_DRIVER chooses the driver', () => {
    expect(newPort().driver).toBe(driver);
  });

  test('P3: the driver option overrides COMPLETION_PORT_DRIVER', () => {
    skipInWorld('its addon has no other driver');
    const other = windows ? 'iocp' : 'epoll';
    const port = newPort({ driver: other });
    expect(port.driver).toBe(other);
  });

  test('P3: another value of COMPLETION_PORT_DRIVER is an error that says so', async () => {
    const script = `
      try { new CompletionPort(); console.log('none'); }
      catch (error) { console.log(error.code, error.message); }`;
    const output = await outputOf(script, { env: { COMPLETION_PORT_DRIVER: 'kqueue' } });
    expect(output).not.toBe('none');
    expect(output).toMatch(/kqueue|COMPLETION_PORT_DRIVER/);
  });
});
