/**
 * Reads a file from beginning to end, or `--bytes` of a device, again and again, with node:fs.
 */
import fs from 'node:fs';
import { checkChunk } from '../data.mjs';
import { readOptions } from '../options.mjs';
import { report, Stopwatch } from '../stopwatch.mjs';

const { style, file, zeros = false, bytes, size: highWaterMark, ...times } = readOptions();
const stopwatch = new Stopwatch({ ...times, every: 1 });

async function readStream() {
  let position = 0;
  for await (const chunk of fs.createReadStream(file, { highWaterMark, end: bytes - 1 })) {
    checkChunk(chunk, zeros ? 0 : position);
    position += chunk.length;
  }
  return position;
}

/** Events instead of a loop: less work for each chunk. */
function readEvents() {
  let position = 0;
  return new Promise((resolve, reject) => {
    fs.createReadStream(file, { highWaterMark, end: bytes - 1 })
      .on('data', (chunk) => {
        checkChunk(chunk, zeros ? 0 : position);
        position += chunk.length;
      })
      .on('error', reject)
      .on('end', () => resolve(position));
  });
}

async function readFile() {
  const contents = await fs.promises.readFile(file);
  checkChunk(contents, 0);
  checkChunk(contents.subarray(-4096), contents.length - 4096);
  return contents.length;
}

const pass = { stream: readStream, events: readEvents, file: readFile }[style];
do {
  const got = await pass();
  if (got !== bytes) throw new Error(`${got} bytes read`);
} while (stopwatch.count());
report(stopwatch.result);
