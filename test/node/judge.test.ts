/** The list of Node's own tests, and, where NODE_CORE_TESTS names a checkout, those tests. */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { namesIn, outOfReach, runTest, type Verdict } from '../node-core/run.mjs';
import { root } from '../support/harness';

const list = JSON.parse(readFileSync(path.join(root, 'test/node-core/verdicts.json'), 'utf8')) as {
  node: string;
  tests: Record<string, { verdict: Verdict | 'out of reach'; reason?: string }>;
};
const folder = process.env['NODE_CORE_TESTS'];

test('each test that does not pass says why, and 9 of 10 that are run pass', () => {
  const all = Object.entries(list.tests);
  for (const [name, { verdict, reason }] of all) {
    expect(name).toMatch(/^test-net-[\w-]+\.m?js$/);
    expect(['pass', 'fail', 'out of reach']).toContain(verdict);
    expect(reason !== undefined && reason.length > 0, name).toBe(verdict !== 'pass');
  }
  const count = (wanted: string) => all.filter(([, { verdict }]) => verdict === wanted).length;
  expect(count('pass') / (count('pass') + count('fail'))).toBeGreaterThan(0.9);
  expect(all.map(([name]) => name)).toEqual(all.map(([name]) => name).sort());
});

test.skipIf(folder === undefined || process.versions.node.split('.')[0] !== list.node)(
  'Node’s own tests are as the list has them',
  { timeout: 1_800_000 },
  async () => {
    expect(existsSync(folder!)).toBe(true);
    const found: Record<string, string> = {};
    for (const name of namesIn(folder!)) {
      if (list.tests[name] === undefined) continue;
      const reason = outOfReach(folder!, name);
      found[name] = reason ? 'out of reach' : (await runTest(folder!, name)).verdict;
    }
    const expected = Object.entries(list.tests).map(([name, { verdict }]) => [name, verdict]);
    expect(found).toEqual(Object.fromEntries(expected.filter(([name]) => name! in found)));
  },
);
