/**
 * Which CPUs servers and clients run on: not the same ones, so that a client's work does not look
 * like its server's.
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';

function findCpus() {
  const list = /^Cpus_allowed_list:\s*(.+)$/m.exec(fs.readFileSync('/proc/self/status', 'utf8'));
  return list[1].split(',').flatMap((range) => {
    const [first, last = first] = range.split('-').map(Number);
    return Array.from({ length: last - first + 1 }, (_, i) => first + i);
  });
}

/** Those this process may run on. */
export const allowedCpus = findCpus();
/** More clients than this would not tell more. */
const MOST_CLIENTS = 8;

function hasTaskset() {
  return spawnSync('taskset', ['--version'], { stdio: 'ignore' }).status === 0;
}

function choose() {
  const [server, ...clients] = allowedCpus;
  if (clients.length === 0) return { note: 'one CPU: servers and clients share it' };
  if (!hasTaskset()) return { note: 'no taskset (util-linux): nothing is bound to a CPU' };
  const client = clients.join(',');
  return { server: `${server}`, client, note: `servers on CPU ${server}, clients on ${client}` };
}

/** `server`, `client`: lists for taskset; without them nothing is bound. `note`: in words. */
export const affinity = choose();

/**
 * CPUs for a server's threads, and those of each client: one that no server has, as far as there
 * are any; else one client shares all of them.
 */
export function shares(threads) {
  const spare = allowedCpus.slice(threads).slice(-MOST_CLIENTS);
  const clients = spare.length > 0 ? spare.map((cpu) => [cpu]) : [allowedCpus];
  return { server: allowedCpus.slice(0, threads), clients };
}

function cpusFor(role) {
  if (affinity.server === undefined) return undefined;
  return Array.isArray(role) ? role.join(',') : affinity[role];
}

/**
 * The command, bound to the CPUs of a role, 'server' or 'client', or to a list of them. Others run
 * anywhere.
 */
export function bound(role, command) {
  const cpus = cpusFor(role);
  return cpus === undefined ? command : ['taskset', '-c', cpus, ...command];
}
