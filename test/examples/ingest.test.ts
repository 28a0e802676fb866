import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync, writeFileSync } from 'node:fs';
import type net from 'node:net';
import path from 'node:path';
import { expect, test } from 'vitest';
import { rawClient, temporaryDirectory, until, windows } from '../support/harness';
import { describeDrivers, NO_SIGNALS, startServer, stopped } from '../support/examples';

/** The server has ended it, or reset it over what it still sends. */
function over(socket: net.Socket): Promise<unknown> {
  return once(socket, 'end').catch(() => undefined);
}

describeDrivers('ingest', (driver) => {
  test('answers each line when it is in the log, also while other clients are reset', async () => {
    const file = path.join(temporaryDirectory(), 'log');
    const server = await startServer('ingest', driver, 1, [file]);
    const lines = (client: number): string =>
      Array.from({ length: 500 }, (_, i) => `client ${client}, line ${i}\n`).join('');
    const victims: net.Socket[] = [];
    for (let i = 0; i < 5; i++) {
      const victim = await rawClient(server.port);
      victim.write('a victim\n'.repeat(20_000));
      victims.push(victim);
    }
    const answers = await Promise.all(
      Array.from({ length: 10 }, async (_, client) => {
        const socket = await rawClient(server.port);
        let text = '';
        socket.on('data', (bytes) => (text += bytes));
        socket.write(lines(client));
        if (client === 5) for (const victim of victims) victim.resetAndDestroy();
        await until(() => text.length >= 1500);
        return text;
      }),
    );
    for (const answer of answers) expect(answer).toBe('ok\n'.repeat(500));
    const log = readFileSync(file, 'utf8');
    for (let client = 0; client < 10; client++) {
      const own = log.split('\n').filter((line) => line.startsWith(`client ${client},`));
      expect(own.join('\n') + '\n').toBe(lines(client));
    }
    expect(await server.stop()).toMatchObject(stopped);
  });

  test('a line that was torn when a process was killed stays a line of its own', async () => {
    const file = path.join(temporaryDirectory(), 'log');
    writeFileSync(file, 'whole\ntor');
    const server = await startServer('ingest', driver, 1, [file]);
    const socket = await rawClient(server.port);
    let text = '';
    socket.on('data', (bytes) => (text += bytes));
    socket.write('one\n');
    await until(() => text === 'ok\n');
    expect(readFileSync(file, 'utf8')).toBe('whole\ntor\none\n');
    expect(await server.stop()).toMatchObject(stopped);
  });

  test('at SIGTERM what it has written is answered, and nothing else', async ({ skip }) => {
    if (windows) return skip(NO_SIGNALS);
    const file = path.join(temporaryDirectory(), 'log');
    const server = await startServer('ingest', driver, 1, [file]);
    const clients = await Promise.all(
      Array.from({ length: 5 }, async (_, client) => {
        const socket = await rawClient(server.port);
        const seen = { text: '', over: over(socket) };
        socket.on('data', (bytes) => (seen.text += bytes));
        for (let i = 0; i < 20_000; i++) socket.write(`client ${client}, line ${i}\n`);
        return seen;
      }),
    );
    await until(() => clients.some(({ text }) => text !== ''));
    expect(await server.stop()).toMatchObject(stopped);
    await Promise.all(clients.map(({ over }) => over));
    const written = readFileSync(file, 'utf8').split('\n').slice(0, -1);
    clients.forEach(({ text }, client) => {
      const own = written.filter((line) => line.startsWith(`client ${client},`));
      expect(own).toEqual(own.map((_, i) => `client ${client}, line ${i}`));
      expect(text.length / 'ok\n'.length).toBeLessThanOrEqual(own.length);
      expect(text).toBe('ok\n'.repeat(text.length / 3));
    });
  });

  test('after a write that failed half-way the next line is one of its own', async ({ skip }) => {
    if (process.platform !== 'linux') return skip('prlimit');
    const file = path.join(temporaryDirectory(), 'log');
    const server = await startServer('ingest', driver, 1, [file]);
    const mostBytes = (limit: string): void => {
      execFileSync('prlimit', [`--pid=${server.child.pid}`, `--fsize=${limit}:unlimited`]);
    };
    const says = async (line: string): Promise<string> => {
      const socket = await rawClient(server.port);
      let text = '';
      socket.on('data', (bytes) => (text += bytes));
      const gone = over(socket);
      socket.write(line);
      await Promise.race([until(() => text.length >= 3), gone]);
      socket.destroy();
      return text;
    };
    mostBytes('30');
    expect(await says(`${'a'.repeat(19)}\n`)).toBe('ok\n');
    expect(await says(`${'b'.repeat(19)}\n`)).toBe('');
    mostBytes('unlimited');
    expect(await says('c\n')).toBe('ok\n');
    expect(readFileSync(file, 'utf8')).toMatch(/^a{19}\nb{0,10}\nc\n$/);
    expect(await server.stop()).toMatchObject(stopped);
  });
});
