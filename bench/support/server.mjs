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

/** `stats`: what to answer besides the memory. */
export function serve(port, stats = () => ({})) {
  process.on('message', (question) => {
    process.send(question === 'resident' ? { resident: resident() } : stats());
  });
  process.on('SIGTERM', () => process.exit(0));
  process.stdout.write(`${JSON.stringify({ port })}\n`);
}
