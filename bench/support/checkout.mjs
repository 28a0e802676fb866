/**
 * Another checkout of the library, built, under the contestants of this one: what is measured
 * differs, what measures does not.
 */
import fs from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { buildDirectory } from './build.mjs';

const support = fileURLToPath(new URL('./', import.meta.url));
const built = ['package.json', 'dist/index.js', 'build/Release/completion_port.node'];

/**
 * A folder with the contestants, whose `completion-port` is the one in `checkout`. A package that
 * imports itself by its name gets itself, so they are copied to where that name means another.
 */
export function contestantsOn(checkout) {
  for (const file of built) {
    if (!fs.existsSync(path.join(checkout, file))) throw new Error(`${checkout} has no ${file}`);
  }
  const folder = path.join(buildDirectory, 'baseline');
  fs.rmSync(folder, { recursive: true, force: true });
  fs.mkdirSync(path.join(folder, 'node_modules'), { recursive: true });
  fs.writeFileSync(path.join(folder, 'package.json'), '{ "private": true }\n');
  fs.symlinkSync(path.resolve(checkout), path.join(folder, 'node_modules', 'completion-port'));
  fs.cpSync(support, path.join(folder, 'support'), { recursive: true });
  return path.join(folder, 'support', 'contestants');
}
