/**
 * The tests on a machine that stands still now and then, as busy and virtual ones do: their processes
 * are stopped at random, one at a time, for up to 1.2 seconds.
 *
 *     npm run test:stalls [-- --most 1200 ARGUMENT...]
 *
 * `--most`: milliseconds; all else is vitest's. What fails counted on time that passes evenly, or has
 * found a race.
 */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';

const vitest = fileURLToPath(new URL('../../node_modules/vitest/vitest.mjs', import.meta.url));
const given = process.argv.slice(2);
const at = given.indexOf('--most');
const most = at < 0 ? 1200 : Number(given.splice(at, 2)[1]);

/** Field 4 of proc_pid_stat(5); the name in front of it may have spaces and brackets. */
function parentOf(pid) {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[1]);
  } catch {
    return undefined; // it has ended
  }
}

/** All processes that come from this one, itself left out: it prints what fails. */
function descendants(root) {
  const pids = readdirSync('/proc').map(Number).filter(Number.isInteger);
  const parents = new Map(pids.map((pid) => [pid, parentOf(pid)]));
  const comesFromRoot = (pid) => {
    for (let up = parents.get(pid); up !== undefined; up = parents.get(up)) {
      if (up === root) return true;
    }
    return false;
  };
  return pids.filter(comesFromRoot);
}

function signal(pid, name) {
  try {
    process.kill(pid, name);
  } catch {
    // It has ended.
  }
}

const tests = spawn(process.execPath, [vitest, 'run', ...given], { stdio: 'inherit' });
const ended = once(tests, 'exit');
let stops = 0;
while (existsSync(`/proc/${tests.pid}`) && tests.exitCode === null) {
  const pids = descendants(tests.pid);
  await sleep(50 + Math.random() * 400);
  if (pids.length === 0) continue;
  const pid = pids[Math.floor(Math.random() * pids.length)];
  signal(pid, 'SIGSTOP');
  await sleep(Math.random() < 0.5 ? Math.random() * 300 : Math.random() * most);
  signal(pid, 'SIGCONT');
  stops++;
}
const [code] = await ended;
console.log(`${stops} stops`);
process.exitCode = code ?? 1;
