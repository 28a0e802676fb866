/**
 * Loading the main entry, each time in a process of its own: its CPU time, the system's part
 * included, in microseconds; what Node.js takes to start is not in it.
 */
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { readOptions } from '../options.mjs';
import { report } from '../stopwatch.mjs';

const { seconds } = readOptions();
const entry = createRequire(import.meta.url).resolve('completion-port');
const program = `
  const before = process.cpuUsage();
  const began = process.hrtime.bigint();
  require(${JSON.stringify(entry)});
  const time = Number(process.hrtime.bigint() - began) / 1e9;
  const { user, system } = process.cpuUsage(before);
  console.log(JSON.stringify({ time, cpu: user + system }));`;

const middle = (values) => values.sort((a, b) => a - b)[values.length >> 1];

const runs = [];
const end = performance.now() + seconds * 1000;
while (performance.now() < end || runs.length < 3) {
  const { stdout, stderr } = spawnSync(process.execPath, ['-e', program], { encoding: 'utf8' });
  if (stdout === '') throw new Error(stderr);
  runs.push(JSON.parse(stdout));
}
report({
  operations: runs.length,
  rate: 1 / middle(runs.map(({ time }) => time)),
  cpu: middle(runs.map(({ cpu }) => cpu)),
});
