/**
 * Documents to send: what real files hold, cut into pieces of one size.
 */
import { createHash } from 'node:crypto';
import { openSync, closeSync, readFileSync, readSync, readdirSync } from 'node:fs';
import path from 'node:path';

const DOCUMENTS = 12;

/** A document, framed, and the answer that is due to it. */
function makeDocument(contents, answer) {
  const frame = Buffer.allocUnsafe(4 + contents.length);
  frame.writeUInt32BE(contents.length, 0);
  contents.copy(frame, 4);
  return { frame, bytes: contents.length, answer: JSON.stringify(answerTo(contents, answer)) };
}

function answerTo(contents, answer) {
  const bytes = contents.length;
  if (answer === 'length') return { bytes };
  const sha256 = createHash('sha256').update(contents).digest('hex');
  return answer === 'hash' ? { bytes, sha256 } : { bytes, sha256, ...countsOf(contents) };
}

/** Lines and words as `LC_ALL=C wc` has them, the plain way. */
function countsOf(contents) {
  let lines = 0;
  let words = 0;
  let printable = false;
  for (let i = 0; i <= contents.length; i++) {
    const byte = contents[i];
    if (byte === 10) lines++;
    const space = byte === undefined || byte === 32 || (byte >= 9 && byte <= 13);
    if (space && printable) words++;
    printable = !space && (printable || (byte > 32 && byte < 127));
  }
  return { lines, words };
}

/** The files of a package, without what others have made. */
function* sourceFiles(directory) {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    const file = path.join(directory, entry.name);
    if (/^\.|^node_modules$|^build|^coverage$/.test(entry.name)) continue;
    if (entry.isDirectory()) yield* sourceFiles(file);
    else if (entry.isFile()) yield file;
  }
}

/** Text again and again, `bytes` of it. */
function textOf(root, bytes) {
  const parts = [];
  let length = 0;
  for (const file of sourceFiles(root)) {
    parts.push(readFileSync(file));
    length += parts.at(-1).length;
    if (length >= bytes) break;
  }
  return Buffer.alloc(bytes, Buffer.concat(parts));
}

/** The beginning of a program: as good as random. */
function binaryOf(bytes) {
  const contents = Buffer.alloc(bytes);
  const descriptor = openSync(process.execPath);
  readSync(descriptor, contents);
  closeSync(descriptor);
  return contents;
}

/**
 * A dozen documents of `bytes` bytes each, half of them text from the package at `root`, half from a
 * program. `answer`: what the server was told to answer.
 */
export function makeCorpus(root, bytes, answer) {
  const half = DOCUMENTS / 2;
  return [textOf(root, bytes * half), binaryOf(bytes * half)].flatMap((contents) =>
    Array.from({ length: half }, (_, i) =>
      makeDocument(contents.subarray(i * bytes, (i + 1) * bytes), answer),
    ),
  );
}
