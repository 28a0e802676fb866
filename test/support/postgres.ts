/** A PostgreSQL of the test's own. */
import { spawn, spawnSync } from 'node:child_process';
import { chownSync, existsSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { foreignEnv, freePort, isReady } from './servers';

const INSTALLED = '/usr/lib/postgresql';

/** Where its programs are: Debian keeps them out of the PATH, by version. */
function folder(): string | undefined {
  const versions = existsSync(INSTALLED) ? readdirSync(INSTALLED) : [];
  return versions
    .map((version) => path.join(INSTALLED, version, 'bin'))
    .find((bin) => existsSync(path.join(bin, 'initdb')));
}

const bin = folder();
/** Why there is none; undefined: there is. */
export const noPostgres = bin === undefined ? 'PostgreSQL is not installed' : undefined;

export interface Postgres {
  readonly port: number;
  /** Where its UNIX socket is. */
  readonly directory: string;
  readonly user: string;
  stop(): Promise<void>;
}

/** It does not run as root: then it is the user of that name. */
function whoRunsIt(): { uid?: number; gid?: number } {
  if (process.getuid?.() !== 0) return {};
  const idOf = (option: string): number =>
    Number(spawnSync('id', [option, 'postgres'], { encoding: 'utf8' }).stdout);
  return { uid: idOf('-u'), gid: idOf('-g') };
}

export async function startPostgres(): Promise<Postgres> {
  const who = whoRunsIt();
  const directory = mkdtempSync(path.join(tmpdir(), 'completion-port-postgres-'));
  if (who.uid !== undefined) chownSync(directory, who.uid, who.gid!);
  const data = path.join(directory, 'data');
  const user = 'tester';
  const options = { ...who, cwd: directory, env: { ...foreignEnv(), LC_ALL: 'C' } };
  const initial = ['-D', data, '-A', 'trust', '-U', user, '--no-sync'];
  const made = spawnSync(path.join(bin!, 'initdb'), initial, {
    ...options,
    encoding: 'utf8',
    timeout: 60_000, // no time limit of the test's can end it: it blocks the thread
    killSignal: 'SIGKILL',
  });
  if (made.status !== 0) throw new Error(`initdb: ${made.error?.message ?? made.stderr}`);
  for (let attempt = 0; attempt < 10; attempt++) {
    const port = await freePort();
    const place = ['-h', '127.0.0.1', '-p', String(port), '-k', directory];
    const run = ['-D', data, ...place, '-c', 'fsync=off'];
    const child = spawn(path.join(bin!, 'postgres'), run, options);
    const exited = new Promise((resolve) => child.once('exit', resolve));
    if (!(await isReady(child, 'stderr', 'ready to accept connections'))) continue;
    const stop = async (): Promise<void> => {
      child.kill('SIGQUIT'); // at once, with its children
      await exited;
      rmSync(directory, { recursive: true, force: true });
    };
    return { port, directory, user, stop };
  }
  throw new Error('postgres does not start');
}
