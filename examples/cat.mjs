// Files to standard output, each read ahead.
//   node examples/cat.mjs README.md package.json | wc
import { CompletionPort } from 'completion-port';

const port = new CompletionPort();
const output = await port.open(1);
for (const path of process.argv.slice(2)) {
  const file = await port.open(path);
  for await (const bytes of file.chunks({ size: 256 * 1024, depth: 8, lend: true })) {
    await output.write(bytes);
  }
  await file.close();
}
await port.close();
