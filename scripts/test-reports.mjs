// What a report of vitest (JSON) or ctest (JUnit) says. As a program, for .ci/run:
// `node scripts/test-reports.mjs REPORT BASE` writes BASE.count, `PASSED FAILED`, and BASE.failed,
// a line for each test that failed.
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
  const failures = found.testResults.flatMap(({ name, status, message, assertionResults }) => {
    const failed = assertionResults.filter((test) => test.status === 'failed');
    // A file that can't be loaded has failed without a failed test.
    if (status === 'failed' && failed.length === 0) return [`${name}: ${firstLine(message)}`];
    return failed.map(
      (test) => `${name}: ${test.fullName}: ${firstLine(test.failureMessages?.[0])}`,
    );
  });
  return {
    passed: found.numPassedTests,
    failed: failures.length,
    skipped: found.numPendingTests,
    failures,
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

export function writeSummary(base, { passed, failed, failures }) {
  writeFileSync(`${base}.count`, `${passed} ${failed}\n`);
  writeFileSync(`${base}.failed`, failures.map((line) => `${line}\n`).join(''));
}

if (argv[1] === fileURLToPath(import.meta.url)) {
  const [report, base] = argv.slice(2);
  writeSummary(base, report.endsWith('.xml') ? readCtest(report) : readVitest(report));
}
