/**
 * What all the programs do alike: ending, with a message when something failed.
 */

/** Runs a program. A failure of the system ends it with a message and exit code 1. */
export async function runProgram(name, run) {
  try {
    await run();
  } catch (error) {
    // Anything without a code is a mistake in the program: that deserves its stack.
    if (error.code === undefined) throw error;
    console.error(`${name}: ${error.message}`);
    process.exit(1); // also when there are threads, or a port, that would keep it alive
  }
}

/**
 * Resolves at the first SIGINT, SIGTERM or SIGHUP; more of them (a terminal and npm both send one)
 * change nothing. Also when the program that started this one with a channel is gone.
 */
export function untilSignal() {
  return new Promise((resolve) => {
    for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) process.on(signal, resolve);
    if (process.channel === undefined) return;
    process.once('disconnect', resolve);
    process.channel.unref();
  });
}

/** Whether an operation failed because the port was closed under it, which is how servers end. */
export function isClosed(error) {
  return error.code === 'ERR_PORT_CLOSED' || error.code === 'ERR_HANDLE_CLOSED';
}
