import dns from 'node:dns';
import net from 'node:net';
import os from 'node:os';
import { afterEach, describe, expect, test, vi } from 'vitest';
import {
  connectedPair,
  drivers,
  failureOf,
  newPort,
  until,
  type CompletionPort,
} from './support/harness';

afterEach(() => void vi.restoreAllMocks());

/** What the name `host` stands for, from now on. */
function resolvesTo(...addresses: string[]): void {
  const found = addresses.map((address) => ({ address, family: net.isIP(address) }));
  vi.spyOn(dns.promises, 'lookup').mockResolvedValue(found as never);
}

/**
 * Two listeners on one port of `silent` and `answering`; who connects to the first is not answered,
 * because its queue of connections is full.
 */
async function oneIsSilent(port: CompletionPort, silent: string, answering: string) {
  for (let tries = 0; ; tries++) {
    const full = await port.listen({ host: silent, port: 0, backlog: 1 });
    const number = full.address()!.port;
    try {
      const listener = await port.listen({ host: answering, port: number });
      const fillers = await fill(silent, number);
      return { number, listener, end: () => fillers.forEach((filler) => filler.destroy()) };
    } catch (error) {
      if ((error as NodeJS.ErrnoException).code !== 'EADDRINUSE' || tries === 20) throw error;
      await full.close();
    }
  }
}

/** Linux lets one more than the backlog wait, and drops what comes then. */
async function fill(host: string, port: number): Promise<net.Socket[]> {
  const connect = (): net.Socket => net.connect({ host, port }).on('error', () => undefined);
  const fillers = [connect(), connect()];
  await until(() => fillers.every((filler) => !filler.connecting));
  return [...fillers, connect()];
}

describe.runIf(process.platform === 'linux').each(drivers)('%s', (driver) => {
  test('the next address has its turn while the first is silent', async () => {
    const port = newPort({ driver });
    const { number, listener, end } = await oneIsSilent(port, '127.0.0.2', '127.0.0.1');
    resolvesTo('127.0.0.2', '127.0.0.1');
    const socket = await port.connect({ host: 'two.test', port: number });
    expect(socket.remoteAddress).toBe('127.0.0.1');
    expect((await listener.accept()).remotePort).toBe(socket.localPort);
    // The other attempt is given up: nothing of it is left.
    await until(() => port.stats().handles === 4);
    end();
    await port.close();
  });

  test('of a connection with a key that lost, no packet comes', async () => {
    const port = newPort({ driver });
    const { number, end } = await oneIsSilent(port, '127.0.0.2', '127.0.0.1');
    resolvesTo('127.0.0.2', '127.0.0.1');
    const seen: string[] = [];
    port.consume((packet) => void seen.push(packet.type));
    const socket = await port.connect({ host: 'two.test', port: number, key: 7 });
    expect(socket.remoteAddress).toBe('127.0.0.1');
    socket.close();
    await until(() => seen.includes('closed'));
    expect(seen).toEqual(['closed']);
    end();
    await port.close();
  });

  test('a signal ends all attempts', async () => {
    const port = newPort({ driver });
    const { number, listener, end } = await oneIsSilent(port, '127.0.0.2', '127.0.0.3');
    await listener.close();
    resolvesTo('127.0.0.2', '127.0.0.2');
    const stop = new AbortController();
    const connecting = port.connect({ host: 'one.test', port: number, signal: stop.signal });
    stop.abort();
    expect(await failureOf(() => connecting)).toMatchObject({ code: 'ABORT_ERR' });
    end();
    await port.close();
  });
});

test('when all addresses refuse, all refusals are told', async () => {
  const port = newPort();
  const free = await port.listen({ host: '127.0.0.1', port: 0 });
  const number = free.address()!.port;
  await free.close();
  resolvesTo('::1', '127.0.0.1');
  const error = await failureOf(() => port.connect({ host: 'two.test', port: number }));
  expect(error).toBeInstanceOf(AggregateError);
  const { errors, code } = error as unknown as AggregateError & { code: string };
  expect(errors.map((each: NodeJS.ErrnoException) => each.code)).toContain('ECONNREFUSED');
  expect(errors).toHaveLength(2);
  expect(code).toBe((errors[0] as NodeJS.ErrnoException).code);
  await port.close();
});

test('families alternate, beginning with the first', async () => {
  const port = newPort();
  const free = await port.listen({ host: '127.0.0.1', port: 0 });
  const number = free.address()!.port;
  await free.close();
  resolvesTo('127.0.0.1', '127.0.0.2', '::1');
  const error = await failureOf(() => port.connect({ host: 'three.test', port: number }));
  const { errors } = error as unknown as AggregateError;
  const tried = errors.map((each: { address?: string }) => each.address);
  expect(tried).toEqual(['127.0.0.1', '::1', '127.0.0.2']);
  await port.close();
});

test('an empty host is the same as none, as for node:net', async () => {
  const port = newPort();
  const listener = await port.listen({ host: '', port: 0 });
  expect(['::', '0.0.0.0']).toContain(listener.address()!.address);
  const socket = await port.connect({ host: '', port: listener.address()!.port });
  expect(socket.remotePort).toBe(listener.address()!.port);
  await port.close();
});

test('a name without addresses is ENOTFOUND', async () => {
  const port = newPort();
  resolvesTo();
  const nobody = { host: 'nobody.test', port: 1 };
  const code = 'ENOTFOUND';
  expect(await failureOf(() => port.connect(nobody))).toMatchObject({
    code,
    hostname: 'nobody.test',
  });
  expect(await failureOf(() => port.listen(nobody))).toMatchObject({ code });
  await port.close();
});

test('a wrong keepAlive throws at once, and nothing is connected or switched on', async () => {
  const port = newPort();
  const code = 'ERR_OUT_OF_RANGE';
  const wrong = (): unknown => port.connect({ port: 1, keepAliveInitialDelay: 40_000_000 });
  expect(wrong).toThrow(expect.objectContaining({ code }));
  const { client } = await connectedPair(port);
  expect(() => client.setKeepAlive(true, 40_000_000)).toThrow(expect.objectContaining({ code }));
  client.setKeepAlive(true, 32_767_000).setKeepAlive(false);
  await port.close();
});

test('a loop over connections ends with ETIMEDOUT when none comes in time', async () => {
  const port = newPort();
  const listener = await port.listen({ host: '127.0.0.1', port: 0 });
  await port.connect({ host: '127.0.0.1', port: listener.address()!.port });
  const sockets = listener.sockets({ timeout: 1000 });
  expect((await sockets.next()).done).toBe(false);
  expect(await failureOf(() => sockets.next())).toMatchObject({ code: 'ETIMEDOUT' });
  expect((await sockets.next()).done).toBe(true);
  await port.close();
});

test('a signal has no listener left where an argument is wrong, and none of a loop that is not run', async () => {
  const port = newPort();
  const { signal } = new AbortController();
  const add = vi.spyOn(signal, 'addEventListener');
  const remove = vi.spyOn(signal, 'removeEventListener');
  const { client } = await connectedPair(port);
  const listener = await port.listen({ host: '127.0.0.1', port: 0 });
  const timeout = -1;
  for (const call of [
    (): unknown => port.open('/nowhere', 'r', { signal, timeout }),
    (): unknown => port.connect({ port: 1, signal, timeout }),
    (): unknown => port.listen({ port: 0, signal, timeout }),
    (): unknown => client.chunks({ signal, timeout }),
    (): unknown => client.chunks({ signal, lend: 1 as never }),
    (): unknown => client.receive({ signal, timeout }),
    (): unknown => client.send('x', { signal, timeout }),
    (): unknown => client.end('x', { signal, timeout }),
    (): unknown => listener.sockets({ signal, timeout }),
    (): unknown => listener.accept({ signal, timeout }),
  ]) {
    expect(call).toThrow();
  }
  client.chunks({ signal });
  listener.sockets({ signal });
  expect(add.mock.calls.length).toBe(remove.mock.calls.length);
  await port.close();
});

const linkLocal = Object.entries(os.networkInterfaces()).flatMap(([name, addresses]) =>
  (addresses ?? []).filter((it) => it.address.startsWith('fe80:')).map((it) => ({ name, ...it })),
)[0];

test.runIf(linkLocal !== undefined)(
  'a link-local address has its zone: one can connect back',
  async () => {
    const port = newPort();
    const listener = await port.listen({
      host: `${linkLocal!.address}%${linkLocal!.name}`,
      port: 0,
    });
    const { address, port: number } = listener.address()!;
    expect(address).toContain('%');
    const socket = await port.connect({ host: address, port: number });
    expect(socket.remoteAddress).toBe(address);
    await port.close();
  },
);
