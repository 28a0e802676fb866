// Makes the clone usable: compiles the TypeScript, builds the inspector's page, and the addon unless
// there is a binary that loads and is newer than its sources. npm runs it for the root project only
// (`npm install`, `npm ci`, `npm pack`), never for those who install the package from a registry.
import { spawnSync } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { buildNative, builtIsCurrent } from './build-native.mjs';
import { buildTypeScript } from './build-ts.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));

/** In a process of its own: a library that was loaded can't be replaced on Windows. */
function binaryLoads() {
  const args = ['-e', 'require("./dist/native/binding.js")'];
  return spawnSync(process.execPath, args, { cwd: root, stdio: 'ignore' }).status === 0;
}

try {
  await buildTypeScript();
  if (process.env.COMPLETION_PORT_SKIP_NATIVE !== '1') {
    const forced = process.env.npm_config_build_from_source === 'true';
    // One that loads but was not built here may be older than the sources: prebuilds/ of another day.
    const chosen = Boolean(process.env.COMPLETION_PORT_BINDING);
    if (forced || !binaryLoads() || (!chosen && builtIsCurrent() !== true)) buildNative();
  }
} catch (error) {
  console.error(`\ncompletion-port: ${error.message}`);
  process.exit(1);
}
