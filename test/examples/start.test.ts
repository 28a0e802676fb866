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
    ['on', 1, ['--seconds', '0.2', '--connections', '5', '--size', '100KiB']],
    ['off', 2, ['--seconds', '0.2', '--connections', '5', '--size', '100KiB']],
    ['on', 2, ['--rate', '100', '--seconds', '0.2', '--connections', '50', '--size', '10KiB']],
  ])('--native %s, threads: %i, %j: the comparison, and code 0', async (native, threads, args) => {
    const { child, directory, end } = start([
      ...['--driver', driver, '--native', native, '--threads', String(threads)],
      ...['--processes', '1', '--slow', '20', ...args],
    ]);
    const { code, stdout, stderr } = await end;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    const ready = (name: string, count: number) =>
      `listening on 127\\.0\\.0\\.1:\\d+ driver=${name} threads=${count}\n`;
    const connections = args[args.indexOf('--connections') + 1];
    expect(stdout).toMatch(
      new RegExp(`^${connections} connections send documents .*, beside 20 of`),
    );
    expect(stdout).toMatch(new RegExp(`\n${ready(driver, threads)}${ready('net', 1)}`));
    const rate = args[0] === '--rate' ? '100' : '[\\d,]+';
    expect(stdout).toMatch(
      new RegExp(`\n${rate} documents a second to each.*; medians of 3 rounds`),
    );
    expect(stdout).toMatch(/│ figure +│ +completion-port │ +node:net │ +ratio │ better │/);
    const rows = [
      ...stdout.matchAll(/│ (.+?) +│ +[\d,.]+ │ +[\d,.]+ │ +(?:[\d.]+|–) │ (less|more) /g),
    ];
    expect(rows.map(([, figure, better]) => [figure, better])).toEqual([
      ['p50 of an answer, ms', 'less'],
      ['p99 of an answer, ms', 'less'],
      ['p99, no slow clients, ms', 'less'],
      ['CPU for a document, µs', 'less'],
      ['JavaScript calls a document', 'less'],
      ['resident memory, MiB', 'less'],
      ['at most, documents a second', 'more'],
    ]);
    const answers = /\nall ([\d,]+) answers are right\n$/.exec(stdout)?.[1]?.replaceAll(',', '');
    expect(Number(answers)).toBeGreaterThan(0);
    expect(childrenOf(child.pid!).size).toBe(0);
    expect(readdirSync(directory)).toEqual([]);
  });

  test('--watch: tables of the stages at work, one after the other where there is no terminal', async () => {
    const { directory, end } = start([
      ...['--watch', '--driver', driver, '--seconds', '2', '--connections', '5', '--slow', '7'],
      ...['--size', '100KiB'],
    ]);
    const { code, stdout, stderr } = await end;
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(/\nthe same in a browser: http:\/\/127\.0\.0\.1:\d+\/\n/);
    expect(stdout).not.toContain('\x1b');
    const heading =
      /│ stage │ connections │ +queue │ +running │ packets\/s │ p99 wait │ p99 work │/g;
    expect(stdout.match(heading)!.length).toBeGreaterThan(1);
    expect(stdout).toMatch(/│ spool │ .*│ +\d of 2 │ +[\d,]+ │ .*│ +– │\n/);
    expect(stdout).toMatch(/│ work {2}│ .*│ +\d of 5 │/);
    expect(stdout).toMatch(/\nspool: .*receiving \d+/);
    for (const line of stdout.split('\n').filter((text) => /^[│┌├└]/.test(text))) {
      expect(line.length).toBeLessThanOrEqual(80);
    }
    expect(stdout).toMatch(/\nall [\d,]+ answers are right\n$/);
    expect(readdirSync(directory)).toEqual([]);
  });

  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)(
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

  test('SIGKILL: its processes notice, and end', async () => {
    const { child, said } = start(['--driver', driver, '--seconds', '600', '--connections', '5']);
    const processes = await processesOf(child);
    await until(() => said().includes('connections send'));
    child.kill('SIGKILL');
    await until(() => !processes.some(runs));
  });
});
