// The API reference, docs/api, made of the docstrings of lib: `npm run docs:api`. With `--check`, for
// `npm run lint`, it says whether what is checked in is current.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const checkedIn = path.join(root, 'docs', 'api');

/** Every page, by its name. */
function pagesOf(folder) {
  const names = readdirSync(folder, { recursive: true, withFileTypes: true });
  const files = names.filter((one) => one.isFile());
  return new Map(
    files.map((one) => {
      const file = path.join(one.parentPath, one.name);
      return [path.relative(folder, file), readFileSync(file, 'utf8')];
    }),
  );
}

const made = mkdtempSync(path.join(os.tmpdir(), 'completion-port-api-'));
try {
  const typedoc = path.join(root, 'node_modules', 'typedoc', 'bin', 'typedoc');
  const args = [typedoc, '--out', made, '--logLevel', 'Warn'];
  const { status } = spawnSync(process.execPath, args, { cwd: root, stdio: 'inherit' });
  if (status !== 0) process.exit(1);
  if (argv.includes('--check')) {
    const [is, should] = [pagesOf(checkedIn), pagesOf(made)];
    const names = new Set([...is.keys(), ...should.keys()]);
    const stale = [...names].filter((name) => is.get(name) !== should.get(name));
    if (stale.length > 0) {
      console.error(`docs/api is not current (npm run docs:api): ${stale.join(', ')}`);
      process.exitCode = 1;
    }
  } else {
    rmSync(checkedIn, { recursive: true, force: true });
    cpSync(made, checkedIn, { recursive: true });
  }
} finally {
  rmSync(made, { recursive: true, force: true });
}
