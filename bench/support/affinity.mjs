/**
 * Which CPUs servers and clients run on: not the same ones, so that a client's work does not look
 * like its server's.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';

function allowedCpus() {
  const list = /^Cpus_allowed_list:\s*(.+)$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'));
  return list[1].split(',').flatMap((range) => {
    const [first, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

function hasTaskset() {
  return spawnSync('taskset', ['--version'], { stdio: 'ignore' }).status === 0;
}

function choose() {
  const [server, ...clients] = allowedCpus();
  if (clients.length === 0) return { note: 'one CPU: servers and clients share it' };
  if (!hasTaskset()) return { note: 'no taskset (util-linux): nothing is bound to a CPU' };
  const client = clients.join(',');
  return { server: `${server}`, client, note: `servers on CPU ${server}, clients on ${client}` };
}

/** `server`, `client`: lists for taskset; without them nothing is bound. `note`: in words. */
export const affinity = choose();

/** The command, bound to the CPUs of a role: 'server' or 'client'. Others run anywhere. */
export function bound(role, command) {
  const cpus = affinity[role];
  return cpus === undefined ? command : ['taskset', '-c', cpus, ...command];
}
