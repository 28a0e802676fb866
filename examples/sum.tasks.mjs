/** What the sum server computes: it knows nothing of where it runs. */
import { defineTasks } from 'completion-port/cpu';

export const { sumn } = defineTasks(import.meta.url, {
  /** The sum of 1 to `n`, the long way. */
  sumn(n) {
    let sum = 0;
    while (n > 0) sum += n--;
    return sum;
  },
});
