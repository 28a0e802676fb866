/**
 * Options of sockets, as the system says of them afterwards; where a connection comes from; scopes.
 */
import os from 'node:os';
import net from 'node:net';
import { describe, expect, test } from 'vitest';
import { closeHandle } from '../dist/handles/handle.js';
import type { TcpSocket } from '../dist/handles/socket.js';
import { drivers, newPort, temporaryDirectory, windows } from './support/harness';

const asked = {
  noDelay: false,
  keepAlive: true,
  keepAliveInitialDelay: 41_000,
  keepAliveInterval: 6000,
  keepAliveCount: 4,
  userTimeout: 12_345,
  recvBufferSize: 20_000,
  sendBufferSize: 30_000,
  typeOfService: 0x10,
  linger: 0,
};
/** Linux doubles the sizes. */
const said = { ...asked, recvBufferSize: 40_000, sendBufferSize: 60_000 };

describe.runIf(!windows).each(drivers)('%s', (driver) => {
  test('connect sets the options of the system', async () => {
    const port = newPort({ driver });
    const listener = await port.listen({ port: 0, host: '127.0.0.1' });
    const { port: number } = listener.address()!;
    const socket = await port.connect({ port: number, host: '127.0.0.1', ...asked });
    expect(socket.getOptions()).toEqual(said);
    await port.close();
  });

  test('a connection inherits the options of its listener, in each style', async () => {
    const port = newPort({ driver });
    const listener = await port.listen({ port: 0, host: '127.0.0.1', ...asked });
    const keyed = await port.listen({ port: 0, host: '127.0.0.1', key: 1, ...asked });
    await port.connect({ port: listener.address()!.port, host: '127.0.0.1' });
    expect((await listener.accept()).getOptions()).toEqual(said);
    await port.connect({ port: keyed.address()!.port, host: '127.0.0.1' });
    for await (const packet of port.packets()) {
      if (packet.type !== 'accepted') continue;
      expect(packet.accepted!.getOptions()).toEqual(said);
      break;
    }
    await port.close();
  });

  test('setOptions changes what it is given, and nothing else', async () => {
    const port = newPort({ driver });
    const listener = await port.listen({ port: 0, host: '::1' });
    const socket = await port.connect({ port: listener.address()!.port, host: '::1' });
    const before = socket.getOptions();
    socket.setOptions({ userTimeout: 777, typeOfService: 0x20 });
    expect(socket.getOptions()).toEqual({ ...before, userTimeout: 777, typeOfService: 0x20 });
    socket.setKeepAlive(true, 5000, 3000, 2);
    const probed = { keepAlive: true, keepAliveInitialDelay: 5000, keepAliveInterval: 3000 };
    expect(socket.getOptions()).toMatchObject({ ...probed, keepAliveCount: 2 });
    socket.setKeepAlive(false);
    expect(socket.getOptions().keepAlive).toBe(false);
    socket.setOptions({ linger: 0 });
    expect(socket.getOptions().linger).toBe(0);
    await socket.close();
    expect(() => socket.setOptions({})).toThrow(
      expect.objectContaining({ code: 'ERR_HANDLE_CLOSED' }),
    );
    const accepted = await listener.accept();
    await expect(accepted.receive()).rejects.toMatchObject({ code: 'ECONNRESET' });
    await port.close();
  });

  test('probes keep what was set of them before', async () => {
    const port = newPort({ driver });
    const listener = await port.listen({ port: 0, host: '127.0.0.1' });
    const socket = await port.connect({ port: listener.address()!.port, host: '127.0.0.1' });
    const probed = (): object => {
      const { keepAlive, keepAliveInterval, keepAliveCount, ...rest } = socket.getOptions();
      return [keepAlive, rest.keepAliveInitialDelay, keepAliveInterval, keepAliveCount];
    };
    expect(() => socket.setOptions({ keepAliveInitialDelay: 60_000 })).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
    );
    socket.setOptions({ keepAliveInterval: 5000 });
    socket.setOptions({ keepAlive: true });
    expect(probed()).toEqual([true, 7_200_000, 5000, 10]);
    socket.setOptions({ keepAliveInitialDelay: 60_000 });
    expect(probed()).toEqual([true, 60_000, 5000, 10]);
    socket.setOptions({ keepAliveCount: 3 });
    socket.setOptions({ keepAlive: true, keepAliveInitialDelay: 30_000, keepAliveInterval: 7000 });
    expect(probed()).toEqual([true, 30_000, 7000, 3]);
    socket.setKeepAlive(true, 2000);
    expect(probed()).toEqual([true, 2000, 1000, 10]);
    await port.close();
  });

  test('options of a connection that another thread has closed are ERR_HANDLE_CLOSED', async () => {
    const port = newPort({ driver });
    const listener = await port.listen({ port: 0, host: '127.0.0.1' });
    const socket = await port.connect({ port: listener.address()!.port, host: '127.0.0.1' });
    const { thread, id } = socket as unknown as TcpSocket<'await'>;
    await closeHandle(thread, id); // as another one does: this handle does not hear of it
    const closed = expect.objectContaining({ code: 'ERR_HANDLE_CLOSED' }) as Error;
    expect(() => socket.getOptions()).toThrow(closed);
    expect(() => socket.setOptions({ userTimeout: 5 })).toThrow(closed);
    expect(() => socket.setNoDelay()).toThrow(closed);
    expect(() => socket.setKeepAlive(true)).toThrow(closed);
    await port.close();
  });

  test('a socket that listens already gets what can be set of it, and refuses the rest', async () => {
    const port = newPort({ driver });
    const listener = await port.listen({ port: 0, host: '127.0.0.1' });
    for (const options of [{ backlog: 5 }, { reusePort: true }]) {
      expect(() => port.listen({ fd: listener.fd, ...options })).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
      );
    }
    const { port: number } = listener.address()!;
    for (const noDelay of [false, true]) {
      const again = await port.listen({ fd: listener.fd, noDelay });
      await port.connect({ port: number, host: '127.0.0.1' });
      expect((await again.accept()).getOptions().noDelay).toBe(noDelay);
      await again.close();
    }
    await port.close();
  });

  test('bytes that come first are there when a connection is accepted', async () => {
    const port = newPort({ driver });
    const listener = await port.listen({
      port: 0,
      host: '127.0.0.1',
      deferAccept: 5000,
      fastOpen: 8,
    });
    const accepting = listener.accept();
    const socket = await port.connect({
      port: listener.address()!.port,
      host: '127.0.0.1',
      fastOpen: true,
    });
    const [accepted] = await Promise.all([accepting, socket.send('first')]);
    expect(String(await accepted.receive())).toBe('first');
    await port.close();
  });

  test('wrong values throw at once, and what cannot be says so', async () => {
    const port = newPort({ driver });
    const place = { port: 1, host: '127.0.0.1' };
    const wrong = [
      { keepAliveInterval: 0 },
      { keepAliveCount: 128 },
      { userTimeout: -1 },
      { recvBufferSize: 0 },
      { typeOfService: 256 },
      { deferAccept: -1 },
    ];
    for (const options of wrong) {
      expect(() => port.listen({ ...place, ...options })).toThrow(
        expect.objectContaining({ code: 'ERR_OUT_OF_RANGE' }),
      );
    }
    for (const options of [{ linger: 1000 }, { linger: NaN }]) {
      expect(() => port.connect({ ...place, ...options })).toThrow(
        expect.objectContaining({ code: 'ENOTSUP' }),
      );
    }
    const path = `${temporaryDirectory()}/socket`;
    for (const options of [{ userTimeout: 5 }, { typeOfService: 1 }, { fastOpen: true }]) {
      expect(() => port.connect({ path, ...options })).toThrow(
        expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
      );
    }
    const listener = await port.listen({ path, sendBufferSize: 10_000 });
    const socket = await port.connect({ path, sendBufferSize: 10_000 });
    const buffers = { sendBufferSize: 20_000, recvBufferSize: expect.any(Number) as number };
    expect(socket.getOptions()).toMatchObject({ ...buffers, linger: Infinity });
    expect(socket.getOptions()).not.toHaveProperty('typeOfService');
    await listener.close();
    await port.close();
  });

  test('a connection comes from the address and the port that it was told', async () => {
    const port = newPort({ driver });
    const listener = await port.listen({ port: 0, host: '127.0.0.1' });
    const place = { port: listener.address()!.port, host: '127.0.0.1' };
    const socket = await port.connect({ ...place, localAddress: '127.0.0.9' });
    expect(socket.localAddress).toBe('127.0.0.9');
    expect((await listener.accept()).remoteAddress).toBe('127.0.0.9');
    const { localPort } = socket;
    const second = await port.connect({
      ...place,
      localAddress: '127.0.0.8',
      localPort: localPort!,
    });
    expect(second).toMatchObject({ localAddress: '127.0.0.8', localPort });
    const taken = port.connect({ ...place, localAddress: '127.0.0.8', localPort: localPort! });
    // Which of the two calls refuses it is the kernel's choice.
    await expect(taken).rejects.toMatchObject({
      code: expect.stringMatching(/^EADDR(INUSE|NOTAVAIL)$/) as string,
    });
    const foreign = port.connect({ ...place, localAddress: '192.0.2.254' });
    await expect(foreign).rejects.toMatchObject({ code: 'EADDRNOTAVAIL' });
    const other = port.connect({ ...place, localAddress: '::1' });
    await expect(other).rejects.toThrow();
    expect(() => port.connect({ ...place, localAddress: 'localhost' })).toThrow(
      expect.objectContaining({ code: 'ERR_INVALID_ARG_VALUE' }),
    );
    await port.close();
  });

  const linkLocal = Object.entries(os.networkInterfaces())
    .flatMap(([name, all]) => (all ?? []).map((one) => ({ ...one, name })))
    .find(({ family, scopeid }) => family === 'IPv6' && (scopeid ?? 0) > 0);

  test.skipIf(linkLocal === undefined)('scopes are taken by name and by number', async () => {
    const { address, name, scopeid } = linkLocal!;
    const port = newPort({ driver });
    const listener = await port.listen({ port: 0, host: `${address}%${name}` });
    expect(listener.address()!.address).toBe(`${address}%${name}`);
    const socket = await port.connect({
      port: listener.address()!.port,
      host: `${address}%${scopeid}`,
      localAddress: `${address}%${name}`,
    });
    expect(socket.remoteAddress).toBe(`${address}%${name}`);
    expect(socket.localAddress).toBe(`${address}%${name}`);
    expect((await listener.accept()).remoteAddress).toBe(`${address}%${name}`);
    await port.close();
  });

  test('a scope that there is not is EINVAL', async () => {
    const port = newPort({ driver });
    for (const host of ['fe80::1%nowhere', 'fe80::1%12x']) {
      expect(net.isIP(host)).toBe(6);
      await expect(port.connect({ port: 1, host })).rejects.toMatchObject({ code: 'EINVAL' });
      await expect(port.listen({ port: 0, host })).rejects.toMatchObject({ code: 'EINVAL' });
    }
    await port.close();
  });
});

describe.runIf(windows)('iocp', () => {
  test('what Windows has is set, and what it has not is ENOTSUP at once', async () => {
    const port = newPort();
    const listener = await port.listen({ port: 0, host: '127.0.0.1', noDelay: true });
    const place = { port: listener.address()!.port, host: '127.0.0.1' };
    const socket = await port.connect({ ...place, recvBufferSize: 30_000, keepAlive: true });
    const { recvBufferSize, noDelay, keepAlive } = socket.getOptions();
    expect(recvBufferSize).toBeGreaterThanOrEqual(30_000);
    expect([noDelay, keepAlive]).toEqual([true, true]);
    expect((await listener.accept()).getOptions().noDelay).toBe(true);
    for (const options of [{ typeOfService: 8 }, { fastOpen: true }, { linger: 5 }]) {
      expect(() => port.connect({ ...place, ...options })).toThrow(
        expect.objectContaining({ code: 'ENOTSUP' }),
      );
    }
    expect(() => port.listen({ port: 0, deferAccept: 1000 })).toThrow(
      expect.objectContaining({ code: 'ENOTSUP' }),
    );
    const local = await port.connect({ ...place, localAddress: '127.0.0.1' });
    expect(local.localAddress).toBe('127.0.0.1');
    await port.close();
  });
});
