/**
 * What `COMPLETION_PORT_CHECK`, a list with commas, asks to be checked: `memory`, `handles`.
 */
export function checks(what: 'memory' | 'handles'): boolean {
  return (process.env['COMPLETION_PORT_CHECK'] ?? '').split(',').includes(what);
}
