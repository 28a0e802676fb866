/**
 * What `COMPLETION_PORT_CHECK`, a list with commas, asks to be checked: `memory`, `handles`.
 */
export function checks(what: 'memory' | 'handles'): boolean {
  const wanted = (process.env['COMPLETION_PORT_CHECK'] ?? '').split(',');
  return wanted.some((name) => name.trim() === what);
}
