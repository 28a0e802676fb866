// Runs the library in simulated worlds, several processes at a time:
//   npm run simulate -- --seeds N [--from SEED] [--jobs J] [--minutes M] [--workload NAME]
//   npm run simulate -- --seed SEED [--trace]     one world again, made small where it fails
//   npm run simulate -- --planted                 mistakes made on purpose: the seeds each needs;
//                                                 with --quick only those that need few
// A seed that fails is printed with the property that does not hold, and again as small as it gets.
import { spawn, spawnSync } from 'node:child_process';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { argv, exit, stdout } from 'node:process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { mistakes } from './planted.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const build = path.join(root, 'build-cmake');
/** Seeds that one process runs before the next is started: so all end at about the same time. */
const PORTION = 500;
/** Within so many seeds a planted mistake is to be found. */
const MOST_SEEDS = 10_000;

const { values } = parseArgs({
  args: argv.slice(2),
  options: {
    seeds: { type: 'string', default: '10000' },
    from: { type: 'string', default: '1' },
    jobs: { type: 'string', default: String(availableParallelism()) },
    minutes: { type: 'string' },
    workload: { type: 'string' },
    seed: { type: 'string' },
    trace: { type: 'boolean', default: false },
    planted: { type: 'boolean', default: false },
    quick: { type: 'boolean', default: false },
    binary: { type: 'string' },
  },
});

function must(command, args) {
  const { status, error } = spawnSync(command, args, { cwd: root, stdio: 'inherit' });
  if (error || status !== 0) exit(1);
}

function built() {
  if (values.binary) return values.binary;
  must('cmake', ['-S', '.', '-B', build, '-DCP_BUILD_SIMULATION=ON']);
  must('cmake', ['--build', build, '--target', 'simulate', '--parallel', values.jobs]);
  return path.join(build, 'test', 'sim', 'simulate');
}

const binary = built();
const workload = values.workload ? ['--workload', values.workload] : [];

/** What it printed; null where it held. */
function simulate(args) {
  return new Promise((resolve, reject) => {
    const child = spawn(binary, args, { stdio: ['ignore', 'pipe', 'inherit'] });
    let text = '';
    child.stdout.setEncoding('utf8').on('data', (part) => (text += part));
    child.on('error', reject);
    child.on('close', (code) => resolve({ held: code === 0, text }));
  });
}

async function one(seed) {
  const how = values.trace ? '--trace' : '--minimize';
  const { held, text } = await simulate(['--seed', seed, how, ...workload]);
  stdout.write(text);
  return held;
}

async function many() {
  const first = BigInt(values.from);
  const end = first + BigInt(values.seeds);
  const began = performance.now();
  const until = values.minutes ? began + Number(values.minutes) * 60_000 : Infinity;
  const failed = [];
  let next = first;
  let ran = 0;
  let steps = 0;
  async function job() {
    while (next < end && performance.now() < until) {
      const from = next;
      const count = end - from < BigInt(PORTION) ? end - from : BigInt(PORTION);
      next += count;
      const args = ['--from', String(from), '--seeds', String(count), '--keep-going', ...workload];
      const { text } = await simulate(args);
      const [, seeds, , worked] = /(\d+) seeds, (\d+) failed, (\d+) steps/.exec(text) ?? [];
      ran += Number(seeds ?? 0);
      steps += Number(worked ?? 0);
      for (const [line, seed] of text.matchAll(/^seed (\d+): .*$/gm)) {
        failed.push(seed);
        stdout.write(`${line}\n`);
      }
    }
  }
  await Promise.all(Array.from({ length: Number(values.jobs) }, job));
  const seconds = (performance.now() - began) / 1000;
  stdout.write(
    `${ran} seeds, ${failed.length} failed; ${steps} steps in ${seconds.toFixed(1)} s, ` +
      `${(ran / seconds).toFixed(0)} seeds a second\n`,
  );
  if (failed.length > 0) await one(failed[0]);
  return failed.length === 0;
}

/** Seeds until each is found, and what is found. */
async function planted() {
  let found = true;
  for (const { name, property, also, workload: where = 'port', rare = false } of mistakes) {
    if (rare && values.quick) continue;
    const args = ['--seeds', String(MOST_SEEDS), '--planted', name, '--workload', where];
    let seed = '0';
    let told;
    do {
      const { text } = await simulate([...args, '--from', String(Number(seed) + 1)]);
      [, seed, told] = /^seed (\d+): FAILED ([^:]*):/m.exec(text) ?? [];
    } while (told !== undefined && told === also);
    const right = told === property;
    found &&= right;
    const what = told ? `seed ${seed}: ${told}` : 'not found';
    stdout.write(`${right ? 'found' : 'NOT FOUND'}  ${name}: ${what}\n`);
  }
  return found;
}

const held = values.planted ? await planted() : values.seed ? await one(values.seed) : await many();
exit(held ? 0 : 1);
