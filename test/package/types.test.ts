// The declarations of the installed package, under the oldest TypeScript that is promised and the one
// that made them, with `skipLibCheck: false`. COMPLETION_PORT_TEST_TYPESCRIPT names the `tsc` of
// others than the project's own; .ci/run does.
import { spawnSync } from 'node:child_process';
import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { Installation, root } from './installation';

const own = createRequire(import.meta.url).resolve('typescript/bin/tsc');
const others = (process.env['COMPLETION_PORT_TEST_TYPESCRIPT'] ?? '').split(path.delimiter);
if (!others[0])
  console.warn('Left out: COMPLETION_PORT_TEST_TYPESCRIPT names no other TypeScript.');

let installation: Installation;
beforeAll(() => {
  installation = new Installation();
});
afterAll(() => installation?.remove());

/** A program that sees all that the package declares. */
function allEntries(): string {
  const { exports } = JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8'));
  const names = Object.keys(exports).filter((name) => !name.endsWith('.json'));
  const lines = names.map((name, i) => `import * as e${i} from 'completion-port${name.slice(1)}';`);
  return `${lines.join('\n')}\nexport const all = { ${names.map((_, i) => `e${i}`).join(', ')} };\n`;
}

/** One that uses what was hard to say in the types of the oldest. */
const PROGRAM = `
import { CompletionPort } from 'completion-port';
import { defineStage } from 'completion-port/stages';
import { all, spawn } from 'completion-port/micro';

const port = new CompletionPort();
for (const packet of port.get(8, 0)) if (packet.type === 'posted') console.log(packet.value);
export const stage = defineStage({
  initial: 'reading',
  record: { count: 'u32' },
  states: {
    reading: { received: (c, bytes) => (bytes.length > 1 ? c.enter('done') : undefined) },
    done: { ended: (c) => c.close() },
  },
});
// @ts-expect-error there is no such state
defineStage({ initial: 'nowhere', states: { reading: {} } });
export const both: PromiseLike<readonly unknown[]> = spawn(function* () {
  const a: number = 1;
  return yield* all([spawn(function* () { return a; }), spawn(function* () { return 'b'; })]);
});
export async function lines(): Promise<void> {
  const file = await port.open('x', 'r');
  for await (const line of file.readLines()) console.log(line.length);
}
`;

const compilers = [own, ...others.filter(Boolean)];
describe.each(compilers)('%s', (tsc) => {
  test.each(['node16', 'nodenext'])('%s', (module) => {
    const files = {
      'all.mts': allEntries(),
      'all.cts': allEntries(),
      'program.mts': PROGRAM,
      'tsconfig.json': JSON.stringify({
        compilerOptions: {
          module,
          moduleResolution: module,
          target: 'es2022',
          lib: ['es2022'],
          strict: true,
          noEmit: true,
          skipLibCheck: false,
          types: ['node'],
          typeRoots: [path.join(root, 'node_modules', '@types')],
        },
        include: ['*.mts', '*.cts'],
      }),
    };
    for (const [name, text] of Object.entries(files)) {
      writeFileSync(path.join(installation.folder, name), text);
    }
    const { stdout } = spawnSync(process.execPath, [tsc, '-p', '.', '--pretty', 'false'], {
      cwd: installation.folder,
      encoding: 'utf8',
    });
    expect(stdout).toBe('');
  });
});
