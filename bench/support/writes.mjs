/**
 * A file to be written to, and whether the right bytes arrived in it.
 */
import fs from 'node:fs';

const SPAN = 64 << 20;
const MOST_POSITIONS = 1024;

/** Makes the file, with its blocks allocated; the number of positions there are to write at. */
export function prepare(file, size) {
  const positions = Math.min(MOST_POSITIONS, SPAN / size);
  const descriptor = fs.openSync(file, 'w');
  const piece = Buffer.alloc(size);
  for (let i = 0; i < positions; i++) fs.writeSync(descriptor, piece, 0, size, i * size);
  fs.fsyncSync(descriptor);
  fs.closeSync(descriptor);
  return positions;
}

/** Makes every write differ from the others. */
export function stampOf(memory, count) {
  memory.writeUInt32LE(count, 0);
  memory.writeUInt32LE(count, memory.length - 4);
}

/** Throws unless every position has what was written there last. */
export function checkWritten(file, size, count, positions) {
  const descriptor = fs.openSync(file);
  const piece = Buffer.alloc(size);
  for (let wanted = Math.max(0, count - positions); wanted < count; wanted++) {
    fs.readSync(descriptor, piece, 0, size, (wanted % positions) * size);
    if (piece.readUInt32LE(0) !== wanted || piece.readUInt32LE(size - 4) !== wanted) {
      throw new Error(`write ${wanted} did not arrive`);
    }
  }
  fs.closeSync(descriptor);
}
