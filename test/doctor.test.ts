import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { advise } from '../dist/doctor/advice.js';
import type { Diagnosis } from '../dist/doctor/findings.js';
import {
  ended,
  root,
  startProcess,
  temporaryFile,
  type Ended,
  type ProcessOptions,
} from './support/harness';
import { nouring } from './support/nouring';

const cli = path.join(root, 'dist', 'cli.js');

function run(args: readonly string[], options: ProcessOptions = {}): Promise<Ended> {
  const env = { COMPLETION_PORT_DRIVER: undefined, FORCE_COLOR: undefined, ...options.env };
  const flags = [...(options.nodeArguments ?? []), cli, ...args];
  return ended(startProcess(flags, { ...options, env }));
}

async function diagnose(
  options: ProcessOptions = {},
): Promise<{ code: number | null; found: Diagnosis }> {
  const { code, stdout, stderr } = await run(['doctor', '--json'], options);
  expect(stderr).toBe('');
  return { code, found: JSON.parse(stdout) as Diagnosis };
}

/** What a shell says of the limit: an answer that does not come from the library. */
const shellLimit = (option: string): string =>
  spawnSync('sh', ['-c', `ulimit ${option}`], { encoding: 'utf8' }).stdout.trim();

const granted = await (async () => {
  const probe = spawnSync(process.execPath, [cli, 'doctor', '--json'], { encoding: 'utf8' });
  return (JSON.parse(probe.stdout) as Diagnosis).capabilities.every(
    ({ required, error }) => !required || error === null,
  );
})();

describe.runIf(process.platform === 'linux')('doctor', () => {
  test.runIf(granted)('finds nothing amiss where io_uring is granted', async () => {
    const { code, found } = await diagnose();
    expect(code).toBe(0);
    expect(found).toMatchObject({
      status: 'good',
      driver: { name: 'io_uring', reason: '', chosen: null },
      binary: { origin: 'built', tried: [] },
    });
    const names = found.capabilities.map(({ name }) => name);
    expect(names).toContain('io_uring_setup');
    expect(names).toContain('IORING_OP_RECV');
    expect(names).toContain('IORING_SETUP_DEFER_TASKRUN');
  });

  test.runIf(granted)('E1: tells how completions of a busy thread come about', async () => {
    const { found } = await diagnose();
    expect(found.nudge).toEqual({ mode: 'signal', reason: '' });
    for (const mode of ['tick', 'off']) {
      const { found: other } = await diagnose({ env: { COMPLETION_PORT_NUDGE: mode } });
      expect(other.nudge).toEqual({ mode, reason: 'COMPLETION_PORT_NUDGE' });
    }
    const { stdout } = await run(['doctor'], { env: { COMPLETION_PORT_NUDGE: 'signal' } });
    expect(stdout).toMatch(/busy threads +nudged by a signal/);
    const none = await diagnose({ env: { COMPLETION_PORT_DRIVER: 'epoll' } });
    expect(none.found.nudge).toBeNull();
  });

  test('names the version, the system and its limits', async () => {
    const { found } = await diagnose();
    const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8'));
    expect(found.version).toBe(version);
    expect(found.system.runtime).toBe(`Node.js ${process.version}`);
    const kernel = spawnSync('uname', ['-r'], { encoding: 'utf8' }).stdout.trim();
    expect(found.system.kernel).toBe(kernel);
    expect(String(found.limits.descriptors?.hard)).toBe(shellLimit('-H -n'));
  });

  test.each([
    ['EPERM', /seccomp filter is active/],
    ['ENOSYS', /seccomp filter is active/],
    ['EINVAL', /Linux 6\.0/],
  ])('P3: %s is a fallback, with the cause and what to do', async (error, advice) => {
    const { code, found } = await diagnose({ launcher: [nouring(), error] });
    expect(code).toBe(1);
    expect(found.status).toBe('fallback');
    expect(found.driver.name).toBe('epoll');
    expect(found.driver.reason).toContain(error);
    expect(found.capabilities).toEqual([
      { name: 'io_uring_setup', since: '6.0', required: true, error },
    ]);
    expect(found.restrictions.seccomp).toBe('filter');
    expect(found.advice.join('\n')).toMatch(advice);
  });

  test.each(['ENOMEM', 'EMFILE'])('P3: %s means that it does not work', async (error) => {
    const { code, found } = await diagnose({ launcher: [nouring(), error] });
    expect(code).toBe(2);
    expect(found.status).toBe('broken');
    expect(found.driver.name).toBe(null);
    expect(found.driver.reason).toContain(error);
    expect(found.advice).not.toEqual([]);
  });

  test('epoll that was asked for is no fallback', async () => {
    const env = { COMPLETION_PORT_DRIVER: 'epoll' };
    const { code, found } = await diagnose({ env, launcher: [nouring(), 'EPERM'] });
    expect(code).toBe(0);
    expect(found).toMatchObject({ status: 'good', driver: { name: 'epoll', chosen: 'epoll' } });
    expect(found.advice.join('\n')).not.toContain('seccomp');
  });

  test.each(['io_uring', 'nonsense'])(
    'a driver that cannot be had is named (%s)',
    async (driver) => {
      const env = { COMPLETION_PORT_DRIVER: driver };
      const { code, found } = await diagnose({ env, launcher: [nouring(), 'EPERM'] });
      expect(code).toBe(2);
      expect(found.driver).toMatchObject({ name: null, chosen: driver });
      expect(found.advice.join('\n')).toContain(`COMPLETION_PORT_DRIVER is '${driver}'`);
    },
  );

  test('few descriptors are worth a word', async () => {
    const launcher = ['sh', '-c', 'ulimit -n 512; exec "$@"', 'sh'];
    const { found } = await diagnose({ launcher });
    expect(found.limits.descriptors).toEqual({ soft: 512, hard: 512 });
    expect(found.advice.join('\n')).toContain('512 descriptors');
  });
});

// What this machine cannot be made to be, and must not: its settings hold for everyone on it.
describe('the advice', () => {
  const unlimited = { soft: 'unlimited', hard: 'unlimited' } as const;
  const refused = (error: string, name = 'io_uring_setup', required = true) => [
    { name, since: '6.1', required, error },
  ];
  const facts = {
    version: '1.0.0',
    status: 'fallback',
    system: { name: 'Linux', kernel: '6.12.1', architecture: 'x64', runtime: '', nodeApi: null },
    binary: { platform: 'linux-x64', file: '/x.node', origin: 'built', abi: 1, tried: [] },
    driver: { name: 'epoll', reason: 'refused', chosen: null },
    capabilities: refused('EPERM'),
    nudge: null,
    restrictions: { seccomp: 'off', ioUringDisabled: 0, ioUringGroup: -1 },
    limits: { descriptors: unlimited, lockedMemory: unlimited },
  } satisfies Omit<Diagnosis, 'advice'>;
  const { restrictions, system, binary } = facts;

  test.each<[string, Partial<Omit<Diagnosis, 'advice'>>, RegExp]>([
    [
      'a setting that turns io_uring off',
      { restrictions: { ...restrictions, ioUringDisabled: 2, seccomp: 'filter' } },
      /^kernel\.io_uring_disabled is 2/,
    ],
    [
      'a setting that leaves it to a group',
      { restrictions: { ...restrictions, ioUringDisabled: 1, ioUringGroup: 996 } },
      /^kernel\.io_uring_disabled is 1.* group 996/,
    ],
    [
      'a setting that leaves it to the privileged',
      { restrictions: { ...restrictions, ioUringDisabled: 1 } },
      /to no group/,
    ],
    ['a security module', { capabilities: refused('EACCES') }, /SELinux/],
    [
      'a kernel from before io_uring',
      { capabilities: refused('ENOSYS'), system: { ...system, kernel: '4.18.0-553.el8' } },
      /^Linux 4\.18\.0-553\.el8 is too old/,
    ],
    ['a kernel built without io_uring', { capabilities: refused('ENOSYS') }, /without io_uring/],
    [
      'a kernel that lacks an operation',
      { capabilities: refused('EINVAL', 'IORING_OP_SEND_ZC') },
      /needs IORING_OP_SEND_ZC, which Linux 6\.1 brought \(this is 6\.12\.1\)/,
    ],
    [
      'a kernel that could be faster',
      {
        status: 'good',
        driver: { name: 'io_uring', reason: '', chosen: null },
        capabilities: refused('EINVAL', 'IORING_SETUP_DEFER_TASKRUN', false),
      },
      /newer kernel would make io_uring faster: IORING_SETUP_DEFER_TASKRUN \(6\.1\)/,
    ],
    [
      'a limit of locked memory',
      {
        status: 'good',
        driver: { name: 'io_uring', reason: '', chosen: null },
        capabilities: refused('ENOMEM', 'IORING_REGISTER_BUFFERS2', false),
        limits: { ...facts.limits, lockedMemory: { soft: 65536, hard: 65536 } },
      },
      /^RLIMIT_MEMLOCK is 65536 bytes/,
    ],
    [
      'a C library that is too old for the prebuilt binary',
      {
        status: 'broken',
        capabilities: [],
        binary: {
          ...binary,
          file: null,
          tried: [{ file: '/x.node', reason: "version `GLIBC_2.28' not found" }],
        },
      },
      /^The prebuilt one needs glibc 2\.28/m,
    ],
  ])('knows %s', (_, difference, expected) => {
    expect(advise({ ...facts, ...difference }).join('\n')).toMatch(expected);
  });

  test('is none where there is nothing to be done', () => {
    const driver = { name: 'io_uring', reason: '', chosen: null };
    expect(advise({ ...facts, status: 'good', driver, capabilities: [] })).toEqual([]);
  });
});

describe('doctor without a binary', () => {
  const text = 'not a library';

  test('says what was tried, why it failed, and what builds one', async () => {
    const file = temporaryFile(text, 'x.node');
    const { code, found } = await diagnose({ env: { COMPLETION_PORT_BINDING: file } });
    expect(code).toBe(2);
    expect(found).toMatchObject({
      status: 'broken',
      binary: { file: null, origin: null, tried: [{ file }] },
      driver: { name: null },
      capabilities: [],
    });
    expect(found.binary.tried[0]!.reason).not.toBe('');
    expect(found.advice.join('\n')).toContain('npm run build:native');
  });

  test('the report says so too', async () => {
    const file = temporaryFile(text, 'x.node');
    const { code, stdout } = await run(['doctor'], { env: { COMPLETION_PORT_BINDING: file } });
    expect(code).toBe(2);
    expect(stdout).toContain('It does not work.');
    expect(stdout).toContain(file);
  });

  test('where the permission model keeps addons out it says how to let them in', async () => {
    const stable = process.allowedNodeEnvironmentFlags.has('--permission');
    const nodeArguments = [
      stable ? '--permission' : '--experimental-permission',
      '--no-warnings',
      '--allow-fs-read=*',
    ];
    const { code, found } = await diagnose({ nodeArguments });
    expect(code).toBe(2);
    expect(found.advice.join('\n')).toContain('--allow-addons');
  });
});

describe.runIf(process.platform === 'linux')('the report', () => {
  test('has everything in words, and no colours where there is no terminal', async () => {
    const { stdout } = await run(['doctor'], { launcher: [nouring(), 'EPERM'] });
    expect(stdout).toContain('It works, with epoll as a fallback.');
    expect(stdout).toMatch(/io_uring_setup +EPERM \(needed; Linux 6\.0\)/);
    expect(stdout).toMatch(/seccomp +filter/);
    expect(stdout).toContain('Advice');
    expect(stdout).not.toContain('\x1b');
  });

  // script(1) gives it a terminal; CI is among the variables that Node.js takes for no colours.
  test.each([
    [undefined, true],
    ['1', false],
  ])('has colours in a terminal unless NO_COLOR is set (%s)', (value, coloured) => {
    const command = `"${process.execPath}" "${cli}" doctor`;
    const child = spawnSync('script', ['-qec', command, '/dev/null'], {
      encoding: 'utf8',
      env: { PATH: process.env['PATH'], TERM: 'xterm-256color', NO_COLOR: value },
    });
    expect(child.error).toBeUndefined();
    expect(child.stdout).toContain('It works');
    expect(child.stdout.includes('\x1b[')).toBe(coloured);
  });
});

describe('the command', () => {
  test.each([[[]], [['nurse']], [['doctor', 'now']], [['doctor', '--jsn']]])(
    'is told apart when it is wrong: %j',
    async (args) => {
      const { code, stdout, stderr } = await run(args);
      expect(code).toBe(64);
      expect(stdout).toBe('');
      expect(stderr).toContain('Usage: completion-port doctor');
    },
  );

  test('explains itself', async () => {
    const { code, stdout } = await run(['--help']);
    expect(code).toBe(0);
    expect(stdout).toContain('Usage: completion-port doctor');
  });

  test('tells its version without a binary', async () => {
    const env = { COMPLETION_PORT_BINDING: '/nonexistent/x.node' };
    const { version } = JSON.parse(readFileSync(`${root}package.json`, 'utf8'));
    expect(await run(['--version'], { env })).toMatchObject({ code: 0, stdout: `${version}\n` });
  });
});
