/**
 * Each block of code of each document compiles, and leaves no promise unawaited. A block that begins
 * with `// name.ts` is a file of that name, which others of its document may import.
 */
import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';
import { compiled, floatingPromises } from './support/compiler';
import * as written from './support/documents';
import { documents, guides, textOf } from './support/documents';
import { root, wine } from './support/harness';

const { files } = JSON.parse(textOf('package.json')) as { files: string[] };

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
  return written.blocksOf(document).map(({ line, language, file, text }, index) => ({
    line,
    language,
    name: file ?? `block${index}.${language}`,
    // A block without imports is a module all the same.
    text: `${text}\nexport {};\n`,
  }));
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

/** The headings of a document, as the names of links to them. */
function headingsOf(document: string): string[] {
  return [...textOf(document).matchAll(/^#+ (.+)$/gm)].map(([, heading]) =>
    heading!
      .toLowerCase()
      .replace(/[^\w\s-]/g, '')
      .replace(/ /g, '-'),
  );
}

/** Files that a document links to, or shows, with the part after the hash. */
function linksOf(document: string): { file: string; heading: string | undefined }[] {
  const prose = textOf(document).replace(/^```[^]*?^```$/gm, '');
  return [...prose.matchAll(/\]\(([^)\s]+)\)/g)]
    .map(([, link]) => link!)
    .filter((link) => !/^[a-z]+:/.test(link))
    .map((link) => {
      const [file, heading] = link.split('#') as [string, string | undefined];
      return { file: file === '' ? document : path.posix.join(document, '..', file), heading };
    });
}

describe('links', () => {
  test.each(documents)('of %s lead somewhere', (document) => {
    const dead = linksOf(document).filter(
      ({ file, heading }) =>
        !existsSync(path.join(root, file)) ||
        (heading !== undefined && !headingsOf(file).includes(heading)),
    );
    expect(dead).toEqual([]);
  });

  // npm adds the first three by itself.
  const brought = ['README.md', 'LICENSE', 'package.json', ...files];
  test.each(['README.md', ...guides])('of %s lead to what the package brings', (document) => {
    const missing = linksOf(document).filter(
      ({ file }) => !brought.some((name) => file === name || file.startsWith(`${name}/`)),
    );
    expect(missing).toEqual([]);
  });
});
