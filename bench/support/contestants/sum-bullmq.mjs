/**
 * A Redis of its own, and a process that serves the tasks of the sum server: they end with this one,
 * however it ends.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

/** The shell's input ends with this process, and it ends what it has started. It says its number first. */
const TIED = '"$0" "$@" 2>&1 & echo $!; cat > /dev/null; kill -9 $!';

/** The number of the process, once it has printed a line with `words` in it; undefined: it ended. */
async function startTied(words, program, ...args) {
  const child = spawn('sh', ['-c', TIED, program, ...args], { stdio: ['pipe', 'pipe', 'inherit'] });
  let pid;
  for await (const line of createInterface({ input: child.stdout })) {
    pid ??= Number(line);
    if (!line.includes(words)) continue;
    child.stdout.resume();
    for (const one of [child, child.stdin, child.stdout]) one.unref();
    return pid;
  }
  return undefined;
}

async function freePort() {
  const server = net.createServer().listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address();
  server.close();
  return port;
}

/** Where the queue is, and the processes it takes; undefined where there is no Redis. */
export async function startQueue({ queue, threads }) {
  const directory = mkdtempSync(path.join(tmpdir(), 'completion-port-redis-'));
  process.once('exit', () => rmSync(directory, { recursive: true, force: true }));
  const port = String(await freePort());
  const where = ['--port', port, '--bind', '127.0.0.1', '--dir', directory];
  const kept = ['--save', '', '--appendonly', 'no'];
  const redis = await startTied('Ready to accept', 'redis-server', ...where, ...kept);
  if (redis === undefined) return undefined;
  const url = `redis://127.0.0.1:${port}`;
  const cli = fileURLToPath(new URL('../../../dist/cli.js', import.meta.url));
  const tasks = fileURLToPath(new URL('sum-tasks.mjs', import.meta.url));
  const how = ['--queue', queue, '--redis', url, '--concurrency', String(threads)];
  const work = [cli, 'work', ...how, tasks];
  const worker = await startTied(`of queue ${queue}`, process.execPath, '--no-warnings', ...work);
  if (worker === undefined) throw new Error('The worker of the queue did not start');
  return { url, pids: [redis, worker] };
}
