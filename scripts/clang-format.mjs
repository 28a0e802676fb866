// Formats the C and C++ sources in place, or with --check fails when one is not formatted.
import { spawnSync } from 'node:child_process';
import { readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const files = ['native', 'test'].flatMap((folder) =>
  readdirSync(path.join(root, folder), { recursive: true })
    .filter((file) => /\.(cc|c|h)$/.test(file))
    .map((file) => path.join(folder, file)),
);
const mode = process.argv.includes('--check') ? ['--dry-run', '-Werror'] : ['-i'];
const result = spawnSync('clang-format', [...mode, ...files], { cwd: root, stdio: 'inherit' });
if (result.error?.code === 'ENOENT')
  console.warn('clang-format is not installed: the C++ sources are left out.');
else process.exitCode = result.status ?? 1;
