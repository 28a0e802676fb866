import type { ChildProcess } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { expect, onTestFinished, test } from 'vitest';
import { ended, temporaryDirectory, until } from '../support/harness';
import { childrenOf, describeDrivers, startExample } from '../support/examples';

/** Whether it still runs, and is what it was. */
function runs([pid, command]: [number, string]): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'latin1') === command;
  } catch {
    return false;
  }
}

function start(args: readonly string[]) {
  const directory = temporaryDirectory();
  const child = startExample('start', args, { env: { TMPDIR: directory } });
  let said = '';
  child.stdout!.on('data', (text) => (said += text));
  return { child, directory, said: () => said, end: ended(child) };
}

/** Its server and its clients, which don't outlive the test. */
async function processesOf(child: ChildProcess, count = 2): Promise<[number, string][]> {
  let found: [number, string][] = [];
  await until(() => {
    found = [...childrenOf(child.pid!)].filter(([, command]) => /spool-server|load/.test(command));
    return found.length >= count || child.exitCode !== null;
  });
  onTestFinished(() => {
    for (const one of found) if (runs(one)) process.kill(one[0], 'SIGKILL');
  });
  expect(found).toHaveLength(count);
  return found;
}

describeDrivers('start', (driver) => {
  test.each([
    [1, ['--seconds', '2', '--connections', '5']],
    [2, ['--seconds', '2', '--connections', '5']],
    [2, ['--documents', '300', '--connections', '50']],
  ])('threads: %i, %j: the tables, and code 0', async (threads, args) => {
    const { child, directory, end } = start([
      ...['--driver', driver, '--threads', String(threads)],
      ...args,
    ]);
    const processes = await processesOf(child);
    const { code, stdout, stderr } = await end;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(
      new RegExp(`^listening on 127\\.0\\.0\\.1:\\d+ driver=${driver} threads=${threads}\n`),
    );
    expect(stdout).toMatch(new RegExp(`\n${args[3]} connections send \\d+ files and \\d+ large`));
    for (const heading of ['kind', 'documents', 'MiB/s', 'p50 ms', 'p99 ms', 'max ms', 'server']) {
      expect(stdout).toMatch(new RegExp(`│ +${heading} +│`));
    }
    const rows = ['in memory', 'spooled to a file', 'CPU time, user', 'CPU time, system'];
    for (const row of [...rows, 'JavaScript wake-ups', 'operations', 'system calls']) {
      expect(stdout).toMatch(new RegExp(`│ +${row} +│ +[\\d.,]+ `));
    }
    const answers = /\nall ([\d,]+) answers are right\n$/.exec(stdout)?.[1]?.replaceAll(',', '');
    expect(Number(answers)).toBeGreaterThan(0);
    if (args[0] === '--documents') expect(answers).toBe(args[1]);
    await until(() => !processes.some(runs));
    expect(readdirSync(directory)).toEqual([]);
  });

  test.each(['SIGINT', 'SIGTERM'] as const)(
    '%s while it sends ends it with code 130, its processes too, and no file is left',
    async (signal) => {
      const args = ['--driver', driver, '--seconds', '600', '--connections', '5'];
      const { child, directory, said, end } = start(args);
      const processes = await processesOf(child);
      await until(() => said().includes('connections send'));
      child.kill(signal);
      expect(await end).toMatchObject({ code: 130, stderr: '' });
      await until(() => !processes.some(runs));
      expect(readdirSync(directory)).toEqual([]);
    },
  );

  test('SIGINT while it starts leaves no process and no file either', async () => {
    const { child, directory, end } = start(['--driver', driver, '--seconds', '600']);
    const processes = await processesOf(child);
    child.kill('SIGINT');
    expect(await end).toMatchObject({ code: 130 });
    await until(() => !processes.some(runs));
    expect(readdirSync(directory)).toEqual([]);
  });
});
