/** For tinypool, which has no way to move a result. */

export function empty() {
  // Nothing to do.
}

export const bounce = (bytes) => bytes;
export default empty;
