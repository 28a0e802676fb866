/** Whether this thread is one of a pool: it was told that the sub-path is experimental elsewhere. */
export const quiet = { worker: false };
