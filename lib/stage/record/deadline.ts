/**
 * The deadline of a connection, which stands in its record and is looked at by a clock in native
 * code: native/stage/record_table.cc has the other side of this.
 */
import type { NativeThread } from '../../native/binding';
import { Header, type Records } from './record';

/** Milliseconds: the clock looks at whole ticks. */
const TICK = 16;

/**
 * A Timer packet comes at `deadline`, if none is set anew by then; 0: none does. The deadline is
 * stored, then it is read whether the clock looks at it in time; the clock says first that it does
 * not, then reads the deadline: one of both sees the other. It is mostly put off before it passes,
 * and then nothing else is to be done.
 */
export function setDeadline(
  thread: { readonly records: Records; readonly native: NativeThread },
  c: { readonly at: number; readonly recordKey: number },
  deadline: number,
): void {
  const { words, numbers } = thread.records;
  numbers[(c.at + Header.DEADLINE) >>> 3] = deadline;
  if (deadline === 0) return;
  // Read by writing: what was stored before is visible to whoever clears the word afterwards.
  const watched = Atomics.or(words, (c.at + Header.WATCHED) >>> 2, 0);
  const tick = Math.ceil(deadline / TICK) >>> 0 || 1;
  if (watched === 0 || ((watched - tick) | 0) > 0) thread.native.watchDeadline(c.recordKey);
}
