/**
 * Places of the network, as options name them, and as `address()` tells them.
 */
import { once } from 'node:events';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { shareListener } from '../dist/node.js';
import overNet from '../dist/node-net.js';
import { codeOf, failureOf, newPort, temporaryDirectory, windows } from './support/harness';
import { fixture, newPipeline } from './support/stages';

describe('what address() answers, given to what takes a place', () => {
  test('an address is told to be host, or to be left out where it means all', async () => {
    const port = newPort();
    const listener = await port.listen({ host: '127.0.0.1', port: 0 });
    const address = listener.address()!;
    const written = `{ host: '127.0.0.1', port: ${address.port} }`;
    const pipeline = newPipeline({ only: { stage: fixture('echo.mjs'), threads: 1 } });
    const stageListener = await pipeline.listen('only', { host: '127.0.0.1', port: 0 });
    const calls: (() => unknown)[] = [
      () => port.connect(address),
      () => port.listen(address),
      () => pipeline.listen('only', address),
      ...(windows ? [] : [() => shareListener(address)]),
      () => pipeline.inspector(address as object),
    ];
    for (const call of calls) {
      const error = await failureOf(call);
      expect(codeOf(error)).toBe('ERR_INVALID_ARG_VALUE');
      expect(error.message).toContain(`'options.address' is unknown: write ${written}`);
    }
    const ofStage = await failureOf(() => port.connect(stageListener));
    expect(ofStage.message).toContain(`write { host: '127.0.0.1', port: ${stageListener.port} }`);
    for (const all of ['::', '0.0.0.0']) {
      const error = await failureOf(() => port.connect({ ...address, address: all } as never));
      expect(error.message).toContain(`write { port: ${address.port} }`);
    }
    const named = { hostname: 'localhost', port: 1 };
    const error = await failureOf(() => port.connect(named));
    expect(error.message).toContain("'options.hostname' is unknown: write host: 'localhost'");
  });

  test('what node:net takes without options is told to be options', async () => {
    const port = newPort();
    const pipeline = newPipeline({ only: { stage: fixture('echo.mjs'), threads: 1 } });
    const takers: ((place: never) => unknown)[] = [
      (place) => port.connect(place),
      (place) => port.listen(place),
      (place) => pipeline.listen('only', place),
      ...(windows ? [] : [(place: never) => shareListener(place)]),
    ];
    for (const take of takers) {
      for (const [given, meant] of [
        [8080, '{ port: 8080 }'],
        ['8080', '{ port: 8080 }'],
        ['/tmp/x', "{ path: '/tmp/x' }"],
        ['', "{ path: '' }"],
      ]) {
        const error = await failureOf(() => take(given as never));
        expect(codeOf(error)).toBe('ERR_INVALID_ARG_TYPE');
        expect(error.message).toContain(`must be of type object: ${meant}. Received`);
      }
      expect(codeOf(await failureOf(() => take(undefined as never)))).toBe('ERR_INVALID_ARG_TYPE');
    }
  });

  test('a method of that name is none of the options', async () => {
    const place = Object.create({ address: () => 'there', hostname() {} }) as { port: number };
    place.port = 0;
    expect((await newPort().listen(place)).address()!.port).toBeGreaterThan(0);
  });

  test('that of a path is told to be path', async () => {
    const port = newPort();
    const address = { address: '/tmp/x', port: 0, family: 'unix' } as const;
    for (const call of [() => port.connect(address), () => port.listen(address)]) {
      expect((await failureOf(call)).message).toContain("is unknown: write { path: '/tmp/x' }");
    }
  });

  test('completion-port/node/net takes it, as node:net does', async () => {
    const folder = temporaryDirectory();
    const places = [{ host: '127.0.0.1', port: 0 }, { path: path.join(folder, 'socket') }];
    for (const where of windows ? places.slice(0, 1) : places) {
      const server = overNet.createServer((socket) => socket.end('hello'));
      await new Promise<void>((resolve) => server.listen(where, resolve));
      const socket = overNet.connect(server.address() as never);
      expect(String((await once(socket, 'data'))[0])).toBe('hello');
      await new Promise((resolve) => server.close(resolve));
    }
  });
});
