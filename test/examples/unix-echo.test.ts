import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { expect, test } from 'vitest';
import { ended, windows } from '../support/harness';
import { describeDrivers, startExample } from '../support/examples';
import { newSocketPath } from '../support/socket-path';

describeDrivers('unix-echo', (driver) => {
  test('answers at a path, and removes its file at SIGTERM', async () => {
    const socket = newSocketPath();
    const env = { COMPLETION_PORT_DRIVER: driver };
    const server = startExample('unix-echo', [socket], { env });
    const end = ended(server);
    await once(server.stdout!, 'data');
    const { code, stdout } = await ended(startExample('unix-echo', [socket, 'hello'], { env }));
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'hello\n' });
    server.kill('SIGTERM');
    if (windows) return; // which has no signals: the process is ended
    expect(await end).toMatchObject({ code: 0 });
    expect(existsSync(socket)).toBe(false);
  });
});
