/**
 * What it costs that bytes stay, taken apart: node bench/support/bytes-that-stay.mjs [KiB of a chunk]
 *
 * Each way moves the same chunks of a cached file by the same system call; they differ in where the
 * bytes end. CPU time, and page faults, of one chunk; median of nine rounds taken in turns.
 */
import fs from 'node:fs';
import { scratchFile } from './data.mjs';

const size = (Number(process.argv[2]) || 64) * 1024;
const FILE = 64 << 20;
const CHUNKS = Math.max(512, (256 << 20) / size);
const ROUNDS = 9;

const path = scratchFile('bytes-that-stay');
fs.writeFileSync(path, Buffer.alloc(FILE, 'x'));
const fd = fs.openSync(path);
process.on('exit', () => fs.rmSync(path, { force: true }));

let at = 0;
function read(into) {
  at = at + size > FILE ? 0 : at + size;
  fs.readSync(fd, into, 0, size, at);
}

const one = Buffer.allocUnsafeSlow(size);
/** Blocks that are used again in turn, as many as come to `bytes`. */
function inTurn(bytes) {
  const blocks = Array.from({ length: Math.max(1, bytes / size) }, () => Buffer.alloc(size, 1));
  let next = 0;
  return () => blocks[(next = (next + 1) % blocks.length)];
}
const few = inTurn(1 << 20);
const many = inTurn(32 << 20);
const most = inTurn(256 << 20);
const transferred = () => new Uint8Array(new ArrayBuffer(size));

const ways = {
  'lent: into one block': () => read(one),
  'copied: into one block, then to new memory': () => {
    read(one);
    Buffer.allocUnsafeSlow(size).set(one);
  },
  'copied, to blocks used again (1 MiB)': () => {
    read(one);
    few().set(one);
  },
  'given: into blocks used again (1 MiB)': () => read(few()),
  'given: into blocks used again (32 MiB)': () => read(many()),
  'given: into blocks used again (256 MiB)': () => read(most()),
  'given: into new memory': () => read(Buffer.allocUnsafeSlow(size)),
  'an ArrayBuffer alone, zeroed': () => transferred(),
  'an ArrayBuffer alone, not zeroed': () => Buffer.allocUnsafeSlow(size),
};

function measure(way) {
  const before = process.resourceUsage();
  for (let i = 0; i < CHUNKS; i++) way();
  const after = process.resourceUsage();
  const cpu = after.userCPUTime + after.systemCPUTime - before.userCPUTime - before.systemCPUTime;
  return { cpu: cpu / CHUNKS, faults: (after.minorPageFault - before.minorPageFault) / CHUNKS };
}

const found = Object.fromEntries(Object.keys(ways).map((name) => [name, []]));
for (const way of Object.values(ways)) measure(way);
for (let round = 0; round < ROUNDS; round++) {
  for (const [name, way] of Object.entries(ways)) found[name].push(measure(way));
}
const median = (values) => values.sort((a, b) => a - b)[values.length >> 1];
const lent = median(found['lent: into one block'].map(({ cpu }) => cpu));
for (const [name, values] of Object.entries(found)) {
  const cpu = median(values.map((each) => each.cpu));
  const faults = median(values.map((each) => each.faults));
  const figures = `${cpu.toFixed(1)} µs  ${(cpu / lent).toFixed(2)}  ${faults.toFixed(1)} faults`;
  console.log(`${name.padEnd(44)} ${figures}`);
}
