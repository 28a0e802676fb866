import { mkdirSync, readdirSync, readlinkSync, truncateSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import {
  ended,
  pattern,
  skipOnWindows,
  sleep,
  temporaryDirectory,
  until,
} from '../support/harness';
import { describeDrivers, NO_SIGNALS, runExample, startExample } from '../support/examples';

test('crawl --help tells the options', async () => {
  const { code, stdout } = await runExample('crawl', ['--help']);
  expect(code).toBe(0);
  expect(stdout).toMatch(/^usage: node examples\/programs\/crawl\.mjs /);
});

describeDrivers('crawl', (driver) => {
  test('finds files with the same contents, however deep and large', async () => {
    const directory = temporaryDirectory();
    const deep = path.join(directory, 'a', 'b', 'c');
    mkdirSync(deep, { recursive: true });
    const large = pattern(300_000);
    const files = {
      [path.join(directory, 'large')]: large,
      [path.join(deep, 'large too')]: large,
      [path.join(deep, 'another')]: large.subarray(1),
      [path.join(directory, 'empty')]: '',
      [path.join(directory, 'a', 'empty too')]: '',
      [path.join(directory, 'alone')]: 'alone',
    };
    for (const [name, contents] of Object.entries(files)) writeFileSync(name, contents);
    const how = ['--driver', driver, '--concurrency', '2', directory];
    const { code, stdout } = await runExample('crawl', how);
    expect(code).toBe(0);
    const groups = stdout.trim().split('\n\n');
    const sorted = groups.map((group) => group.split('\n').sort()).sort();
    expect(sorted).toEqual(
      [
        [path.join(directory, 'a', 'empty too'), path.join(directory, 'empty')],
        [path.join(deep, 'large too'), path.join(directory, 'large')],
      ].sort(),
    );
  });

  test('what cannot be read ends it with a message', async () => {
    const nowhere = path.join(temporaryDirectory(), 'nowhere');
    const { code, stderr } = await runExample('crawl', ['--driver', driver, nowhere]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/crawl: ENOENT/);
  });

  test('SIGUSR2 prints what each waits for, and a signal cancels all', async (context) => {
    skipOnWindows(context, NO_SIGNALS);
    const directory = temporaryDirectory();
    const endless = path.join(directory, 'endless');
    writeFileSync(endless, '');
    truncateSync(endless, 2 ** 40); // of zeros, which take no space
    const child = startExample('crawl', ['--driver', driver, directory]);
    const end = ended(child);
    await until(() => hasOpen(child.pid!, endless));
    let printed = '';
    child.stderr!.on('data', (text) => (printed += text));
    while (!printed.includes('each')) {
      child.kill('SIGUSR2');
      await sleep(20);
    }
    child.kill('SIGINT');
    const { code, stderr } = await end;
    expect(code).toBe(1);
    expect(stderr).toMatch(/crawl: ECANCELED/);
    expect(stderr).toMatch(/^\d+ crawl: scope, .*\n(?: .*\n)* +\d+ .*: each, \d+ ms$/m);
  });
});

/** Whether a process has a file open. */
function hasOpen(pid: number, name: string): boolean {
  const directory = `/proc/${pid}/fd`;
  return readdirSync(directory).some((descriptor) => {
    try {
      return readlinkSync(path.join(directory, descriptor)) === name;
    } catch {
      return false; // closed meanwhile
    }
  });
}
