import { once } from 'node:events';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { ended, temporaryDirectory } from '../support/harness';
import { describeDrivers, startExample } from '../support/examples';

describeDrivers('unix-echo', (driver) => {
  test('answers at a path, and removes its file at SIGTERM', async () => {
    const socket = path.join(temporaryDirectory(), 'socket');
    const env = { COMPLETION_PORT_DRIVER: driver };
    const server = startExample('unix-echo', [socket], { env });
    const end = ended(server);
    await once(server.stdout!, 'data');
    const { code, stdout } = await ended(startExample('unix-echo', [socket, 'hello'], { env }));
    expect({ code, stdout }).toEqual({ code: 0, stdout: 'hello\n' });
    server.kill('SIGTERM');
    expect(await end).toMatchObject({ code: 0 });
    expect(existsSync(socket)).toBe(false);
  });
});
