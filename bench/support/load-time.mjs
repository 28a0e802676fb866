/**
 * What it costs to load the main entry: node bench/support/load-time.mjs [--rounds N] CHECKOUT…
 *
 * Each checkout of the library, built, in a process of its own for each round, taken in turn; this
 * one comes first. The time of `require` alone, the native binary included, without that in which
 * Node.js starts. As ratios to this checkout, round by round, so that what else the machine does
 * concerns each alike.
 */
import { execFileSync } from 'node:child_process';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { median, spread } from './statistics.mjs';

const { values, positionals } = parseArgs({
  options: { rounds: { type: 'string', default: '20' } },
  allowPositionals: true,
});
const rounds = Number(values.rounds);
const here = fileURLToPath(new URL('../..', import.meta.url));
const checkouts = [here, ...positionals.map((name) => path.resolve(name))];

const script = `
  const began = process.hrtime.bigint();
  require(process.argv[1]);
  const time = Number(process.hrtime.bigint() - began) / 1e6;
  const files = Object.keys(require.cache).length;
  console.log(JSON.stringify({ time, files }));`;

function load(checkout) {
  const entry = path.join(checkout, 'dist', 'index.js');
  return JSON.parse(execFileSync(process.execPath, ['-e', script, entry], { encoding: 'utf8' }));
}

const times = checkouts.map(() => []);
const files = checkouts.map((checkout) => load(checkout).files);
for (let round = 0; round < rounds; round++) {
  checkouts.forEach((checkout, index) => times[index].push(load(checkout).time));
}
checkouts.forEach((checkout, index) => {
  const own = times[index];
  const ratios = spread(times[0].map((time, round) => time / own[round]));
  const show = (number) => number.toFixed(2);
  const share =
    index === 0
      ? ''
      : `; this checkout takes ${show(ratios.median)} of it (${show(ratios.min)} to ${show(ratios.max)})`;
  console.log(`${checkout}: ${show(median(own))} ms, ${files[index]} files${share}`);
});
