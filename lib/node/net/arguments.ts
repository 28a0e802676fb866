/**
 * The forms in which `connect` and `listen` of node:net take their arguments.
 */
export interface Given {
  readonly options: Record<string, unknown>;
  readonly callback: ((...args: unknown[]) => void) | undefined;
}

/** Of `(options, callback)`, `(port, host, callback)` or `(path, callback)`. */
export function given(args: readonly unknown[]): Given {
  const last = args.length > 0 ? args[args.length - 1] : undefined;
  const callback = typeof last === 'function' ? (last as Given['callback']) : undefined;
  const [first, second] = args;
  if (typeof first === 'object' && first !== null) {
    return { options: first as Record<string, unknown>, callback };
  }
  if (isPath(first)) return { options: { path: first }, callback };
  const options: Record<string, unknown> = {};
  if (args.length > 0 && typeof first !== 'function') options['port'] = first;
  if (typeof second === 'string') options['host'] = second;
  return { options, callback };
}

/** What is a string and no number is a path. */
function isPath(value: unknown): value is string {
  return typeof value === 'string' && !(Number(value) >= 0);
}
