/**
 * What the fuzzers begin with: inputs that use the library as it is meant. Each is written in the
 * order in which its fuzzer reads it (native/*_fuzz.cc).
 */

const bytes = (...parts) => Buffer.concat(parts.map((part) => Buffer.from(part)));
const text = (string) => bytes([string.length], string);

/** In the order of `Framing::Kind`. */
const FRAMINGS = [
  (document) => bytes([document.length], document),
  (document) => bytes([document.length >> 8, document.length & 255], document),
  (document) => bytes([0, 0, document.length >> 8, document.length & 255], document),
  (document) => bytes([document.length & 255, document.length >> 8, 0, 0], document),
  (document) => {
    const length = document.length;
    return bytes(length < 128 ? [length] : [(length & 127) | 128, length >> 7], document);
  },
  (document) => bytes(document, '\r\n'),
];
const DOCUMENTS = ['', 'one', '\r', 'x'.repeat(60), 'y'.repeat(200), '\r\r'];

function* framing() {
  for (const [kind, frame] of FRAMINGS.entries()) {
    const stream = bytes(...DOCUMENTS.map(frame));
    yield bytes([kind, 1], '\r\n', [3, 1, 2, 70], stream);
    yield bytes([kind, 1], '\r\n', [0], stream.subarray(0, -1));
  }
  yield bytes([5, 2], 'aab', [2, 1, 5], 'aaabaabaaab');
  yield bytes([4, 0], 'x', [1, 9], Array(9).fill(255), [1]);
}

/** Operations of frames_fuzz.cc. */
const ANSWER = 0;
const LOOK = 1;
const END = 2;
const SEND = 3;
const take = [LOOK, 1];
const answers = [
  [ANSWER, 0],
  bytes([ANSWER, 1], text('answer')),
  [ANSWER, 2, 99, 50, 10],
  bytes([ANSWER, 3], text('head'), [200, 201, 0]),
  bytes([ANSWER, 5], text('last')),
  [ANSWER, 2, 10, 200, 0],
];

function* frames() {
  for (const [kind, frame] of FRAMINGS.entries()) {
    for (const spools of [0, 1]) {
      for (const [i, answer] of answers.entries()) {
        const stream = bytes(...DOCUMENTS.map(frame));
        const cut = 1 + i;
        const rounds = DOCUMENTS.map(() => bytes(take, answer));
        yield bytes(
          [kind, spools, SEND],
          text(stream.subarray(0, cut).toString('latin1')),
          ...(stream.length - cut < 256
            ? [[SEND, stream.length - cut], stream.subarray(cut)]
            : [
                [SEND, 255],
                stream.subarray(cut, cut + 255),
                [SEND, stream.length - cut - 255],
                stream.subarray(cut + 255),
              ]),
          ...rounds,
          [END],
        );
      }
      // A field of the record is written over while the next stage has the document.
      for (let at = 0; at < 80; at += 8) {
        const document = frame('document');
        yield bytes(
          [kind, spools, SEND, document.length],
          document,
          take,
          [LOOK, 0, at, 7],
          Array(8).fill(255),
          answers[1],
        );
      }
    }
  }
}

/** Of native/addon/submission.h. */
function record(kind, fields = {}) {
  const { flags = 0, slices = 0, token = 1, timeout = 0, offset = 0, length = 0 } = fields;
  const { chunk = 0xffffffff, start = 0, size = 0, tag = 0, handle = 0, feeder = 0 } = fields;
  const out = Buffer.alloc(64);
  out.writeUInt8(kind, 0);
  out.writeUInt8(flags, 1);
  out.writeUInt16LE(slices, 2);
  out.writeUInt32LE(token, 8);
  out.writeUInt32LE(timeout, 12);
  out.writeDoubleLE(offset, 16);
  out.writeDoubleLE(length, 24);
  out.writeUInt32LE(chunk, 32);
  out.writeUInt32LE(start, 36);
  out.writeUInt32LE(size, 40);
  out.writeUInt32LE(tag, 44);
  out.writeBigUInt64LE(BigInt(handle), 48);
  out.writeBigUInt64LE(BigInt(feeder), 56);
  return out;
}
const KINDS = 32;
const HANDLES = 5;
/** Multishot, linked, release, quiet, keyed, full, fed, stall. */
const FLAGS = [0, 1, 4, 8, 16, 32, 64, 128];

function* submission() {
  for (let kind = 0; kind < KINDS; kind++) {
    const records = [];
    for (let handle = 0; handle < HANDLES; handle++) {
      const at = { handle, token: handle + 1, chunk: 2, size: 1000, slices: 1, length: 100 };
      records.push(record(kind, at));
      records.push(record(kind, { ...at, chunk: 0, size: 1, flags: FLAGS[kind % FLAGS.length] }));
    }
    yield bytes([records.length], ...records, text('what the peer sends'));
    // A chain, and what cancels it.
    const linked = record(kind, { handle: kind % HANDLES, flags: 2, chunk: 0, size: 9, slices: 1 });
    yield bytes([4], linked, linked, record(kind, { handle: 0 }), record(19, { token: 1 }), [0]);
  }
  // Closes that give the descriptor back: told, and not.
  for (const flags of [128, 128 + 8]) {
    const closes = Array.from({ length: HANDLES }, (_, handle) => record(2, { handle, flags }));
    yield bytes([closes.length], ...closes, [0]);
  }
}

export const SEEDS = { framing, frames, submission };
