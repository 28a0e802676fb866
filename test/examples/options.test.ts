import { expect, test } from 'vitest';
import { runExample } from '../support/examples';

const programs = ['echo', 'cat', 'copy', 'proxy', 'spool-server', 'chat', 'ingest', 'start'];

test.each([...programs, 'spool-server-net'])(
  '%s --help tells the options and ends with code 0',
  async (name) => {
    const { code, stdout, stderr } = await runExample(name, ['--help']);
    expect({ code, stderr }).toEqual({ code: 0, stderr: '' });
    expect(stdout).toMatch(new RegExp(`^usage: node examples/programs/${name}\\.mjs `));
    if (programs.includes(name)) expect(stdout).toContain('--driver DRIVER');
  },
);

const target = ['--target', '127.0.0.1:1'];

test.each<[name: string, args: string[], complaint: RegExp]>([
  ...programs.map((name): [string, string[], RegExp] => [name, ['--nonsense'], /--nonsense/]),
  ...programs.map((name): [string, string[], RegExp] => {
    const needed = { copy: ['a', 'b'], proxy: target, ingest: ['log'] }[name] ?? [];
    return [name, ['--driver', 'kqueue', ...needed], /--driver .*io_uring, epoll or iocp/];
  }),
  ['echo', ['--port', '70000'], /--port .*0 to 65535/],
  ['echo', ['--port', '-1'], /--port/],
  ['echo', ['--port', '80x'], /--port/],
  ['echo', ['--port'], /--port/],
  ['echo', ['--threads', '0'], /--threads .*1 to 64/],
  ['echo', ['--threads', '1.5'], /--threads/],
  ['echo', ['something'], /unexpected argument 'something'/],
  ['copy', [], /argument is missing/],
  ['copy', ['a'], /argument is missing/],
  ['copy', ['a', 'b', 'c'], /unexpected argument 'c'/],
  ['copy', ['--depth', '0', 'a', 'b'], /--depth .*1 to 256/],
  ['proxy', [], /--target is missing/],
  ['proxy', ['--target', 'localhost'], /--target .*HOST:PORT/],
  ['proxy', ['--target', 'localhost:0'], /--target .*HOST:PORT/],
  ['proxy', [...target, '--timeout', '0'], /--timeout .*time/],
  ['spool-server', ['--timeout', 'soon'], /--timeout .*time/],
  ['spool-server', ['--max', '1x'], /--max .*size/],
  ['spool-server', ['--memory', '-5'], /--memory/],
  ['spool-server', ['--stats=1'], /--stats/],
  ['spool-server-net', ['--answer', 'soon'], /--answer .*full, hash, length/],
  ['start', ['--seconds', '0'], /--seconds/],
  ['start', ['--connections', 'many'], /--connections/],
])('%s %j is refused with code 2', async (name, args, complaint) => {
  const { code, stdout, stderr } = await runExample(name, args);
  expect({ code, stdout }).toEqual({ code: 2, stdout: '' });
  expect(stderr).toMatch(new RegExp(`^${name}: `));
  expect(stderr).toMatch(complaint);
  expect(stderr).toMatch(new RegExp(`\nusage: node examples/programs/${name}\\.mjs .*--help.*\n$`));
});
