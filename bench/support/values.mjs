/**
 * Values that know their number, and who looks whether each one comes in its turn.
 */

/** What gives the value of a number: itself, or so many bytes that begin with it. */
export function maker(bytes) {
  if (bytes === 0) return (number) => number;
  const value = Buffer.alloc(bytes, 7);
  // Whoever sends it copies it at once.
  return (number) => {
    value.writeUInt32LE(number >>> 0);
    return value;
  };
}

export function checker(bytes) {
  let wanted = 0;
  return (value) => {
    let number = value;
    if (bytes > 0) {
      number = new DataView(value.buffer, value.byteOffset).getUint32(0, true);
      if (value.length !== bytes || value[bytes - 1] !== 7) throw new Error('other bytes');
    }
    if (number !== wanted++) throw new Error(`${number} instead of ${wanted - 1}`);
  };
}
