// Draws lib/ from its imports, and native/ from its includes, into docs/architecture.md:
// `npm run docs:picture`. With `--check`, for `npm run lint`, it says whether the picture is current.
import { cruise } from 'dependency-cruiser';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { argv } from 'node:process';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const page = path.join(root, 'docs', 'architecture.md');
const [begin, end] = ['<!-- drawn by scripts/picture.mjs -->', '<!-- until here -->'];

/** Types that all may name, what holds classes to them, and entries for ES modules. */
const LEFT_OUT = /^lib\/(api|api-check)\.ts$|-?esm\.mts$/;

/** The folder of a file, or itself: `lib/await`, `lib/port`, `native/driver`. */
const roomOf = (file) => file.split('/').slice(0, 2).join('/').replace(/\.ts$/, '');

async function imports() {
  const options = { baseDir: root, tsPreCompilationDeps: true, includeOnly: '^lib/' };
  const { output } = await cruise(['lib'], options);
  return output.modules.flatMap(({ source, dependencies }) =>
    dependencies.map(({ resolved }) => [source, resolved]),
  );
}

function includes() {
  const names = readdirSync(path.join(root, 'native'), { recursive: true });
  const files = names.filter((name) => /\.(cc|h)$/.test(name));
  return files.flatMap((name) => {
    const text = readFileSync(path.join(root, 'native', name), 'utf8');
    const included = [...text.matchAll(/^#include "(\w+\/[^"]+)"/gm)];
    return included.map(([, file]) => [`native/${name}`, `native/${file}`]);
  });
}

/** From each room those that it knows. */
function rooms(pairs) {
  const known = new Map();
  for (const pair of pairs) {
    if (pair.some((file) => LEFT_OUT.test(file))) continue;
    const [from, to] = pair.map(roomOf);
    if (!known.has(from)) known.set(from, new Set());
    if (from !== to) known.get(from).add(to);
  }
  return known;
}

function reaches(known, from, to) {
  return [...(known.get(from) ?? [])].some((next) => next === to || reaches(known, next, to));
}

/** Without the arrows that others imply. */
function arrows(known) {
  return [...known].flatMap(([from, targets]) =>
    [...targets]
      .filter((to) => ![...targets].some((over) => over !== to && reaches(known, over, to)))
      .map((to) => `  ${from} --> ${to}`),
  );
}

const known = rooms([...(await imports()), ...includes(), ['lib/native/', 'native/addon/']]);
const picture = `${begin}\n\n\`\`\`mermaid\nflowchart TD\n${arrows(known).sort().join('\n')}\n\`\`\`\n\n${end}`;
const text = readFileSync(page, 'utf8');
const [from, to] = [text.indexOf(begin), text.indexOf(end)];
if (from < 0 || to < from) throw new Error(`${page} has no place for the picture`);
const drawn = text.slice(0, from) + picture + text.slice(to + end.length);
if (!argv.includes('--check')) writeFileSync(page, drawn);
else if (drawn !== text) {
  console.error('The picture in docs/architecture.md is not current: npm run docs:picture');
  process.exitCode = 1;
}
