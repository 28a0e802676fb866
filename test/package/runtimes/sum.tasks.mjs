import { defineTasks } from 'completion-port/cpu';

export const { sumn } = defineTasks(import.meta.url, {
  sumn(n) {
    let total = 0;
    while (n > 0) total += n--;
    return total;
  },
});
