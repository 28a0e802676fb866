/** The codes of errors: those of the sources, of the type and of the document are the same. */
import { readdirSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { expect, test } from 'vitest';
import { root } from './support/harness';

const read = (file: string): string => readFileSync(path.join(root, file), 'utf8');
const CODE = /\b(?:ERR_[A-Z_]+|ABORT_ERR)\b/g;
const sorted = (codes: Iterable<string>): string[] => [...new Set(codes)].sort();

/** The type, by its text. */
const typed = /export type ErrorCode =([^;]*);/.exec(read('lib/api.ts'))![1]!.match(CODE)!;

test('docs/errors.md has each code once', () => {
  const rows = [...read('docs/errors.md').matchAll(/^\| `([A-Z_]+)` \|/gm)].map((row) => row[1]!);
  expect(rows).toEqual(sorted(typed));
});

/** Codes of node:net, which documents them; with its door they are as there. */
const NODES = path.join('node', 'net', 'node-errors.ts');

test('each code that the library makes is in ErrorCode, and no other', () => {
  const files = readdirSync(path.join(root, 'lib'), { recursive: true, encoding: 'utf8' });
  const made = files
    .filter((file) => file.endsWith('.ts') && !/api\.ts$/.test(file) && file !== NODES)
    .flatMap((file) => [...read(`lib/${file}`).matchAll(/'((?:ERR_|ABORT_)[A-Z_]+)'/g)])
    .map((match) => match[1]!);
  expect(sorted(made)).toEqual(sorted(typed));
});
