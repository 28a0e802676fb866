/** For piscina: its `move` is its own. */
import { move } from 'piscina';

export function empty() {
  // Nothing to do.
}

export const bounce = (bytes) => move(bytes);
export default empty;
