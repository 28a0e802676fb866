/**
 * Copies a file: several chunks at a time are being read and written, each at its own position.
 *
 *     node examples/programs/copy.mjs big.raw /backup/
 */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs/promises';
import path from 'node:path';
import { CompletionPort } from 'completion-port';
import { driverOption, integer, option, readArguments } from './support/arguments.mjs';
import { progressBar } from './support/progress.mjs';
import { isClosed, runProgram, untilSignal } from './support/program.mjs';

const CHUNK = 1024 * 1024;
/** Holes are kept in pieces of this size. */
const BLOCK = 4096;
const zeros = Buffer.alloc(BLOCK);

/** Fills `memory` from the file, from `position` on; fewer bytes only at the end of the file. */
async function readFully(file, memory, position) {
  let got = 0;
  while (got < memory.length) {
    const bytes = await file.read(memory.subarray(got), position + got);
    if (bytes === 0) break;
    got += bytes;
  }
  return got;
}

/** The parts of `bytes` that are not blocks of zeros, as [from, to). */
function* dataIn(bytes) {
  let from = -1;
  for (let at = 0; at < bytes.length; at += BLOCK) {
    const block = bytes.subarray(at, at + BLOCK);
    const empty = block.equals(block.length === BLOCK ? zeros : zeros.subarray(0, block.length));
    if (!empty && from < 0) from = at;
    if (!empty || from < 0) continue;
    yield [from, at];
    from = -1;
  }
  if (from >= 0) yield [from, bytes.length];
}

/**
 * Copies the contents with `depth` lanes, each of which takes the next chunk, reads it, and writes
 * it. Returns the size. Blocks of zeros are not written where the source has holes.
 */
async function copyContents(port, source, target, { sparse, depth, onProgress }) {
  let next = 0;
  let size = 0;
  const lane = async () => {
    const memory = port.allocate(CHUNK);
    for (;;) {
      const position = next;
      next += CHUNK;
      const bytes = await readFully(source, memory, position);
      if (bytes === 0) break;
      const chunk = memory.subarray(0, bytes);
      for (const [from, to] of sparse ? dataIn(chunk) : [[0, bytes]]) {
        await target.write(chunk.subarray(from, to), position + from);
      }
      size = Math.max(size, position + bytes);
      onProgress(bytes);
    }
    port.release(memory);
  };
  await Promise.all(Array.from({ length: depth }, lane));
  return size;
}

/** Where the copy goes: into a directory under its own name; through a symbolic link. */
async function targetPath(source, target) {
  const status = await fs.stat(target).catch(() => undefined);
  if (status?.isDirectory()) return targetPath(source, path.join(target, path.basename(source)));
  return status === undefined ? target : fs.realpath(target);
}

function refuse(message) {
  throw Object.assign(new Error(message), { code: 'EINVAL' });
}

/** Both are regular files, and not the same. */
async function check(source, status, target) {
  if (!status.isFile()) refuse(`${source} is not a regular file`);
  const known = await fs.stat(target).catch(() => undefined);
  if (known === undefined) return;
  if (known.ino === status.ino && known.dev === status.dev) {
    refuse(`${source} and ${target} are the same file`);
  }
  if (!known.isFile()) refuse(`${target} is not a regular file`);
}

/**
 * Writes under a temporary name beside the target, which becomes the target's only when everything
 * is on the device: whatever happens, there is no half a file under that name.
 */
async function copy(port, from, to, options) {
  const source = await port.open(from, 'r');
  const status = await source.stat();
  const target = await targetPath(from, to);
  await check(from, status, target);
  const temporary = path.join(
    path.dirname(target),
    `.${path.basename(target).slice(0, 200)}.${randomBytes(6).toString('hex')}.part`,
  );
  const progress = progressBar(status.size);
  try {
    const file = await port.open(temporary, 'wx', { mode: 0o600 });
    const size = await copyContents(port, source, file, {
      ...options,
      sparse: status.blocks * 512 < status.size,
      onProgress: (bytes) => progress.add(bytes),
    });
    await file.truncate(size);
    await fs.chmod(temporary, status.mode & 0o7777);
    await file.sync();
    await fs.rename(temporary, target);
  } catch (error) {
    await fs.unlink(temporary).catch(() => undefined);
    throw error;
  } finally {
    progress.stop();
  }
  if (process.platform === 'win32') return; // which lets nobody bring a directory to the device
  const directory = await port.open(path.dirname(target), 'r');
  await directory.sync();
}

async function main() {
  const {
    driver,
    depth,
    arguments: [source, target],
  } = readArguments('copy', {
    usage: '[options] SOURCE TARGET',
    about: 'Copies a file, with its mode and its holes, and brings the copy to the device.',
    options: {
      depth: option('N', '8', 'chunks of 1 MiB on their way at a time', integer(1, 256)),
      ...driverOption,
    },
    arguments: [2, 2],
  });
  const port = new CompletionPort({ driver });
  let interrupted = false;
  void untilSignal().then(() => {
    interrupted = true;
    return port.close();
  });
  try {
    await copy(port, source, target, { depth });
  } catch (error) {
    if (!interrupted || !(isClosed(error) || error.code === 'ECANCELED')) throw error;
    process.exitCode = 130;
  } finally {
    await port.close();
  }
}

await runProgram('copy', main);
