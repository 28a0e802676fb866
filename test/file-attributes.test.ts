/**
 * `chmod`, `chown` and `utimes` of an open file, as those of node:fs.
 */
import { statSync } from 'node:fs';
import { describe, expect, test } from 'vitest';
import {
  codeOf,
  drivers,
  failureOf,
  newPort,
  outputOf,
  take,
  temporaryFile,
  windows,
  wine,
} from './support/harness';

const ARGUMENT = (code: string): unknown => expect.objectContaining({ code });

/** The bits that the platform has. */
const bits = (name: string): number => statSync(name).mode & (windows ? 0o200 : 0o7777);

/** Wine sets no access time, for node:fs neither. */
const accessed = (atimeMs: number): object => (wine ? {} : { atimeMs });

describe.each(drivers)('%s', (driver) => {
  test('chmod sets the permission bits: of a number, or of octal digits', async () => {
    const port = newPort({ driver });
    const name = temporaryFile('x');
    const file = await port.open(name, 'r'); // it needs not be open for writing
    for (const [mode, expected] of [
      [0o600, 0o600],
      ['444', 0o444],
      [0o100644, 0o644],
    ] as const) {
      expect(await file.chmod(mode)).toBe(undefined);
      expect(bits(name)).toBe(windows ? expected & 0o200 : expected);
    }
  });

  test('utimes takes seconds, strings and Dates, to the microsecond', async () => {
    const port = newPort({ driver });
    const name = temporaryFile('x');
    const file = await port.open(name, 'r+');
    await file.utimes(1_700_000_000.123456, new Date(1_600_000_000_007));
    const { atimeNs, mtimeNs } = statSync(name, { bigint: true });
    expect(mtimeNs).toBe(1_600_000_000_007_000_000n);
    if (!wine) expect(atimeNs).toBe(1_700_000_000_123_456_000n);
    await file.utimes('12.5', 0);
    expect(await file.stat()).toMatchObject({ ...accessed(12_500), mtimeMs: 0 });
    await file.utimes(-1.5, new Date('1969-12-31T23:59:59.999Z'));
    expect(await file.stat()).toMatchObject({ ...accessed(-1500), mtimeMs: -1 });
  });

  test('chown changes the owner where it may, and nothing for -1; on Windows nothing', async () => {
    const port = newPort({ driver });
    const name = temporaryFile('x');
    const file = await port.open(name, 'r+');
    const { uid, gid } = statSync(name);
    await file.chown(-1, -1);
    await file.chown(uid, gid);
    expect(statSync(name)).toMatchObject({ uid, gid });
    if (windows) {
      await file.chown(12_345, 54_321);
      expect(statSync(name)).toMatchObject({ uid, gid });
    } else if (process.getuid!() === 0) {
      await file.chown(12_345, 54_321);
      expect(statSync(name)).toMatchObject({ uid: 12_345, gid: 54_321 });
      await file.chown(-1, 4_000_000_000);
      expect(statSync(name)).toMatchObject({ uid: 12_345, gid: 4_000_000_000 });
    } else {
      const error = await failureOf(() => file.chown(uid + 1, gid));
      expect(error).toMatchObject({ code: 'EPERM', syscall: 'fchown', path: name });
    }
  });

  test('what the system refuses is its error', async (context) => {
    if (windows) context.skip('Windows: nothing like it');
    const port = newPort({ driver });
    const file = await port.open('/proc/self/status');
    expect((await failureOf(() => file.chmod(0o600))).message).toMatch(
      /^EPERM: .*, fchmod '\/proc\/self\/status'$/,
    );
  });

  test('in a chain they come in its order; a signal that is aborted keeps them from beginning', async () => {
    const port = newPort({ driver });
    const name = temporaryFile('x');
    const file = await port.open(name, 'r+');
    await Promise.all(file.link(() => [file.write('changed', 0), file.utimes(5, 5), file.stat()]));
    expect(statSync(name).mtimeMs).toBe(5000);
    const aborted = failureOf(() => file.utimes(6, 6, { signal: AbortSignal.abort() }));
    expect(codeOf(await aborted)).toBe('ABORT_ERR');
    expect(statSync(name).mtimeMs).toBe(5000);
  });

  test('with a key a changed packet answers', async () => {
    const port = newPort({ driver });
    const name = temporaryFile('x');
    const file = await port.open(name, 'r+', { key: 7 });
    file.link(() => {
      file.chmod(0o600, { tag: 1 });
      file.chown(-1, -1, { tag: 2 });
      file.utimes(1, 2, { tag: 3 });
    });
    const packets = await take(port, 3);
    const seen = packets.map(({ type, tag, key, error, handle }) => [
      type,
      tag,
      key,
      error,
      handle === file,
    ]);
    expect(seen).toEqual([1, 2, 3].map((tag) => ['changed', tag, 7, undefined, true]));
    expect(statSync(name)).toMatchObject({ ...accessed(1000), mtimeMs: 2000 });
  });

  test('wrong arguments throw at once', async () => {
    const port = newPort({ driver });
    const file = await port.open(temporaryFile('x'), 'r+');
    for (const mode of ['9', '0x7', '', -1, 1.5, 2 ** 32, null, undefined, {}]) {
      expect(() => file.chmod(mode as number)).toThrow(ARGUMENT(expect.any(String) as string));
    }
    expect(() => file.chmod('rwx')).toThrow(ARGUMENT('ERR_INVALID_ARG_VALUE'));
    expect(() => file.chmod(undefined as never)).toThrow(ARGUMENT('ERR_INVALID_ARG_TYPE'));
    expect(() => file.chown(-2, 0)).toThrow(ARGUMENT('ERR_OUT_OF_RANGE'));
    expect(() => file.chown(0, 2 ** 32)).toThrow(ARGUMENT('ERR_OUT_OF_RANGE'));
    expect(() => file.chown('0' as never, 0)).toThrow(/"uid" argument must be of type number/);
    for (const time of ['soon', '', null, undefined, {}, true]) {
      expect(() => file.utimes(0, time as never)).toThrow(ARGUMENT('ERR_INVALID_ARG_TYPE'));
    }
    for (const time of [NaN, Infinity, new Date(NaN), 1e13]) {
      expect(() => file.utimes(time, 0)).toThrow(ARGUMENT('ERR_OUT_OF_RANGE'));
    }
    expect(() => file.utimes(0, 0, { timeout: -1 })).toThrow(ARGUMENT('ERR_OUT_OF_RANGE'));
    await file.close();
    expect(() => file.chmod(0o600)).toThrow(ARGUMENT('ERR_HANDLE_CLOSED'));
  });
});

test('under the permission model of Node.js they are refused, as those of node:fs', async () => {
  const name = temporaryFile('x');
  const stable = process.allowedNodeEnvironmentFlags.has('--permission');
  const script = `
    const port = new CompletionPort();
    const file = await port.open(process.argv[1], 'r+');
    const codes = [];
    for (const change of [() => file.chmod(0o600), () => file.chown(0, 0), () => file.utimes(0, 0)]) {
      try { await change(); } catch (error) { codes.push(error.code); }
    }
    console.log(codes.join());
    await port.close();`;
  const args = [
    stable ? '--permission' : '--experimental-permission',
    '--allow-addons',
    '--allow-fs-read=*',
    '--allow-fs-write=*',
  ];
  const output = await outputOf(script, { args: [name], nodeArguments: args });
  expect(output).toBe(Array(3).fill('ERR_ACCESS_DENIED').join());
});
