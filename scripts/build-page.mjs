// Builds the inspector's page, lib/stage/inspector/page, into dist/stage/inspector/page: one script and one style sheet,
// with the plotting library and its licence in them, so that nothing is fetched from elsewhere.
import { build } from 'esbuild';
import { copyFileSync, mkdirSync, readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const require = createRequire(import.meta.url);
const root = fileURLToPath(new URL('..', import.meta.url));
const from = path.join(root, 'lib', 'stage', 'inspector', 'page');
const to = path.join(root, 'dist', 'stage', 'inspector', 'page');

function licenceOf(name) {
  const folder = path.dirname(require.resolve(`${name}/package.json`));
  const { version } = JSON.parse(readFileSync(path.join(folder, 'package.json'), 'utf8'));
  const text = readFileSync(path.join(folder, 'LICENSE'), 'utf8').trim();
  return `/*! ${name} ${version}\n\n${text}\n*/`;
}

export async function buildPage() {
  mkdirSync(to, { recursive: true });
  const licence = licenceOf('uplot');
  await build({
    entryPoints: [path.join(from, 'page.mjs'), path.join(from, 'page.css')],
    outdir: to,
    bundle: true,
    minify: true,
    format: 'esm',
    target: 'es2022',
    banner: { js: licence, css: licence },
    logLevel: 'warning',
  });
  copyFileSync(path.join(from, 'index.html'), path.join(to, 'index.html'));
}
