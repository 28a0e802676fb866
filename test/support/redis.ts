/** A Redis of the test's own. */
import { spawn, spawnSync, type ChildProcess } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';

/** Why there is none; undefined: there is. */
export const noRedis: string | undefined = (() => {
  const { error } = spawnSync('redis-server', ['--version']);
  return error === undefined ? undefined : `redis-server is not installed: ${error.message}`;
})();

export interface Redis {
  readonly url: string;
  stop(): Promise<void>;
}

async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/** Whether it answers; false when it has ended, since another process took the port, say. */
function isReady(child: ChildProcess): Promise<boolean> {
  return new Promise((resolve) => {
    let said = '';
    child.stdout!.on('data', (text: Buffer) => {
      said += String(text);
      if (said.includes('Ready to accept connections')) resolve(true);
    });
    child.once('exit', () => resolve(false));
  });
}

export async function startRedis(): Promise<Redis> {
  const directory = mkdtempSync(path.join(tmpdir(), 'completion-port-redis-'));
  for (let attempt = 0; attempt < 10; attempt++) {
    const port = await freePort();
    const options = ['--port', String(port), '--bind', '127.0.0.1', '--dir', directory];
    const child = spawn('redis-server', [...options, '--save', '', '--appendonly', 'no']);
    const exited = new Promise((resolve) => child.once('exit', resolve));
    if (!(await isReady(child))) continue;
    const stop = async (): Promise<void> => {
      child.kill('SIGKILL');
      await exited;
      rmSync(directory, { recursive: true, force: true });
    };
    return { url: `redis://127.0.0.1:${port}`, stop };
  }
  throw new Error('redis-server does not start');
}
