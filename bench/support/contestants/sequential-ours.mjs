/**
 * Reads a file from beginning to end, or `--bytes` of a device, again and again.
 */
import { checkChunk } from '../data.mjs';
import { readOptions } from '../options.mjs';
import { makePort } from '../ports.mjs';
import { report, Stopwatch } from '../stopwatch.mjs';

const { driver, file: path, zeros = false, bytes, size, depth, ...times } = readOptions();
const port = makePort({ driver, concurrency: 1 });
const stopwatch = new Stopwatch({
  ...times,
  every: 1,
  systemCalls: () => port.stats().systemCalls,
});

do {
  const file = await port.open(path);
  let position = 0;
  for await (const chunk of file.chunks({ size, depth, length: bytes, lend: true })) {
    checkChunk(chunk, zeros ? 0 : position);
    position += chunk.length;
  }
  await file.close();
  if (position !== bytes) throw new Error(`${position} bytes read`);
} while (stopwatch.count());
report(stopwatch.result);
await port.close();
