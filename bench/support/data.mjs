/**
 * The file that is read. Every block of 4 KiB begins and ends with its number, so that a contestant
 * that got the wrong bytes is found out.
 */
import { randomFillSync } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';
import { buildDirectory } from './build.mjs';

export const BLOCK = 4096;
const PIECE = 1 << 20;

/** In the build's directory and not in /tmp, which may be memory and know no O_DIRECT. */
const directory = path.join(buildDirectory, 'data');

function writeBlocks(file, size) {
  const piece = randomFillSync(Buffer.allocUnsafe(PIECE));
  const descriptor = fs.openSync(file, 'w');
  for (let at = 0; at < size; at += PIECE) {
    for (let block = 0; block < PIECE; block += BLOCK) {
      piece.writeUInt32LE((at + block) / BLOCK, block);
      piece.writeUInt32LE((at + block) / BLOCK, block + BLOCK - 4);
    }
    fs.writeSync(descriptor, piece, 0, Math.min(PIECE, size - at), at);
  }
  fs.fsyncSync(descriptor);
  fs.closeSync(descriptor);
}

/** A file of that size, in the page cache. */
export function dataFile(size) {
  fs.mkdirSync(directory, { recursive: true });
  const name = size < PIECE ? `${size / 1024}KiB` : `${size / PIECE}MiB`;
  const file = path.join(directory, `${name}.bin`);
  if (fs.statSync(file, { throwIfNoEntry: false })?.size !== size) {
    process.stderr.write(`writing ${name} to read from …\n`);
    writeBlocks(file, size);
  }
  readThrough(file);
  return file;
}

function readThrough(file) {
  const piece = Buffer.allocUnsafe(PIECE);
  const descriptor = fs.openSync(file);
  while (fs.readSync(descriptor, piece) > 0);
  fs.closeSync(descriptor);
}

/** A name for a file to be written. */
export function scratchFile(name) {
  fs.mkdirSync(directory, { recursive: true });
  return path.join(directory, `${name}.${process.pid}.tmp`);
}

/** Throws when these are not the bytes of the block. */
export function checkBlock(bytes, block) {
  if (bytes.readUInt32LE(0) === block && bytes.readUInt32LE(BLOCK - 4) === block) return;
  throw new Error(`wrong bytes in block ${block}`);
}

/** Throws when the chunk is not what the file has at `position`. */
export function checkChunk(bytes, position) {
  const skipped = (BLOCK - (position % BLOCK)) % BLOCK;
  if (skipped + 4 > bytes.length) return;
  const block = (position + skipped) / BLOCK;
  if (bytes.readUInt32LE(skipped) !== block) throw new Error(`wrong bytes in block ${block}`);
}

/** Numbers below `limit`, the same ones in each run, without a call into the system. */
export function randomNumbers(limit, seed = 0x9e3779b9) {
  let state = seed;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % limit;
  };
}
