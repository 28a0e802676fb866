/**
 * Writes at one position after another, each brought to the device before the next, with node:fs.
 */
import fs from 'node:fs/promises';
import { readOptions } from '../options.mjs';
import { report, Stopwatch } from '../stopwatch.mjs';
import { checkWritten, prepare, stampOf } from '../writes.mjs';

const { file: path, size, ...times } = readOptions();
const positions = prepare(path, size);
const file = await fs.open(path, 'r+');
const memory = Buffer.alloc(size, 1);
const stopwatch = new Stopwatch({ ...times, every: 1, latencies: true });

let count = 0;
do {
  stampOf(memory, count);
  const began = performance.now();
  const { bytesWritten } = await file.write(memory, 0, size, (count % positions) * size);
  await file.datasync();
  stopwatch.record(performance.now() - began);
  if (bytesWritten !== size) throw new Error(`${bytesWritten} bytes written`);
  count++;
} while (stopwatch.count());
await file.close();
checkWritten(path, size, count, positions);
report(stopwatch.result);
