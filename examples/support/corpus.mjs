/**
 * Documents to send: real files, and a few large ones made up.
 */
import { createHash, randomFillSync } from 'node:crypto';
import { readFileSync, readdirSync } from 'node:fs';
import path from 'node:path';

const MiB = 2 ** 20;

/** A document, framed, and the answer that is due. */
function makeDocument(name, contents) {
  const frame = Buffer.allocUnsafe(4 + contents.length);
  frame.writeUInt32BE(contents.length, 0);
  contents.copy(frame, 4);
  const sha256 = createHash('sha256').update(contents).digest('hex');
  const answer = JSON.stringify({ bytes: contents.length, sha256, ...countsOf(contents) });
  return { name, frame, bytes: contents.length, answer };
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

function textOf(bytes) {
  const line = Array.from({ length: 1000 }, (_, i) => `${i * i} bottles of beer\ton the wall`);
  return Buffer.alloc(bytes, line.join('\n'));
}

/** Small ones come by the hundred; of large ones there are a few. */
export function makeCorpus(root) {
  const small = [...sourceFiles(root)].map((file) =>
    makeDocument(path.relative(root, file), readFileSync(file)),
  );
  small.push(makeDocument('(empty)', Buffer.alloc(0)));
  small.push(makeDocument('(1 MiB of text)', textOf(MiB)));
  const large = [
    makeDocument('(the node binary)', readFileSync(process.execPath)),
    makeDocument('(24 MiB of text)', textOf(24 * MiB)),
    makeDocument('(7 MiB at random)', randomFillSync(Buffer.alloc(7 * MiB + 1))),
    makeDocument('(2 MiB of zeros)', Buffer.alloc(2 * MiB)),
  ];
  return { small, large };
}
