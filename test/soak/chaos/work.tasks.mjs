import { defineTasks } from '../../../dist/cpu-esm.mjs';

export const { sumn, dies } = defineTasks(import.meta.url, {
  sumn(n) {
    let total = 0;
    while (n > 0) total += n--;
    return total;
  },
  /** The thread ends in the middle of it. */
  dies() {
    process.exit(3);
  },
});
