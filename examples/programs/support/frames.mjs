/**
 * Frames: a 4-byte big-endian length, and so many bytes.
 */

const HEADER = 4;

/** One frame that holds this text. */
export function frame(text) {
  const bytes = Buffer.allocUnsafe(HEADER + Buffer.byteLength(text));
  bytes.writeUInt32BE(bytes.length - HEADER, 0);
  bytes.write(text, HEADER);
  return bytes;
}

/** One frame that holds `value` as JSON. */
export function jsonFrame(value) {
  return frame(JSON.stringify(value));
}
