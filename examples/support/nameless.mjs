/**
 * Files that are in no directory, so that nothing of them is left whatever happens to the process.
 */
import { randomBytes } from 'node:crypto';
import fs from 'node:fs';
import path from 'node:path';

/** open(2): a file that never has a name. */
const O_TMPFILE = 0o20200000;

/** The descriptor of a new file in that directory's file system, for reading and writing. */
export function openNameless(directory) {
  try {
    return fs.openSync(directory, O_TMPFILE | fs.constants.O_RDWR, 0o600);
  } catch (error) {
    if (error.code !== 'EOPNOTSUPP' && error.code !== 'EISDIR') throw error;
  }
  // A file system without O_TMPFILE: take the name away at once.
  for (;;) {
    const name = path.join(directory, `.spool-${randomBytes(12).toString('hex')}`);
    try {
      const descriptor = fs.openSync(name, 'wx+', 0o600);
      fs.unlinkSync(name);
      return descriptor;
    } catch (error) {
      if (error.code !== 'EEXIST') throw error;
    }
  }
}
