import { execFileSync } from 'node:child_process';
import { mkdirSync, renameSync, statSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const source = fileURLToPath(new URL('./nouring.c', import.meta.url));
const folder = fileURLToPath(
  new URL('../../node_modules/.cache/completion-port/', import.meta.url),
);

/**
 * The path of the `nouring` program, compiled on first use:
 * `spawn(nouring(), ['EPERM', process.execPath, 'script.js'])` runs a script without io_uring.
 */
export function nouring(): string {
  const program = path.join(folder, 'nouring');
  const built = statSync(program, { throwIfNoEntry: false });
  if (built && built.mtimeMs >= statSync(source).mtimeMs) return program;
  mkdirSync(folder, { recursive: true });
  // Test files run side by side: each builds its own and puts it in place in one step.
  const fresh = `${program}.${process.pid}`;
  execFileSync('cc', ['-O1', '-Wall', '-Wextra', '-o', fresh, source], { stdio: 'inherit' });
  renameSync(fresh, program);
  return program;
}
