// Whether this tree may be published under a tag: `node scripts/check-release.mjs v1.2.3`. The
// release workflow asks before it builds anything.
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const read = (file) => readFileSync(path.join(root, file), 'utf8');

const [tag] = process.argv.slice(2);
const { version, repository } = JSON.parse(read('package.json'));
const lock = JSON.parse(read('package-lock.json'));
const problems = [];

if (tag !== `v${version}`) problems.push(`the tag is ${tag}, package.json says ${version}`);
if (lock.version !== version) problems.push(`package-lock.json says ${lock.version}`);
if (!read('CHANGELOG.md').includes(`\n## [${version}]`))
  problems.push(`CHANGELOG.md has no section [${version}]`);
// The registry compares the two, and refuses a package that claims to come from elsewhere.
const here = process.env.GITHUB_REPOSITORY;
if (here && !repository?.url?.replace(/\.git$/, '').endsWith(`/${here}`))
  problems.push(`"repository" in package.json has to name ${here}, or provenance is refused`);

for (const problem of problems) console.error(`check-release: ${problem}`);
process.exitCode = problems.length > 0 ? 1 : 0;
