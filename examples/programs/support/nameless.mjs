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
  // Windows would open the directory itself.
  if (process.platform === 'win32') return openAndUnlink(directory);
  try {
    return fs.openSync(directory, O_TMPFILE | fs.constants.O_RDWR, 0o600);
  } catch (error) {
    if (error.code !== 'EOPNOTSUPP' && error.code !== 'EISDIR') throw error;
  }
  return openAndUnlink(directory);
}

/** Without O_TMPFILE: takes the name away at once. */
function openAndUnlink(directory) {
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
