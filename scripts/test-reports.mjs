// What a report of vitest (JSON) or ctest (JUnit) says. As a program, for .ci/run:
// `node scripts/test-reports.mjs REPORT BASE` writes BASE.count, `PASSED FAILED`, and BASE.failed,
// a line for each test that failed. With a report of the files that failed, run again, as a third
// argument, what passed there has passed, and has a line in BASE.unsteady.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';
import { stripVTControlCharacters } from 'node:util';

/** The first line that says something, without colours. */
function firstLine(text) {
  const lines = stripVTControlCharacters(text ?? '').split('\n');
  return lines.find((line) => line.trim() !== '')?.trim() ?? '';
}

/** `{ passed, failed, skipped, failures }`: numbers of tests, and `name: message` of those that failed. */
export function readVitest(report) {
  if (!existsSync(report)) return missing(report);
  const found = JSON.parse(readFileSync(report, 'utf8'));
  const failures = failuresOf(found).map(({ test, message }) => `${test}: ${message}`);
  return {
    passed: found.numPassedTests,
    failed: failures.length,
    skipped: found.numPendingTests,
    failures,
  };
}

/** `{ test, message }` of each test that failed, and of each file that failed without one. */
function failuresOf({ testResults }) {
  return testResults.flatMap(({ name, status, message, assertionResults }) => {
    const failed = assertionResults.filter((test) => test.status === 'failed');
    // A file that can't be loaded has failed without a failed test.
    if (status === 'failed' && failed.length === 0) {
      return [{ test: name, message: firstLine(message) }];
    }
    return failed.map(({ fullName, failureMessages }) => ({
      test: `${name}: ${fullName}`,
      message: firstLine(failureMessages?.[0]),
    }));
  });
}

/** Both tries together, and as `unsteady` what failed in the first one alone. */
export function readTwoTries(report, again) {
  const first = readVitest(report);
  if (!existsSync(again)) return { ...first, unsteady: [] };
  const second = JSON.parse(readFileSync(again, 'utf8'));
  // By name: of a test that is run on two drivers neither may have failed again.
  const passed = new Set(
    second.testResults.flatMap(({ name, assertionResults }) =>
      assertionResults
        .filter((test) => test.status === 'passed')
        .map((test) => `${name}: ${test.fullName}`),
    ),
  );
  for (const { test } of failuresOf(second)) passed.delete(test);
  const failed = failuresOf(JSON.parse(readFileSync(report, 'utf8')));
  const lines = (tests) => tests.map(({ test, message }) => `${test}: ${message}`);
  const unsteady = lines(failed.filter(({ test }) => passed.has(test)));
  const failures = lines(failed.filter(({ test }) => !passed.has(test)));
  return {
    ...first,
    passed: first.passed + unsteady.length,
    failed: failures.length,
    failures,
    unsteady,
  };
}

export function readCtest(report) {
  if (!existsSync(report)) return missing(report);
  const text = readFileSync(report, 'utf8');
  const [head] = /<testsuite[^>]*>/.exec(text);
  const number = (name) => Number(new RegExp(`\\b${name}="(\\d+)"`).exec(head)?.[1] ?? 0);
  const [failed, skipped] = [number('failures'), number('disabled') + number('skipped')];
  const failures = text
    .split('<testcase ')
    .filter((test) => test.includes('status="fail"'))
    .map((test) => {
      const name = /^name="([^"]*)"/.exec(test)?.[1] ?? '?';
      const said = /ERROR:[^\n]*|WARNING: ThreadSanitizer[^\n]*|ERROR: \w+Sanitizer[^\n]*/.exec(
        test,
      );
      return `${name}: ${said?.[0] ?? /<failure message="([^"]*)"/.exec(test)?.[1] ?? ''}`;
    });
  return { passed: number('tests') - failed - skipped, failed, skipped, failures };
}

/** What was cut off has written no report. */
function missing(report) {
  return { passed: 0, failed: 1, skipped: 0, failures: [`${report} was not written`] };
}

export function writeSummary(base, { passed, failed, failures, unsteady = [] }) {
  const lines = (list) => list.map((line) => `${line}\n`).join('');
  writeFileSync(`${base}.count`, `${passed} ${failed}\n`);
  writeFileSync(`${base}.failed`, lines(failures));
  writeFileSync(`${base}.unsteady`, lines(unsteady));
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const [report, base, again] = argv.slice(2);
  const read = report.endsWith('.xml') ? readCtest : again ? readTwoTries : readVitest;
  writeSummary(base, read(report, again));
}
