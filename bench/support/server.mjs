/**
 * What servers that are measured have in common: they say where they listen, answer questions of
 * the benchmark, and end at SIGTERM.
 */

/** Memory that holds garbage says nothing about connections. */
function resident() {
  globalThis.gc?.();
  globalThis.gc?.();
  return process.memoryUsage.rss();
}

/** `stats`: what to answer besides the memory; `pids`: the processes it is, if more than this one. */
export function serve(port, stats = () => ({}), pids = undefined) {
  process.on('message', (question) => {
    process.send(question === 'resident' ? { resident: resident() } : stats());
  });
  process.on('SIGTERM', () => process.exit(0));
  process.stdout.write(`${JSON.stringify({ port, pids })}\n`);
}
