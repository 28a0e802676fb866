/**
 * Random reads of 4 KiB with node:fs: `--depth` of them in flight, with promises or callbacks.
 */
import fs from 'node:fs';
import { BLOCK, checkBlock, randomNumbers } from '../data.mjs';
import { readOptions } from '../options.mjs';
import { report, Stopwatch } from '../stopwatch.mjs';

const { style, file: path, direct = false, depth, ...times } = readOptions();
const flags = fs.constants.O_RDONLY | (direct ? fs.constants.O_DIRECT : 0);
const next = randomNumbers(fs.statSync(path).size / BLOCK);
// The memory of WebAssembly is aligned to pages, which O_DIRECT asks for.
const PAGE = 65536;
const memory = new WebAssembly.Memory({ initial: Math.ceil((depth * BLOCK) / PAGE) }).buffer;
const stopwatch = new Stopwatch({ ...times, every: 16 });

function check(piece, block, bytes) {
  if (bytes !== BLOCK) throw new Error(`${bytes} bytes read`);
  checkBlock(piece, block);
}

async function lane(file, piece) {
  do {
    const block = next();
    const { bytesRead } = await file.read(piece, 0, BLOCK, block * BLOCK);
    check(piece, block, bytesRead);
  } while (stopwatch.count());
}

function callbackLane(descriptor, piece, resolve) {
  let block;
  const again = () => {
    block = next();
    fs.read(descriptor, piece, 0, BLOCK, block * BLOCK, done);
  };
  const done = (error, bytes) => {
    if (error) throw error;
    check(piece, block, bytes);
    if (stopwatch.count()) again();
    else resolve();
  };
  again();
}

const pieces = Array.from({ length: depth }, (_, i) => Buffer.from(memory, i * BLOCK, BLOCK));
if (style === 'promises') {
  const file = await fs.promises.open(path, flags);
  await Promise.all(pieces.map((piece) => lane(file, piece)));
  await file.close();
} else {
  const descriptor = fs.openSync(path, flags);
  await Promise.all(
    pieces.map((piece) => new Promise((resolve) => callbackLane(descriptor, piece, resolve))),
  );
  fs.closeSync(descriptor);
}
report(stopwatch.result);
