/**
 * Standard input and output, through the port where that is possible.
 *
 * A regular file behind descriptor 0 or 1 may be shared with other programs, as in
 * `(program; other) > file`, and so is its position. Only reads and writes without a position of
 * their own move that on, which is what node:fs does; pipes and terminals have no position.
 */
import fs from 'node:fs';
import { promisify } from 'node:util';

const read = promisify(fs.read);
const write = promisify(fs.write);

const SIZE = 256 * 1024;

/** What comes from standard input: lent chunks. */
export async function* standardInput(port) {
  if (!fs.fstatSync(0).isFile()) {
    const file = await port.open(0, 'r');
    try {
      yield* file.chunks({ size: SIZE, lend: true });
    } finally {
      await file.close();
    }
    return;
  }
  const memory = Buffer.allocUnsafe(SIZE);
  for (;;) {
    const { bytesRead } = await read(0, memory, 0, SIZE, null);
    if (bytesRead === 0) return;
    yield memory.subarray(0, bytesRead);
  }
}

/** Standard output: `write` resolves when all of the bytes are with the kernel. */
export async function standardOutput(port) {
  const status = fs.fstatSync(1);
  if (!status.isFile()) {
    const file = await port.open(1, 'w');
    return { status, write: (bytes) => file.write(bytes) };
  }
  return {
    status,
    async write(bytes) {
      for (let from = 0; from < bytes.length;) {
        const { bytesWritten } = await write(1, bytes, from, bytes.length - from, null);
        from += bytesWritten;
      }
    },
  };
}
