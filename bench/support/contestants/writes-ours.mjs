/**
 * Writes at one position after another, each brought to the device before the next, on a port.
 */
import { readOptions } from '../options.mjs';
import { makePort } from '../ports.mjs';
import { report, Stopwatch } from '../stopwatch.mjs';
import { checkWritten, prepare, stampOf } from '../writes.mjs';

const { driver, file: path, size, ...times } = readOptions();
const port = makePort({ driver, concurrency: 1 });
const positions = prepare(path, size);
const file = await port.open(path, 'r+');
const memory = port.allocate(size).fill(1);
const stopwatch = new Stopwatch({
  ...times,
  every: 1,
  latencies: true,
  systemCalls: () => port.stats().systemCalls,
});
const options = { sync: true };

let count = 0;
do {
  stampOf(memory, count);
  const began = performance.now();
  const bytes = await file.write(memory, (count % positions) * size, options);
  stopwatch.record(performance.now() - began);
  if (bytes !== size) throw new Error(`${bytes} bytes written`);
  count++;
} while (stopwatch.count());
await port.close();
checkWritten(path, size, count, positions);
report(stopwatch.result);
