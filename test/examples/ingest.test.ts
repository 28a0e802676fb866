import { readFileSync, writeFileSync } from 'node:fs';
import type net from 'node:net';
import path from 'node:path';
import { expect, test } from 'vitest';
import { rawClient, temporaryDirectory, until } from '../support/harness';
import { describeDrivers, startServer, stopped } from '../support/examples';

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
});
