/** The scripts that decide what may be published: each has to refuse what it is there to refuse. */
import { execFileSync, spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { root, temporaryDirectory, temporaryFile, type Ended } from './support/harness';

function run(script: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Ended {
  const result = spawnSync(process.execPath, [path.join(root, 'scripts', script), ...args], {
    encoding: 'utf8',
    cwd: root,
    env: { ...process.env, GITHUB_REPOSITORY: undefined, ...env },
  });
  return { code: result.status, signal: null, stdout: result.stdout, stderr: result.stderr };
}

/** A shared library of this C code. */
function library(code: string, ...flags: string[]): string {
  const file = path.join(temporaryDirectory(), 'library.node');
  const args = ['-shared', '-fPIC', '-o', file, temporaryFile(code, 'code.c'), ...flags];
  execFileSync('cc', args, { stdio: 'inherit' });
  return file;
}

/** Of the C library this machine links against: [2, 36]; [0, 0] where it is another one. */
function glibcVersion(): readonly [number, number] {
  const report = process.report!.getReport() as unknown as {
    header: { glibcVersionRuntime?: string };
  };
  const [major = 0, minor = 0] = (report.header.glibcVersionRuntime ?? '').split('.').map(Number);
  return [major, minor];
}

describe.runIf(glibcVersion()[0] > 0)('check-binary', () => {
  const binding = process.env['COMPLETION_PORT_BINDING'];

  test.skipIf(binding)('lets the addon pass', () => {
    const file = path.join(root, 'build/Release/completion_port.node');
    expect(run('check-binary.mjs', [file])).toMatchObject({ code: 0, stderr: '' });
  });

  // glibc 2.34 gave dlsym a new version.
  const [major, minor] = glibcVersion();
  test.runIf(major > 2 || (major === 2 && minor >= 34))(
    'refuses a binary that needs a newer glibc',
    () => {
      const file = library(
        'void *dlsym(void *, const char *); void *f() { return dlsym(0, "x"); }',
      );
      const { code, stderr } = run('check-binary.mjs', [file]);
      expect(code).toBe(1);
      expect(stderr).toMatch(/needs GLIBC_2\.34, more than GLIBC_2\.28/);
    },
  );

  test('refuses a binary that needs a library Node.js does not bring along', () => {
    const file = library('int f() { return 0; }', '-Wl,--no-as-needed', '-lresolv');
    const { code, stderr } = run('check-binary.mjs', [file]);
    expect(code).toBe(1);
    expect(stderr).toContain('needs libresolv.so.2');
  });

  test('refuses a function that is not of Node-API, or of a newer version of it', () => {
    const names = ['uv_poll_init', 'node_api_create_syntax_error', 'napi_create_object'];
    const code = names.map((name) => `void ${name}(void); void f_${name}() { ${name}(); }`);
    const { stderr } = run('check-binary.mjs', [library(code.join('\n'))]);
    expect(stderr).toContain('imports uv_poll_init');
    expect(stderr).toContain('imports node_api_create_syntax_error');
    expect(stderr).not.toContain('imports napi_create_object');
  });

  test.each([[[]], [['package.json']]])('says what it wants: %j', (args) => {
    const { code, stderr } = run('check-binary.mjs', args);
    expect(code).toBe(2);
    expect(stderr).toMatch(/usage|neither an ELF nor a PE file/);
  });
});

describe('prebuilds', () => {
  test('an unknown target is refused, and the known ones are listed', () => {
    const { code, stderr } = run('prebuilds.mjs', ['beos-x64']);
    expect(code).toBe(1);
    expect(stderr).toMatch(/no target 'beos-x64'.*linux-x64.*win32-arm64/);
  });

  test('a target that is named and cannot be built is an error', () => {
    const target = process.platform === 'win32' ? 'linux-x64' : 'win32-arm64';
    const { code, stderr } = run('prebuilds.mjs', [target]);
    expect(code).toBe(1);
    expect(stderr).toContain(`${target}: `);
  });
});

describe('check-release', () => {
  const { version } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));

  test('lets the tag of this version pass', () => {
    expect(run('check-release.mjs', [`v${version}`])).toMatchObject({ code: 0, stderr: '' });
  });

  test('refuses the tag of another', () => {
    const { code, stderr } = run('check-release.mjs', ['v0.0.0']);
    expect(code).toBe(1);
    expect(stderr).toContain(`the tag is v0.0.0, package.json says ${version}`);
  });

  test('refuses a repository that package.json does not name', () => {
    const env = { GITHUB_REPOSITORY: 'someone/something-else' };
    const { code, stderr } = run('check-release.mjs', [`v${version}`], env);
    expect(code).toBe(1);
    expect(stderr).toContain('provenance');
  });
});
