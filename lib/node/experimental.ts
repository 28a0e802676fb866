/** The sub-paths of Node's doors say once that they may change. */
let warned = false;

export function warnOnce(): void {
  if (warned) return;
  warned = true;
  const message = 'completion-port/node may change in any minor version';
  process.emitWarning(message, 'ExperimentalWarning');
}
