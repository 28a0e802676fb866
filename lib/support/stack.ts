/**
 * Lines of stacks: which of them are this library's.
 */

/** In a bundle for ES modules there is no `__dirname`: nothing is known to be the library's then. */
const here = typeof __dirname === 'string' ? __dirname : undefined;

/** Whether a line of a stack is of this library. */
export function isOfLibrary(line: string): boolean {
  return here !== undefined && line.includes(here);
}
