/**
 * The parts of the library that read what somebody else has written, fed by libFuzzer with what
 * nobody would write, AddressSanitizer and UndefinedBehaviorSanitizer looking on:
 *
 *     npm run fuzz:native -- [--seconds 600] [--seed N] [--report FILE] [NAME...]
 *
 * Needs Clang. What a fuzzer has found to be worth keeping stays in build-fuzz/corpus for the next
 * run. An input that fails is written to build-fuzz/failures; to see it again:
 *
 *     build-fuzz/NAME_fuzz FILE
 *
 * The report has in few lines what failed, and the input.
 *
 * Inputs that failed once are in regressions/, and are tried first.
 */
import { spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { SEEDS } from './seeds.mjs';

const root = path.join(
  import.meta.dirname ?? path.dirname(fileURLToPath(import.meta.url)),
  '../..',
);
const build = path.join(root, 'build-fuzz');

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    seconds: { type: 'string', default: '600' },
    seed: { type: 'string', default: String(Date.now() % 2 ** 31) },
    report: { type: 'string' },
  },
});
const seconds = Number(values.seconds);
const names = positionals.length > 0 ? positionals : Object.keys(SEEDS);
const unknown = names.find((name) => !(name in SEEDS));
if (unknown !== undefined || !(seconds > 0)) {
  console.error(
    `usage: npm run fuzz:native -- [--seconds N] [--seed N] [--report FILE] [${Object.keys(SEEDS).join(' ')}]`,
  );
  process.exit(2);
}

/** Ends the process where the program fails. */
function run(command, args, options = {}) {
  const { status, error, signal } = spawnSync(command, args, {
    cwd: root,
    stdio: 'inherit',
    ...options,
  });
  if (error || status !== 0) {
    console.error(
      `${path.basename(command)}: ${error?.message ?? signal ?? `exit status ${status}`}`,
    );
    process.exit(1);
  }
}

const configuration = [
  '-S', root, '-B', build, '-G', 'Ninja',
  '-DCMAKE_C_COMPILER=clang', '-DCMAKE_CXX_COMPILER=clang++', '-DCMAKE_BUILD_TYPE=RelWithDebInfo',
  '-DCP_BUILD_ADDON=OFF', '-DCP_BUILD_TESTS=OFF', '-DCP_BUILD_FUZZERS=ON',
  '-DCP_SANITIZE=address,undefined', '-DCMAKE_UNITY_BUILD=ON',
]; // prettier-ignore
run('cmake', configuration, { stdio: ['ignore', 'ignore', 'inherit'] });
run('cmake', ['--build', build, '-j', '2', '--target', ...names.map((name) => `${name}_fuzz`)]);

const failures = path.join(build, 'failures');
mkdirSync(failures, { recursive: true });

const report = [];

/** The first complaint, the functions it came from, and the input. */
function summary(name, said) {
  const complaint = /^(.*(?:ERROR: |runtime error: |: Assertion |_fuzz\.cc:\d+: ).*)$/m.exec(said);
  const frames = [...said.matchAll(/^ +#\d+ .* in (.*)$/gm)].slice(0, 8);
  const input = /Test unit written to (.*)$/m.exec(said)?.[1];
  const bytes = input === undefined ? '' : readFileSync(input, 'base64');
  return [
    `${name}: ${complaint?.[1] ?? said.trim().split('\n').at(-1)}`,
    ...frames.map(([, where]) => `  in ${where.replaceAll(`${root}/`, '')}`),
    ...(bytes.match(/.{1,280}/g) ?? []).map((line) => `  ${line}`),
  ];
}

/** What the fuzzer says is shown, without its chatter. */
function fail(name, said) {
  report.push(...summary(name, said));
  const chatter = /^#\d+\s+(NEW|REDUCE|pulse|RELOAD|INITED)|NEW_FUNC|# Uses:/;
  console.error(
    said
      .split('\n')
      .filter((line) => !chatter.test(line))
      .join('\n'),
  );
}

/** Writes the seeds, and tries what has failed before. */
function prepare(name) {
  const corpus = path.join(build, 'corpus', name);
  mkdirSync(corpus, { recursive: true });
  let count = 0;
  for (const seed of SEEDS[name]()) writeFileSync(path.join(corpus, `seed-${count++}`), seed);
  const regressions = path.join(root, 'test/fuzz/regressions', name);
  if (!existsSync(regressions)) return;
  const inputs = readdirSync(regressions).map((file) => path.join(regressions, file));
  const program = path.join(build, `${name}_fuzz`);
  const { status, stderr } = spawnSync(program, inputs, { cwd: root, encoding: 'utf8' });
  if (status !== 0) fail(name, stderr);
}

/** Looks for something new. */
async function fuzz(name) {
  const fuzzer = spawn(path.join(build, `${name}_fuzz`), [
    path.join(build, 'corpus', name),
    `-max_total_time=${seconds}`,
    `-seed=${values.seed}`,
    `-artifact_prefix=${failures}/${name}-`,
    '-max_len=4096',
    '-len_control=0',
    '-timeout=120',
    // Each input is checked for what it leaves behind; LeakSanitizer looks at the end.
    '-detect_leaks=0',
    '-print_final_stats=1',
  ]); // prettier-ignore
  let said = '';
  for (const stream of [fuzzer.stdout, fuzzer.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => (said += text));
  }
  const [code, signal] = await once(fuzzer, 'close');
  const inputs = Number(/number_of_executed_units: (\d+)/.exec(said)?.[1] ?? 0);
  const found = code === 0 ? 'nothing found' : `FAILED (${signal ?? `exit status ${code}`})`;
  console.log(`${name}: ${inputs} inputs in ${seconds} s, seed ${values.seed}: ${found}`);
  if (code !== 0) fail(name, said);
}

for (const name of names) prepare(name);
const waiting = report.length > 0 ? [] : [...names];
async function work() {
  for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) await fuzz(name);
}
await Promise.all(Array.from({ length: availableParallelism() }, work));
if (values.report !== undefined && report.length > 0) {
  writeFileSync(values.report, `${report.join('\n')}\n`);
}
process.exitCode = report.length > 0 ? 1 : 0;
