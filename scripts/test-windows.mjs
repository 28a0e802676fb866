// The library on Windows, tried under Wine on a Debian machine: `npm run test:windows`.
//
// Cross-builds the addon and the core's tests with MinGW-w64, and runs: the core's tests; the
// contract suite, the stages' and the other tests of the library, under Node.js for Windows of each
// `--node`, and a few of them for each `--briefly`; servers under Wine with clients outside of it.
// `-- --only suite` runs one part; `--leave-out stage/` all but some; what follows are vitest's own
// filters. `--minutes` bounds the whole run.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { cpSync, existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { readCtest, readVitest, writeSummary } from './test-reports.mjs';
import {
  cache,
  installPackages,
  nodeForWindows,
  preparePrefix,
  root,
  run,
  runInWine,
  windowsPath,
  wineEnvironment,
} from './windows/wine.mjs';

const { values: options, positionals: filters } = parseArgs({
  allowPositionals: true,
  options: {
    node: { type: 'string', multiple: true, default: ['20', '22', '24', '26'] },
    briefly: { type: 'string', multiple: true, default: [] },
    only: { type: 'string', multiple: true },
    'leave-out': { type: 'string', multiple: true, default: [] },
    minutes: { type: 'string', default: '90' },
    out: { type: 'string', default: 'build-windows' },
    testNamePattern: { type: 'string', short: 't' },
  },
});
/** What the examples import. */
const OF_EXAMPLES = ['cli-progress', 'console-table-printer', 'hdr-histogram-js', 'log-update'];
/** What vitest.config.mts has on Windows, but for the inspector: `fetch` can't connect under Wine. */
const TESTED = [
  'contract/',
  'stage/',
  'examples/',
  'await.',
  'connections.',
  'doctor.',
  'errors.',
  'file-attributes.',
  'files.',
  'handles.',
  'lines.',
  'load.',
  'loader.',
  'packets.',
  'paths.',
  'sockets.',
  'node/serve.',
].map((name) => `test/${name}`);
const BRIEF = [
  'contract/operations-files',
  'contract/dequeuing',
  'contract/posting',
  'packets.',
].map((name) => `test/${name}`);
const build = path.resolve(root, options.out);
const suite = path.join(cache, 'windows-suite');
const end = Date.now() + Number(options.minutes) * 60_000;
const secondsLeft = () => Math.max(1, Math.floor((end - Date.now()) / 1000));

// ---- preparation ------------------------------------------------------------------------------

function crossBuild() {
  const definitions = ['BUILD_TYPE=RelWithDebInfo', 'UNITY_BUILD=ON'].map(
    (set) => `-DCMAKE_${set}`,
  );
  definitions.push('-DCP_BUILD_TESTS=ON');
  const toolchain = ['--toolchain', 'cmake/mingw-w64.cmake'];
  run('cmake', ['-S', '.', '-B', build, '-G', 'Ninja', ...toolchain, ...definitions], {
    // ctest looks at what each test program contains by running it.
    env: wineEnvironment(),
  });
  const jobs = String(os.availableParallelism());
  run('cmake', ['--build', build, '-j', jobs], { env: wineEnvironment() });
}

/** vitest with its binaries for Windows, and beside it what is to be tested. */
function prepareSuite() {
  const manifest = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
  const wanted = ['vitest', ...OF_EXAMPLES];
  const { devDependencies } = manifest;
  const chosen = Object.fromEntries(wanted.map((name) => [name, devDependencies[name]]));
  const text = JSON.stringify({ ...manifest, scripts: {}, devDependencies: chosen }, undefined, 2);
  const mark = path.join(suite, 'node_modules', '.complete');
  const hash = createHash('sha256').update(JSON.stringify(chosen)).digest('hex');
  mkdirSync(suite, { recursive: true });
  writeFileSync(path.join(suite, 'package.json'), text);
  if (!existsSync(mark) || readFileSync(mark, 'utf8') !== hash) {
    const how = ['--os=win32', '--cpu=x64', '--force', '--no-audit', '--no-fund'];
    run('npm', ['install', ...how], { cwd: suite });
    writeFileSync(mark, hash);
  }
  for (const name of ['dist', 'test', 'examples', 'lib', 'vitest.config.mts', 'tsconfig.json']) {
    rmSync(path.join(suite, name), { recursive: true, force: true });
    cpSync(path.join(root, name), path.join(suite, name), { recursive: true });
  }
}

// ---- the parts, each of which says how many tests passed, failed, were skipped --------------------

/** Runs the core's tests, or those that failed the last time: the report. */
function ctest(name, how) {
  const report = path.join(build, name);
  rmSync(report, { force: true });
  // Now and then Wine does not come to start a program.
  const again = ['--timeout', '120', '--repeat', 'after-timeout:2'];
  const all = ['--output-on-failure', ...again, '--no-tests=error', '-j', '2', ...how];
  spawnSync('ctest', ['--test-dir', build, ...all, '--output-junit', report], {
    cwd: root,
    stdio: 'inherit',
    env: wineEnvironment(),
    timeout: secondsLeft() * 1000,
  });
  return report;
}

/** Wine's server went away under each program that failed, before that had said anything. */
function failedByWine(report) {
  if (!existsSync(report)) return false;
  const tests = readFileSync(report, 'utf8').split('<testcase ');
  const failed = tests.filter((text) => text.includes('status="fail"'));
  return failed.length > 0 && failed.every((text) => text.includes('wine client error'));
}

function runNative() {
  const report = ctest('native.xml', []);
  const count = readCtest(report);
  if (!failedByWine(report)) return count;
  const again = readCtest(ctest('native-again.xml', ['--rerun-failed']));
  return { ...again, passed: count.passed + again.passed, skipped: count.skipped + again.skipped };
}

/** What a test there can't do, it says when it is skipped. */
async function runSuite(major, tested) {
  const log = path.join(build, `suite-${major}.log`);
  const report = path.join(build, `suite-${major}.json`);
  rmSync(report, { force: true });
  const chosen = options.testNamePattern ? ['-t', options.testNamePattern] : [];
  const reporters = [
    '--reporter=default',
    '--reporter=json',
    `--outputFile.json=${windowsPath(report)}`,
  ];
  const left = options['leave-out'].map((name) => `test/${name}`);
  const files = filters.length > 0 ? filters : tested.filter((name) => !left.includes(name));
  const args = ['node_modules/vitest/vitest.mjs', 'run', ...reporters, ...chosen, ...files];
  const code = await runInWine(nodeForWindows(major), args, {
    log,
    cwd: suite,
    seconds: secondsLeft(),
    env: {
      NO_COLOR: '1',
      CI: 'true',
      COMPLETION_PORT_BINDING: windowsPath(path.join(build, 'completion_port.node')),
    },
  });
  process.stdout.write(readFileSync(log, 'utf8'));
  const count = readVitest(report);
  if (code === 0 || count.failed > 0) return count;
  return { ...count, failed: 1, failures: [`Node.js ${major} ended with ${code}`] };
}

/** Clients outside of Wine. */
function runInterop() {
  const report = path.join(build, 'interop.json');
  rmSync(report, { force: true });
  const vitest = ['node_modules/vitest/vitest.mjs', 'run', '--config', 'vitest.windows.config.mts'];
  const reporters = ['--reporter=default', '--reporter=json', `--outputFile.json=${report}`];
  spawnSync(process.execPath, [...vitest, ...reporters], {
    cwd: root,
    stdio: 'inherit',
    timeout: secondsLeft() * 1000,
    env: {
      ...process.env,
      COMPLETION_PORT_TEST_BINDING: path.join(build, 'completion_port.node'),
      COMPLETION_PORT_TEST_NODE: nodeForWindows(options.node[0]),
    },
  });
  return readVitest(report);
}

// ---- the run ----------------------------------------------------------------------------------

const parts = [
  ['native', 'the core’s tests', runNative],
  ['interop', 'servers under Wine, clients outside', runInterop],
  ...options.node.map((major) => ['suite', `Node.js ${major}`, () => runSuite(major, TESTED)]),
  ...options.briefly.map((major) => [
    'suite',
    `Node.js ${major}, briefly`,
    () => runSuite(major, BRIEF),
  ]),
];

async function main() {
  installPackages();
  await preparePrefix();
  run('npm', ['run', '--silent', 'build:ts']);
  crossBuild();
  prepareSuite();
  const total = { passed: 0, failed: 0, skipped: 0, failures: [] };
  const lines = [];
  for (const [name, title, part] of parts) {
    if (options.only && !options.only.includes(name)) continue;
    console.log(`\n---- ${title}`);
    const started = Date.now();
    const count = await part();
    for (const key of ['passed', 'failed', 'skipped']) total[key] += count[key];
    total.failures.push(...count.failures.map((failure) => `${title}: ${failure}`));
    const seconds = Math.round((Date.now() - started) / 1000);
    const { passed, failed, skipped } = count;
    lines.push(`${title}: ${passed} passed, ${failed} failed, ${skipped} skipped, ${seconds} s`);
  }
  console.log(`\n${lines.join('\n')}`);
  writeSummary(path.join(build, 'all'), total);
  if (total.failed > 0 || total.passed === 0) process.exitCode = 1;
}

try {
  await main();
} catch (error) {
  console.error(`test-windows: ${error.message}`);
  process.exitCode = 1;
}
