/**
 * Runs a spool server and its clients, each in a process of their own, and measures what the server
 * takes while they send.
 */
import { fork, spawn } from 'node:child_process';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { fileURLToPath } from 'node:url';

const examples = fileURLToPath(new URL('..', import.meta.url));

const running = new Set();

function failure(message) {
  return Object.assign(new Error(message), { code: 'ERR_FAILED' });
}

/** Resolves to the exit code. */
function exitOf(child) {
  return new Promise((resolve) => child.once('exit', (code, signal) => resolve(code ?? signal)));
}

function keepTrack(child) {
  running.add(child);
  void exitOf(child).then(() => running.delete(child));
  return child;
}

/** Ends at once whatever was started here. */
export function killAll() {
  for (const child of running) child.kill('SIGKILL');
}

/** Starts a server, which tells where it listens and, when it is asked and at its end, its numbers. */
export async function startServer({ program, options, launcher = [] }) {
  const command = [process.execPath, path.resolve(examples, program), '--port=0', '--stats'];
  const [file, ...args] = [...launcher, ...command, ...options];
  // Not in the terminal's group: Ctrl-C is ours, and the server ends when we say so, or, by the
  // channel, when we are gone.
  const how = { stdio: ['ignore', 'pipe', 'inherit', 'ipc'], detached: true };
  const child = keepTrack(spawn(file, args, how));
  const exited = exitOf(child);
  const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
  const nextLine = async (what) => {
    const { value: line } = await lines.next();
    if (line === undefined) throw failure(`the server ended with ${await exited}: no ${what}`);
    return line;
  };
  const ready = await nextLine('line');
  return {
    ready,
    port: Number(/:(\d+) /.exec(ready)[1]),
    line: () => nextLine('line'),
    async numbers() {
      child.kill('SIGUSR2');
      return JSON.parse(await nextLine('numbers'));
    },
    async stop() {
      child.kill('SIGTERM');
      await nextLine('numbers');
      const code = await exited;
      if (code !== 0) throw failure(`the server ended with ${code}`);
    },
  };
}

/** Starts a process that has the clients of any number of servers, its fleets. */
export function startLoad({ launcher = [] } = {}) {
  const [execPath, ...execArgv] = [...launcher, process.execPath];
  const load = path.join(examples, 'support', 'load.mjs');
  const root = path.dirname(path.resolve(examples));
  const child = keepTrack(fork(load, [root], { execPath, execArgv }));
  const exited = exitOf(child);
  /** `on` hears `begins`, `ends` and `progress`. */
  const tell = (message, on = {}) =>
    new Promise((resolve, reject) => {
      const hear = (said) => {
        for (const [name, value] of Object.entries(said)) on[name]?.(value);
        if (said.result === undefined && said.failed === undefined) return;
        child.off('message', hear);
        if (said.failed) reject(failure(`the load: ${said.failed}`));
        else resolve(said.result);
      };
      child.on('message', hear);
      void exited.then((code) => reject(failure(`the load ended with ${code}`)));
      child.send(message);
    });
  return {
    connect: (fleet, work) => tell({ command: 'connect', fleet, ...work }),
    run: (fleet, work, on) => tell({ command: 'run', fleet, ...work }, on),
    end: (fleet) => tell({ command: 'end', fleet }),
    async stop() {
      child.disconnect();
      await exited;
    },
  };
}

/** A run of a fleet, and what its server took in the time that was measured. */
export async function measureRun(load, fleet, server, work, onProgress) {
  let before;
  let after;
  const result = await load.run(fleet, work, {
    begins: () => (before = server.numbers()),
    ends: () => (after = before.then(() => server.numbers())),
    progress: onProgress,
  });
  return { ...result, ...difference(await before, await after) };
}

/** For a document: CPU time in microseconds, and how often JavaScript was called. */
function difference(before, after) {
  const documents = Math.max(1, after.documents - before.documents);
  const cpu = ({ cpu: { user, system } }) => (user + system) * 1e6;
  return {
    cpu: (cpu(after) - cpu(before)) / documents,
    wakeUps: (after.wakeUps - before.wakeUps) / documents,
    resident: after.residentBytes,
  };
}
