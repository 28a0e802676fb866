import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readTwoTries, readVitest } from '../scripts/test-reports.mjs';

const folder = mkdtempSync(path.join(os.tmpdir(), 'reports-'));
afterAll(() => rmSync(folder, { recursive: true }));
const first = path.join(folder, 'first.json');
const again = path.join(folder, 'again.json');

/** A report of vitest, as far as it is read: of one file, `[name, status]` for each test. */
function write(file: string, tests: [string, string][]) {
  const assertionResults = tests.map(([fullName, status]) => ({
    fullName,
    status,
    failureMessages: status === 'failed' ? ['no\n  at all'] : [],
  }));
  const number = (status: string) => tests.filter((test) => test[1] === status).length;
  const report = {
    numPassedTests: number('passed'),
    numPendingTests: number('pending'),
    testResults: [{ name: 'a.test.ts', status: 'failed', message: '', assertionResults }],
  };
  writeFileSync(file, JSON.stringify(report));
}

beforeAll(() =>
  write(first, [
    ['good', 'passed'],
    ['left out', 'pending'],
    ['unsteady', 'failed'],
    ['on two drivers', 'failed'],
    ['on two drivers', 'passed'],
    ['bad', 'failed'],
  ]),
);

test('a report is its numbers, and a line for each failure', () => {
  expect(readVitest(first)).toEqual({
    passed: 2,
    failed: 3,
    skipped: 1,
    failures: ['unsteady', 'on two drivers', 'bad'].map((name) => `a.test.ts: ${name}: no`),
  });
});

test('what passes at the second try, wherever it is run, has passed and is named', () => {
  write(again, [
    ['good', 'failed'],
    ['unsteady', 'passed'],
    ['on two drivers', 'passed'],
    ['on two drivers', 'failed'],
  ]);
  expect(readTwoTries(first, again)).toEqual({
    passed: 3,
    failed: 2,
    skipped: 1,
    failures: ['on two drivers', 'bad'].map((name) => `a.test.ts: ${name}: no`),
    unsteady: ['a.test.ts: unsteady: no'],
  });
});

test('without a report of the second try nothing has passed there', () => {
  const { failed, unsteady } = readTwoTries(first, path.join(folder, 'none.json'));
  expect([failed, unsteady]).toEqual([3, []]);
});
