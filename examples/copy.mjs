// One file to another, with many reads and writes under way.
//   node examples/copy.mjs FROM TO
import { CompletionPort } from 'completion-port';

const SIZE = 1024 * 1024;
const [from, to] = process.argv.slice(2);
const port = new CompletionPort({ memoryLimit: 64 * SIZE });
const source = await port.open(from);
const target = await port.open(to, 'wx'); // a file that is there already stays

let next = 0;
/** Takes the next piece, reads it, writes it at the same place. */
async function copyPieces() {
  const block = port.allocate(SIZE);
  for (;;) {
    const position = next;
    next += SIZE;
    const bytes = await source.read(block, { position });
    if (bytes === 0) return;
    await target.write(block.subarray(0, bytes), { position });
  }
}

await Promise.all(Array.from({ length: 16 }, copyPieces));
await target.sync();
await port.close();
