// Compiles the TypeScript into dist/, puts what the main entry loads into one file, and builds the
// inspector's page: `npm run build:ts`.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { buildPage } from './build-page.mjs';
import { bundleCore } from './bundle-core.mjs';

const require = createRequire(import.meta.url);
const root = fileURLToPath(new URL('..', import.meta.url));

export async function buildTypeScript() {
  const tsc = require.resolve('typescript/bin/tsc');
  const result = spawnSync(process.execPath, [tsc, '-p', 'tsconfig.json'], {
    cwd: root,
    stdio: 'inherit',
  });
  if (result.status !== 0) throw new Error('the TypeScript sources do not compile.');
  await bundleCore();
  await buildPage();
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    await buildTypeScript();
  } catch (error) {
    console.error(`\ncompletion-port: ${error.message}`);
    process.exit(1);
  }
}
