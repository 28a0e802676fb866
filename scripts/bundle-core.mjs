// Puts what the main entry loads into one file, dist/core.js: to find and read forty files takes
// longer than to run them. The modules that it is made of become views of it, so that whoever
// requires one of them (stages, the doctor, tests) shares it. dist/loader.js stays a file of its own:
// the doctor needs it where core.js can't be loaded.
import { build } from 'esbuild';
import { readFileSync, rmSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const dist = path.join(root, 'dist');

/** As dist/core.js has to name it, whichever module asks. */
const loaderStaysAFile = {
  name: 'loader',
  setup({ onResolve }) {
    onResolve({ filter: /\/loader$/ }, () => ({ path: './loader', external: true }));
  },
};

const options = {
  absWorkingDir: root,
  bundle: true,
  platform: 'node',
  format: 'cjs',
  target: 'node20',
  plugins: [loaderStaysAFile],
  sourcemap: true,
  sourcesContent: false,
  logLevel: 'warning',
};

/** Names of the modules that the main entry loads. */
async function modules() {
  const entryPoints = [path.join(dist, 'index.js')];
  const { metafile } = await build({ ...options, entryPoints, metafile: true, write: false });
  const files = Object.keys(metafile.inputs).map((file) =>
    path.relative(dist, path.join(root, file)),
  );
  if (files.includes('core.js')) throw new Error('dist/ was bundled already: run tsc first');
  return files.map((file) => file.slice(0, -'.js'.length)).sort();
}

/** The names that a module exports, for those who import them from it (cjs-module-lexer). */
function exportsOf(name) {
  const text = readFileSync(path.join(dist, `${name}.js`), 'utf8');
  const names = [...text.matchAll(/\bexports\.(\w+) = /g)].map(([, exported]) => exported);
  return [...new Set(names)].filter((exported) => exported !== '__esModule');
}

/** From the folder of module `name`. */
const pathToCore = (name) => `${'../'.repeat(name.split('/').length - 1) || './'}core.js`;

const view = (name) => `"use strict";
module.exports = require(${JSON.stringify(pathToCore(name))})[${JSON.stringify(name)}];
0 && (module.exports = { ${exportsOf(name).join(', ')} });
`;

export async function bundleCore() {
  const names = await modules();
  const contents = names
    .map((name) => `exports[${JSON.stringify(name)}] = require(${JSON.stringify(`./${name}.js`)});`)
    .join('\n');
  const stdin = { contents, resolveDir: dist, sourcefile: 'modules.cjs' };
  await build({ ...options, stdin, outfile: path.join(dist, 'core.js') });
  for (const name of names) {
    writeFileSync(path.join(dist, `${name}.js`), view(name));
    rmSync(path.join(dist, `${name}.js.map`));
  }
}
