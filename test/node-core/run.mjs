// Node's own tests of `net`, with completion-port/node/net in its place: `npm run test:node-core --
// FOLDER`. FOLDER is the `test` folder of a checkout of Node.js (nodejs/node, or denoland/node_test,
// which has nothing else); or NODE_CORE_TESTS names it. None of it is part of this package.
//
// verdicts.json names each test and what is expected of it; a test that does otherwise is an error.
//   --only TEXT     those whose names contain it
//   --plain         without the substitution: what the machine itself makes of them
//   --write         writes what was found into verdicts.json, where a failure has no reason yet
//   --show          what failing tests said
import { spawn } from 'node:child_process';
import { existsSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { argv, env, execPath } from 'node:process';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { parseArgs } from 'node:util';

const here = fileURLToPath(new URL('.', import.meta.url));
const list = path.join(here, 'verdicts.json');
const LIMIT = 240_000;

/** What a test needs that only Node.js itself has: it says nothing about a `net`. */
const OUT_OF_REACH = [
  [
    /--expose[-_]internals|internalBinding|process\.binding|require\('internal\//,
    'looks at internals of Node.js',
  ],
  [/require\('cluster'\)|from 'cluster'/, 'is about node:cluster'],
  // Methods of what Node.js calls a TCP wrap, replaced to count calls.
  [/_handle\.\w+ = |handle: \{/, 'looks at internals of Node.js'],
];

export function verdicts() {
  return JSON.parse(readFileSync(list, 'utf8'));
}

export function namesIn(folder) {
  const files = readdirSync(path.join(folder, 'parallel'));
  return files.filter((file) => /^test-net-.*\.m?js$/.test(file)).sort();
}

/** Why the test is not run; undefined where it is. */
export function outOfReach(folder, name) {
  const text = readFileSync(path.join(folder, 'parallel', name), 'utf8');
  return OUT_OF_REACH.find(([pattern]) => pattern.test(text))?.[1];
}

function flagsOf(file) {
  const flags = /^\/\/ Flags: (.*)$/m.exec(readFileSync(file, 'utf8'))?.[1];
  return flags === undefined ? [] : flags.trim().split(/\s+/);
}

/** Runs one test: 'pass', 'fail', 'skip' or 'timeout', and what it said. */
export function runTest(folder, name, { plain = false } = {}) {
  const file = path.join(folder, 'parallel', name);
  const hook = plain ? [] : ['--require', path.join(here, 'substitute.cjs')];
  const child = spawn(execPath, [...flagsOf(file), ...hook, file], {
    cwd: folder,
    env: { ...env, NODE_SKIP_FLAG_CHECK: '1', NODE_TEST_DIR: os.tmpdir(), TEST_THREAD_ID: name },
  });
  let said = '';
  for (const stream of [child.stdout, child.stderr]) {
    stream.setEncoding('utf8').on('data', (text) => (said += text));
  }
  return new Promise((resolve) => {
    let late = false;
    const timer = setTimeout(() => {
      late = true;
      child.kill('SIGKILL');
    }, LIMIT);
    child.on('close', (code) => {
      clearTimeout(timer);
      const skipped = /^1\.\.0 # Skipped/m.test(said);
      const verdict = late ? 'timeout' : code !== 0 ? 'fail' : skipped ? 'skip' : 'pass';
      resolve({ verdict, said });
    });
  });
}

async function main() {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      only: { type: 'string', default: '' },
      plain: { type: 'boolean', default: false },
      write: { type: 'boolean', default: false },
      show: { type: 'boolean', default: false },
    },
  });
  const folder = path.resolve(positionals[0] ?? env.NODE_CORE_TESTS ?? '');
  if (!existsSync(path.join(folder, 'parallel'))) {
    console.error(
      'Name the `test` folder of a checkout of Node.js: npm run test:node-core -- FOLDER',
    );
    return 2;
  }
  const known = verdicts();
  const names = namesIn(folder).filter((name) => name.includes(values.only));
  const waiting = [...names];
  const found = {};
  const worker = async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const reason = outOfReach(folder, name);
      if (reason !== undefined) found[name] = { verdict: 'out of reach', reason };
      else {
        const { verdict, said } = await runTest(folder, name, values);
        found[name] = { verdict };
        if (values.show && verdict !== 'pass') console.log(`---- ${name}\n${said.slice(0, 1800)}`);
      }
    }
  };
  await Promise.all(Array.from({ length: Math.min(2, os.availableParallelism()) }, worker));
  return report(names, found, known, values);
}

function report(names, found, known, { write, plain }) {
  const counts = {};
  let surprises = 0;
  for (const name of names) {
    const { verdict, reason } = found[name];
    counts[verdict] = (counts[verdict] ?? 0) + 1;
    const expected = known.tests[name];
    const surprise = !plain && expected?.verdict !== verdict;
    if (surprise) surprises++;
    const note = surprise ? ` (expected: ${expected?.verdict ?? 'nothing'})` : '';
    console.log(`${verdict.padEnd(12)} ${name}${note}`);
    const why = expected?.verdict === verdict ? expected.reason : reason;
    if (write) known.tests[name] = why === undefined ? { verdict } : { verdict, reason: why };
  }
  const run = (counts.pass ?? 0) + (counts.fail ?? 0) + (counts.timeout ?? 0);
  const share = ((100 * (counts.pass ?? 0)) / run).toFixed(1);
  console.log(`\n${process.version}: ${JSON.stringify(counts)}; ${share} % of ${run} pass`);
  if (write) writeFileSync(list, `${JSON.stringify(known, undefined, 2)}\n`);
  return surprises > 0 && !write && !plain ? 1 : 0;
}

if (import.meta.url === pathToFileURL(argv[1] ?? '').href) process.exitCode = await main();
