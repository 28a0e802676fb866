// The API report: what the package exports and what that looks like, without comments, in
// docs/api-report.md. A change of it is a change of the public API, and is to be seen in a review.
// `--check` fails where the report is not what the sources say.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { format, resolveConfig } from 'prettier';
import ts from 'typescript';

const root = fileURLToPath(new URL('..', import.meta.url));
const report = path.join(root, 'docs', 'api-report.md');

const entries = [
  { name: 'completion-port', entry: 'lib/index.ts', types: 'lib/api.ts' },
  { name: 'completion-port/stages', entry: 'lib/stages.ts', types: 'lib/stage/api.ts' },
  { name: 'completion-port/micro', entry: 'lib/micro.ts', types: 'lib/micro/api.ts' },
  { name: 'completion-port/cpu', entry: 'lib/cpu.ts', types: 'lib/cpu/api.ts' },
  { name: 'completion-port/bullmq', entry: 'lib/bullmq.ts', types: 'lib/bullmq/api.ts' },
  { name: 'completion-port/doctor', entry: 'lib/doctor.ts', types: 'lib/doctor/findings.ts' },
  { name: 'completion-port/node', entry: 'lib/node.ts', types: 'lib/node/api.ts' },
  { name: 'completion-port/node/net', entry: 'lib/node-net.ts', types: 'lib/node/api.ts' },
];

const printer = ts.createPrinter({ removeComments: true });

function sourceOf(file) {
  const text = readFileSync(path.join(root, file), 'utf8');
  return ts.createSourceFile(file, text, ts.ScriptTarget.ES2022, true);
}

const isExported = (statement) =>
  statement.modifiers?.some(({ kind }) => kind === ts.SyntaxKind.ExportKeyword) ?? false;

/** Names that the entry exports: those of its own, and those it passes on. */
function exportsOf(file) {
  return sourceOf(file).statements.flatMap((statement) => {
    if (ts.isExportDeclaration(statement)) {
      return statement.exportClause.elements.map(({ name }) => name.text);
    }
    if (!isExported(statement)) return [];
    if (ts.isVariableStatement(statement)) {
      return statement.declarationList.declarations.map(({ name }) => name.text);
    }
    return [statement.name.text];
  });
}

function declarationsOf(file) {
  const source = sourceOf(file);
  return source.statements
    .filter((statement) => !ts.isImportDeclaration(statement))
    .map((statement) => printer.printNode(ts.EmitHint.Unspecified, statement, source))
    .join('\n');
}

/** Functions are in no file of types: their signatures, as they are declared. */
function functionsOf(file) {
  return sourceOf(file).statements.flatMap((statement) => {
    if (!ts.isExportDeclaration(statement) || statement.isTypeOnly) return [];
    const from = path.join(path.dirname(file), `${statement.moduleSpecifier.text}.ts`);
    const source = sourceOf(from);
    const names = statement.exportClause.elements.map(({ name }) => name.text);
    return source.statements
      .filter((one) => ts.isFunctionDeclaration(one) && names.includes(one.name.text))
      .map((one) => {
        const { modifiers, name, typeParameters, parameters, type } = one;
        const signature = ts.factory.createFunctionDeclaration(
          ...[modifiers, undefined, name, typeParameters, parameters, type, undefined],
        );
        return printer.printNode(ts.EmitHint.Unspecified, signature, source);
      });
  });
}

function sectionOf({ name, entry, types }) {
  const names = [...new Set(exportsOf(entry))].sort().map((exported) => `\`${exported}\``);
  const code = [...functionsOf(entry), declarationsOf(types)].join('\n');
  return `## ${name}\n\nExports ${names.join(', ')}.\n\n\`\`\`typescript\n${code}\n\`\`\`\n`;
}

const head = `# API report

Written by \`npm run api-report\`; \`npm run lint\` fails where it is out of date. What each name means is said in the sources, and in the declarations that come with the package. [Stability](stability.md) says what may change, and when.
`;

const text = await format([head, ...entries.map(sectionOf)].join('\n'), {
  ...(await resolveConfig(report)),
  parser: 'markdown',
});
const current = (() => {
  try {
    return readFileSync(report, 'utf8');
  } catch {
    return '';
  }
})();

if (!process.argv.includes('--check')) {
  writeFileSync(report, text);
} else if (text !== current) {
  console.error(
    'docs/api-report.md is out of date: the public API has changed. Run npm run api-report.',
  );
  process.exit(1);
}
