/** A Redis of the test's own. */
import { spawn, spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { foreignEnv, freePort, isReady } from './servers';

/** Why there is none; undefined: there is. */
export const noRedis: string | undefined = (() => {
  const { error } = spawnSync('redis-server', ['--version'], { env: foreignEnv() });
  return error === undefined ? undefined : `redis-server is not installed: ${error.message}`;
})();

export interface Redis {
  readonly url: string;
  stop(): Promise<void>;
}

export async function startRedis(): Promise<Redis> {
  const directory = mkdtempSync(path.join(tmpdir(), 'completion-port-redis-'));
  for (let attempt = 0; attempt < 10; attempt++) {
    const port = await freePort();
    const options = ['--port', String(port), '--bind', '127.0.0.1', '--dir', directory];
    const child = spawn('redis-server', [...options, '--save', '', '--appendonly', 'no'], {
      env: foreignEnv(),
    });
    const exited = new Promise((resolve) => child.once('exit', resolve));
    if (!(await isReady(child, 'stdout', 'Ready to accept connections'))) continue;
    const stop = async (): Promise<void> => {
      child.kill('SIGKILL');
      await exited;
      rmSync(directory, { recursive: true, force: true });
    };
    return { url: `redis://127.0.0.1:${port}`, stop };
  }
  throw new Error('redis-server does not start');
}
