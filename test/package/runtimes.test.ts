// The parts of the installed package on other runtimes than Node.js, beside it: what the table in
// docs/guides/runtimes.md promises. COMPLETION_PORT_TEST_BUN and COMPLETION_PORT_TEST_DENO name
// their programs; .ci/run fetches them.
import { cpSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Installation } from './installation';

const { COMPLETION_PORT_TEST_BUN: bun, COMPLETION_PORT_TEST_DENO: deno } = process.env;
if (!bun) console.warn('Left out: Bun (COMPLETION_PORT_TEST_BUN names one).');
if (!deno) console.warn('Left out: Deno (COMPLETION_PORT_TEST_DENO names one).');
const runtimes: Readonly<Record<string, readonly string[]>> = {
  'Node.js': [process.execPath],
  ...(bun && { Bun: [bun] }),
  ...(deno && { Deno: [deno, 'run', '--allow-all', '--quiet'] }),
};

/** What each program prints. */
const programs: Readonly<Record<string, string>> = {
  channels: 'values\n',
  files: 'true\n',
  http: 'answered\nanswered\n',
  micro: '42\n',
  net: 'echoed\n',
  packets: 'echoed\n',
  pool: '500500\n',
  stages: 'echoed true\n',
  threads: '55\n',
};
/** Bun's http.Server is no net.Server: it has no connections that could come from elsewhere. */
const refused: readonly string[] = ['Bun http'];

let installation: Installation;
beforeAll(() => {
  installation = new Installation();
  cpSync(fileURLToPath(new URL('./runtimes', import.meta.url)), installation.folder, {
    recursive: true,
  });
});
afterAll(() => installation?.remove());

describe.each(Object.entries(runtimes))('%s', (name, command) => {
  for (const [program, printed] of Object.entries(programs)) {
    const isRefused = refused.includes(`${name} ${program}`);
    test(isRefused ? `${program} is refused` : program, () => {
      const ended = installation.runProgram(command, `${program}.mjs`);
      if (isRefused) {
        expect(ended.code).not.toBe(0);
        expect(ended.stderr).toMatch(/"server" argument must be/);
      } else {
        expect(ended, ended.stderr).toMatchObject({ code: 0, stdout: printed });
      }
    });
  }

  test('the doctor names it', () => {
    const script = path.join('node_modules', 'completion-port', 'dist', 'cli.js');
    const ended = installation.run(command[0]!, [...command.slice(1), script, 'doctor', '--json']);
    const { system, status } = JSON.parse(ended.stdout) as {
      system: { runtime: string };
      status: string;
    };
    expect(system.runtime).toMatch(new RegExp(`^${name} v`));
    expect(status).not.toBe('broken');
  });
});
