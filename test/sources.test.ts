import { readFileSync, readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));
const folders = ['port', 'driver', 'stage', 'addon'];

function filesOnDisk(): string[] {
  return readdirSync(`${root}/native`, { recursive: true, encoding: 'utf8' })
    .map((file) => `native/${file.replaceAll('\\', '/')}`)
    .filter((file) => file.endsWith('.cc') && folders.includes(file.split('/')[1]!))
    .sort();
}

/** Every native/….cc named outside a comment. */
function listed(file: string): string[] {
  const text = readFileSync(`${root}/${file}`, 'utf8').replace(/#.*$/gm, '');
  return [...text.matchAll(/(?<![\w/])native\/[\w/]+\.cc/g)].map(([name]) => name).sort();
}

test('binding.gyp compiles every file of native/ once', () => {
  expect(listed('binding.gyp')).toEqual(filesOnDisk());
});

test('CMakeLists.txt compiles every file of native/ once', () => {
  expect(listed('CMakeLists.txt')).toEqual(filesOnDisk());
});
