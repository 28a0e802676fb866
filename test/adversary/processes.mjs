/** Programs of this folder as processes of their own, which are asked one thing at a time. */
import { fork } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

const alive = new Set();
process.on('exit', () => {
  for (const child of alive) child.kill('SIGKILL');
});

async function answer(child, name) {
  const ended = new AbortController();
  const options = { signal: ended.signal };
  try {
    const death = once(child, 'exit', options).then(([code, signal]) => {
      throw new Error(`${name} ended with ${signal ?? code}`);
    });
    const [message] = await Promise.race([once(child, 'message', options), death]);
    return message;
  } finally {
    ended.abort();
  }
}

/** Ticks of a hundredth of a second that `child` has computed; NaN where /proc does not tell. */
export function cpuTicks(child) {
  try {
    const [, rest] = readFileSync(`/proc/${child.pid}/stat`, 'latin1').split(/\) (.*)/s);
    const fields = rest.split(' ');
    return Number(fields[11]) + Number(fields[12]);
  } catch {
    return NaN;
  }
}

/** Of a program that has the processors when nobody else wants them (SCHED_IDLE). */
export const idly = { execPath: 'chrt', execArgv: ['--idle', '0', process.execPath] };

/** Resolves when it has said its first message, which is `ready`. */
export async function start(name, args = [], env = {}, how = {}) {
  const file = fileURLToPath(new URL(name, import.meta.url));
  const all = { ...process.env, NODE_NO_WARNINGS: '1', ...env };
  const child = fork(file, args, { env: all, ...how });
  alive.add(child);
  const exited = new Promise((resolve) => child.once('exit', resolve));
  void exited.then(() => alive.delete(child));
  return {
    pid: child.pid,
    ready: await answer(child, name),
    ask(question) {
      child.send(question);
      return answer(child, name);
    },
    async kill() {
      child.kill('SIGKILL');
      await exited;
    },
  };
}
