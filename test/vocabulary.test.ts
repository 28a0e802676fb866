import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, test } from 'vitest';

const root = path.join(import.meta.dirname, '..');

/** Words that were given up, and the one for each: the glossary is in docs/contract.md. */
const GIVEN_UP: readonly (readonly [RegExp, string])[] = [
  [/\bmails?\b/i, 'messages, or packets that wait'],
  [/\brouse[sd]?\b/i, 'wake'],
  [/\b(lies|lay|lying) down\b/i, 'sleep'],
  [/\bstands? at\b/i, 'polls, waits, is'],
  [/\bhungry\b/i, 'waits for memory'],
  [/\bin vain\b/i, 'finds none'],
  [/\bfor want of\b/i, 'out of, for lack of'],
  [/\bas dear as\b/i, 'as expensive as'],
  [/\bnot to be had\b/i, 'unavailable'],
  [/\bNativeLane\b/, 'NativeThread'],
];

/** In TypeScript a lane is the driver's alone: what a thread has of a port is its PortThread. */
const IN_TYPESCRIPT: typeof GIVEN_UP = [
  [/\bLanes?\b/, 'PortThread'],
  [/\.lane\b/, '.thread'],
];

function filesUnder(folder: string, name: RegExp): string[] {
  return readdirSync(path.join(root, folder), { recursive: true, encoding: 'utf8' })
    .filter((file) => name.test(file))
    .map((file) => path.join(folder, file));
}

function places(files: readonly string[], words: typeof GIVEN_UP): string[] {
  return files.flatMap((file) =>
    readFileSync(path.join(root, file), 'utf8')
      .split('\n')
      .flatMap((line, i) =>
        words
          .filter(([word]) => word.test(line))
          .map(([word, better]) => `${file}:${i + 1} ${word.exec(line)![0]}: ${better}`),
      ),
  );
}

describe('vocabulary', () => {
  const lib = filesUnder('lib', /\.m?ts$/);
  const native = filesUnder('native', /\.(h|cc)$/);
  const prose = [
    'README.md',
    'CONTRIBUTING.md',
    ...filesUnder('docs', /\.md$/),
    ...filesUnder('examples', /\.mjs$/),
    ...filesUnder('scripts', /\.mjs$/),
  ];

  test('there is something to look at', () => {
    for (const files of [lib, native, prose]) expect(files.length).toBeGreaterThan(20);
  });

  test('words that were given up do not come back', () => {
    expect(places([...lib, ...native, ...prose], GIVEN_UP)).toEqual([]);
    expect(places(lib, IN_TYPESCRIPT)).toEqual([]);
  });

  test('the glossary of the contract gives each word once, and one meaning', () => {
    const contract = readFileSync(path.join(root, 'docs', 'contract.md'), 'utf8');
    const table = contract.slice(contract.indexOf('| word |'), contract.indexOf('\n\n## '));
    const words = table
      .split('\n')
      .slice(2)
      .flatMap((row) => [...row.split('|')[1]!.matchAll(/\*\*(.+?)\*\*/g)].map(([, word]) => word));
    expect(words.length).toBeGreaterThanOrEqual(20);
    expect(new Set(words).size).toBe(words.length);
  });
});
