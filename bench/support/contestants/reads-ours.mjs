/**
 * Random reads of 4 KiB on a completion port: `--depth` of them in flight, in packets or awaited.
 */
import { BLOCK, checkBlock, randomNumbers } from '../data.mjs';
import { readOptions } from '../options.mjs';
import { makePort } from '../ports.mjs';
import { report, Stopwatch } from '../stopwatch.mjs';

const { driver, style, file: path, direct = false, depth, ...times } = readOptions();
const port = makePort({ driver, concurrency: 1 });
const file = await port.open(path, 'r', { direct, key: style === 'packets' ? 1 : undefined });
const size = await sizeOf(path);
const next = randomNumbers(size / BLOCK);
const memory = port.allocate(depth * BLOCK);
const stopwatch = new Stopwatch({ ...times, systemCalls: () => port.stats().systemCalls });

async function sizeOf(name) {
  const other = await port.open(name);
  const { size } = await other.stat();
  await other.close();
  return size;
}

function pieceOf(slot) {
  return memory.subarray(slot * BLOCK, (slot + 1) * BLOCK);
}

async function lane(slot) {
  const piece = pieceOf(slot);
  do {
    const block = next();
    const bytes = await file.read(piece, block * BLOCK);
    if (bytes !== BLOCK) throw new Error(`${bytes} bytes read`);
    checkBlock(piece, block);
  } while (stopwatch.count());
}

function readInPackets() {
  const slots = Array.from({ length: depth }, (_, tag) => ({
    piece: pieceOf(tag),
    options: { tag },
    block: 0,
  }));
  const read = (slot) => {
    slot.block = next();
    file.read(slot.piece, slot.block * BLOCK, slot.options);
  };
  let flying = depth;
  return new Promise((resolve) => {
    const service = port.consume((packet) => {
      if (packet.failed) throw packet.error;
      if (packet.bytes !== BLOCK) throw new Error(`${packet.bytes} bytes read`);
      const slot = slots[packet.tag];
      checkBlock(slot.piece, slot.block);
      if (stopwatch.count()) return read(slot);
      if (--flying > 0) return;
      service.stop();
      resolve();
    });
    slots.forEach(read);
  });
}

if (style === 'packets') await readInPackets();
else await Promise.all(Array.from({ length: depth }, (_, slot) => lane(slot)));
report(stopwatch.result);
await port.close();
