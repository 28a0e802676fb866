/** The documents, and the blocks of code in them. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { root } from './harness';

function documentsIn(folder: string): string[] {
  return readdirSync(path.join(root, folder))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `${folder}/${name}`);
}

export const guides = documentsIn('docs/guides');

/** All but the generated ones in docs/api. */
export const documents = ['README.md', 'CONTRIBUTING.md', ...documentsIn('docs'), ...guides];

export function textOf(document: string): string {
  return readFileSync(path.join(root, document), 'utf8');
}

export interface Block {
  readonly line: number;
  readonly language: 'js' | 'ts';
  /** That of its first line, where it has one. */
  readonly file: string | undefined;
  readonly text: string;
}

/** A block that begins with `// name.mjs` is a file of that name. */
export function blocksOf(document: string): Block[] {
  const text = textOf(document);
  return [...text.matchAll(/^```(js|ts)\n([^]*?)^```$/gm)].map((match) => {
    const [, language, code] = match as unknown as [string, 'js' | 'ts', string];
    return {
      line: text.slice(0, match.index).split('\n').length + 1,
      language,
      file: /^\/\/ ([\w.-]+\.m?[jt]s)/.exec(code)?.[1],
      text: code,
    };
  });
}
