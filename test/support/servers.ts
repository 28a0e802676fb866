/** What tests share that start a program of somebody else's. */
import type { ChildProcess } from 'node:child_process';
import net from 'node:net';

/**
 * The environment for it: without the library of a sanitizer, which is for the addon. Some programs
 * hang with it: postgres does.
 */
export function foreignEnv(): NodeJS.ProcessEnv {
  const { LD_PRELOAD: _, ...env } = process.env;
  return env;
}

export async function freePort(): Promise<number> {
  const server = net.createServer();
  await new Promise<void>((resolve) => server.listen(0, '127.0.0.1', resolve));
  const { port } = server.address() as net.AddressInfo;
  await new Promise((resolve) => server.close(resolve));
  return port;
}

/**
 * Whether it answers, which it says in these words; false when it has ended, since another process
 * took the port, say.
 */
export function isReady(child: ChildProcess, from: 'stdout' | 'stderr', words: string) {
  return new Promise<boolean>((resolve) => {
    let said = '';
    child[from]!.on('data', (text: Buffer) => {
      said += String(text);
      if (said.includes(words)) resolve(true);
    });
    child.once('exit', () => resolve(false));
  });
}
