/**
 * Lines of stacks: which of them are this library's, and where a program called it.
 */

/** In a bundle for ES modules there is no `__dirname`: nothing is known to be the library's then. */
const here = typeof __dirname === 'string' ? __dirname : undefined;

/** Whether a line of a stack is of this library. */
export function isOfLibrary(line: string): boolean {
  return here !== undefined && line.includes(here);
}

/** File and line of the call of `above`, which is on the stack; undefined where there is no stack. */
export function placeAbove(above: (...args: never[]) => unknown): string | undefined {
  const { stackTraceLimit } = Error;
  const site: { stack?: string } = {};
  Error.stackTraceLimit = Math.min(stackTraceLimit, 1);
  Error.captureStackTrace(site, above);
  Error.stackTraceLimit = stackTraceLimit;
  const line = /\n\s+at (.*)/.exec(site.stack ?? '')?.[1];
  return line === undefined ? undefined : (/\((.*)\)$/.exec(line)?.[1] ?? line);
}
