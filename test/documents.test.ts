/**
 * Each block of code of each document compiles, and leaves no promise unawaited. A block that begins
 * with `// name.ts` is a file of that name, which others of its document may import.
 */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { compiled, floatingPromises } from './support/compiler';
import { root, wine } from './support/harness';

const documents = [
  'README.md',
  'CONTRIBUTING.md',
  ...readdirSync(path.join(root, 'docs'))
    .filter((name) => name.endsWith('.md'))
    .map((name) => `docs/${name}`),
];

/** What blocks import and no block is. */
const supplied = {
  'log.ts': 'export declare const log: { append(lines: readonly Uint8Array[]): Promise<void> };',
};

interface Block {
  readonly line: number;
  readonly language: 'js' | 'ts';
  readonly name: string;
  readonly text: string;
}

function blocksOf(document: string): Block[] {
  const text = readFileSync(path.join(root, document), 'utf8');
  return [...text.matchAll(/^```(js|ts)\n([^]*?)^```$/gm)].map((match, index) => {
    const [, language, code] = match as unknown as [string, 'js' | 'ts', string];
    const line = text.slice(0, match.index).split('\n').length + 1;
    const named = /^\/\/ ([\w.-]+\.m?[jt]s)/.exec(code)?.[1];
    // A block without imports is a module all the same.
    return {
      line,
      language,
      name: named ?? `block${index}.${language}`,
      text: `${code}\nexport {};\n`,
    };
  });
}

/** Blocks of one name are one after the other: each goes with those before it. */
function programsOf(blocks: readonly Block[]): Block[][] {
  const programs: Block[][] = [];
  for (const block of blocks) {
    const fits = programs.find((program) => !program.some(({ name }) => name === block.name));
    if (fits === undefined)
      programs.push([...(programs[0] ?? []).filter(({ name }) => name !== block.name), block]);
    else fits.push(block);
  }
  return programs;
}

const withBlocks = documents.filter((document) => blocksOf(document).length > 0);

describe.skipIf(wine).each(withBlocks)('%s', (document) => {
  for (const language of ['js', 'ts'] as const) {
    const blocks = blocksOf(document).filter((block) => block.language === language);
    if (blocks.length === 0) continue;
    test(`blocks in ${language} compile, and await what they begin`, async () => {
      for (const blocks of programsOf(blocksOf(document).filter((b) => b.language === language))) {
        const texts = Object.fromEntries(blocks.map(({ name, text }) => [name, text]));
        const loose = { allowJs: true, checkJs: true, strict: false };
        const program = compiled({ ...supplied, ...texts }, language === 'js' ? loose : {});
        const said = blocks.flatMap(({ name, line }) =>
          program.messages(name).map((message) => `${document}:${line}, ${name}, ${message}`),
        );
        expect(said).toEqual([]);
        expect(await floatingPromises(program, Object.keys(texts))).toEqual([]);
        program.remove();
      }
    }, 240_000);
  }
});
