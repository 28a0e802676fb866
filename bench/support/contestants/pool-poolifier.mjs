/** For poolifier: its workers are programs. */
import { ThreadWorker } from 'poolifier';

export default new ThreadWorker({
  empty() {
    // Nothing to do.
  },
  bounce: (bytes) => bytes,
});
