/** Tasks for pools of this library. */
import { defineTasks, transfer } from 'completion-port/cpu';

export const { empty, bounce, copy } = defineTasks(import.meta.url, {
  empty() {
    // Nothing to do.
  },
  bounce: (bytes) => transfer(bytes, [bytes.buffer]),
  copy: (bytes) => bytes,
});
