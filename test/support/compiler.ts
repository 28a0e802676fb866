/** Compiles programs that use the package, as a user's project would. */
import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { ESLint } from 'eslint';
import ts from 'typescript';
import tseslint from 'typescript-eslint';
import { root } from './harness';

export interface Program {
  /** Where the files are, with a tsconfig.json. */
  readonly directory: string;
  /** What the compiler has to say about one of them: `line: message`. */
  messages(name: string): string[];
  /** Removes the directory. */
  remove(): void;
}

const strict = {
  strict: true,
  noEmit: true,
  target: 'es2022',
  module: 'nodenext',
  moduleResolution: 'nodenext',
  lib: ['ES2023', 'ESNext.Disposable'],
  types: ['node'],
  skipLibCheck: false,
};

/**
 * `files`: their texts by name, below a directory in which `completion-port` is installed; `more`:
 * options of the compiler beside, or in place of, the strict ones.
 */
export function compiled(
  files: Readonly<Record<string, string>>,
  more: Readonly<Record<string, unknown>> = {},
): Program {
  const options = { ...strict, ...more };
  const directory = mkdtempSync(path.join(tmpdir(), 'completion-port-types-'));
  const modules = path.join(directory, 'node_modules');
  mkdirSync(path.join(modules, '@types'), { recursive: true });
  symlinkSync(root, path.join(modules, 'completion-port'), 'junction');
  symlinkSync(
    path.join(root, 'node_modules/@types/node'),
    path.join(modules, '@types/node'),
    'junction',
  );
  writeFileSync(
    path.join(directory, 'tsconfig.json'),
    JSON.stringify({ compilerOptions: options, include: ['**/*'], exclude: ['node_modules'] }),
  );
  writeFileSync(path.join(directory, 'package.json'), '{ "type": "module" }');
  const names = Object.keys(files).map((name) => path.join(directory, name));
  for (const [name, text] of Object.entries(files)) {
    mkdirSync(path.dirname(path.join(directory, name)), { recursive: true });
    writeFileSync(path.join(directory, name), text);
  }
  const { options: parsed } = ts.convertCompilerOptionsFromJson(options, directory);
  const program = ts.createProgram(names, parsed);
  return {
    directory,
    remove: () => rmSync(directory, { recursive: true, force: true }),
    messages(name) {
      const source = program.getSourceFile(path.join(directory, name))!;
      const all = [
        ...program.getSyntacticDiagnostics(source),
        ...program.getSemanticDiagnostics(source),
      ];
      return all.map(({ messageText, start }) => {
        const { line } = source.getLineAndCharacterOfPosition(start ?? 0);
        return `${line + 1}: ${ts.flattenDiagnosticMessageText(messageText, '\n')}`;
      });
    },
  };
}

/** Operations and other promises that nobody awaits in files of a program: `file:line`. */
export async function floatingPromises(program: Program, files: string[]): Promise<string[]> {
  const eslint = new ESLint({
    cwd: program.directory,
    overrideConfigFile: true,
    overrideConfig: {
      files: ['**/*.{js,mjs,ts,mts}'],
      plugins: { '@typescript-eslint': tseslint.plugin as never },
      languageOptions: {
        parser: tseslint.parser as never,
        parserOptions: { project: path.join(program.directory, 'tsconfig.json') },
      },
      rules: { '@typescript-eslint/no-floating-promises': 'error' },
    },
  });
  const results = await eslint.lintFiles(files.map((file) => path.join(program.directory, file)));
  return results.flatMap(({ filePath, messages }) =>
    messages.map(({ line, message, ruleId }) => {
      const floating = ruleId === '@typescript-eslint/no-floating-promises';
      return `${path.basename(filePath)}:${line}${floating ? '' : ` ${message}`}`;
    }),
  );
}
