/**
 * Where the CPU time of an echo server goes, by what it is spent on: perf's samples, sorted into a
 * few kinds, times the CPU time per message that was measured without perf.
 *
 *     npm run bench:profile                                          # 1 and 50 connections
 *     npm run bench:profile -- --connections 1000 --seconds 4 'node:net'
 *
 * Wants Linux, perf (Debian: linux-perf), and the right to sample the kernel (root, or
 * kernel.perf_event_paranoid of 1 with kernel.kptr_restrict of 0).
 */
import { spawnSync } from 'node:child_process';
import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { Table } from 'console-table-printer';
import echo from './echo.mjs';
import { buildDirectory, buildNative } from './support/build.mjs';
import { capture, native, run, start, tool } from './support/children.mjs';
import { measureEcho } from './support/load.mjs';

const HERTZ = 1999;
/** Until V8 has compiled what is hot: its compiler works on the server's CPU. */
const WARM_UP = 2;
const defaults = ['ours, io_uring, packets', 'C++, io_uring', 'node:net'];

/** What a stack of the kernel is about: the first whose function is anywhere in it. */
const kernel = [
  ['kernel: TCP, sending', /^(tcp_sendmsg|inet_sendmsg|sock_sendmsg)/],
  ['kernel: TCP, receiving', /^(tcp_recvmsg|inet_recvmsg|sock_recvmsg|inet6_recvmsg)/],
  ['kernel: io_uring_enter besides', /^(__x64_sys_io_uring_enter|__do_sys_io_uring_enter|io_)/],
  ['kernel: epoll_wait', /^(__x64_sys_epoll_p?wait|do_epoll_wait|ep_poll)/],
  ['kernel: read and write besides TCP', /^(ksys_read|ksys_write|vfs_read|vfs_write)/],
];

/** What a function outside of the kernel belongs to, by its name and then by its file. */
const user = [
  ['Node.js: its event loop (libuv)', /^uv_/],
  ['JavaScript', /^Builtins_|^(LazyCompile|Function|Script|RegExp|Builtin|Stub|BytecodeHandler):/],
];
const files = [
  ['JavaScript', /\.map$|^\[?anon|^\/\/anon/],
  ['the addon', /completion_port\.node$/],
  ['Node.js: V8, Node-API, C++', /\/node$/],
];

/** `stack`: from the innermost function outwards, as `{ symbol, file }`. */
function kindOf(stack) {
  const [{ symbol, file }] = stack;
  if (file.startsWith('[kernel')) {
    const found = kernel.find(([, name]) => stack.some((frame) => name.test(frame.symbol)));
    return found?.[0] ?? 'kernel: the rest';
  }
  const named = user.find(([, name]) => name.test(symbol));
  const kind = named ?? files.find(([, name]) => name.test(file));
  return kind?.[0] ?? 'the program and libraries';
}

/** perf script: a line for each frame, an empty one after each stack. */
function stacks(text) {
  return text
    .split('\n\n')
    .map((lines) =>
      [...lines.matchAll(/^\s*[0-9a-f]+ (.+) \((.*)\)$/gm)].map(([, symbol, file]) => ({
        symbol,
        file,
      })),
    )
    .filter((stack) => stack.length > 0);
}

/** Names for compiled JavaScript: node writes them to a file that perf looks for. */
function withNames(program) {
  const [file, ...args] = program.command;
  if (file !== process.execPath) return program;
  return { ...program, command: [file, '--perf-basic-prof', ...args] };
}

async function sampled(program, connections, seconds) {
  const server = await start(withNames(program), 'server');
  const data = path.join(buildDirectory, 'perf.data');
  try {
    const load = { port: server.port, connections, seconds: seconds + 2, warmup: WARM_UP };
    const client = run(native('load', load), { role: 'client' });
    client.catch(() => undefined);
    await sleep(WARM_UP * 1000 + 500);
    const record = ['record', '-q', '-g', '-F', HERTZ, '-p', server.pid, '-o', data];
    await capture(tool('perf', ...record, '--', 'sleep', seconds), { role: 'client' });
    await client;
    const script = tool('perf', 'script', '-i', data, '-F', 'ip,sym,dso');
    return stacks((await capture(script)).output);
  } finally {
    server.kill();
    fs.rmSync(data, { force: true });
    fs.rmSync(path.join(os.tmpdir(), `perf-${server.pid}.map`), { force: true });
  }
}

/** Microseconds per message for each kind. */
async function profile(name, connections, seconds) {
  const { server } = echo.contestants[name];
  const times = { warmUp: WARM_UP, seconds };
  const { cpu, systemCalls } = await measureEcho(server(times), { connections }, times);
  const samples = await sampled(server(times), connections, seconds);
  if (samples.length === 0) throw new Error(`perf saw nothing of ${name}`);
  const kinds = new Map();
  for (const stack of samples) {
    const kind = kindOf(stack);
    kinds.set(kind, (kinds.get(kind) ?? 0) + cpu / samples.length);
  }
  return { cpu, kinds, systemCalls, samples: samples.length };
}

async function printRow(names, connections, seconds) {
  const columns = [];
  for (const name of names) columns.push(await profile(name, connections, seconds));
  const kinds = [...new Set(columns.flatMap((column) => [...column.kinds.keys()]))].sort();
  const table = new Table({
    shouldDisableColors: !process.stdout.isTTY,
    title: `${connections} connection(s): CPU µs per message`,
    columns: [
      { name: 'kind', alignment: 'left' },
      ...names.map((name) => ({ name, alignment: 'right' })),
    ],
  });
  const row = (kind, value) =>
    table.addRow({
      kind,
      ...Object.fromEntries(names.map((name, i) => [name, value(columns[i])])),
    });
  for (const kind of kinds) row(kind, ({ kinds }) => (kinds.get(kind) ?? 0).toFixed(2));
  row('all', ({ cpu }) => cpu.toFixed(2));
  row('system calls it counts itself', ({ systemCalls: calls }) =>
    Number.isFinite(calls) ? calls.toFixed(2) : '–',
  );
  row('samples', ({ samples }) => samples);
  table.printTable();
}

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    connections: { type: 'string', multiple: true, default: ['1', '50'] },
    seconds: { type: 'string', default: '8' },
  },
});
const names = positionals.length > 0 ? positionals : defaults;
const unknown = names.find((name) => !(name in echo.contestants));
if (unknown !== undefined) throw new Error(`echo has no contestant ${unknown}`);
if (spawnSync('perf', ['--version'], { stdio: 'ignore' }).status !== 0) {
  throw new Error('perf is not installed (Debian: linux-perf)');
}
buildNative();
for (const connections of values.connections) {
  await printRow(names, Number(connections), Number(values.seconds));
}
