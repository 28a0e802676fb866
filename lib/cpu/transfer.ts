/** Memory that changes hands instead of being copied. */
import * as validate from '../support/validate';
import { transferWith } from '../support/codec';

/**
 * Returns `value`, and remembers that what is in `list` (ArrayBuffers, MessagePorts, …) goes with it
 * to the thread that runs the task, or that called it: an argument, `cpu(task, transfer(bytes,
 * [bytes.buffer]))`, or a result, `return transfer(bytes, [bytes.buffer])`. Whoever gave it has it no
 * longer. Without effect where nothing changes threads.
 */
export function transfer<T extends object>(value: T, list: readonly object[]): T {
  if ((typeof value !== 'object' && typeof value !== 'function') || value === null) {
    throw validate.invalidType('value', 'of type object', value);
  }
  validate.list(list, 'list');
  for (const one of list) {
    if (typeof one !== 'object' || one === null)
      throw validate.invalidType('list', 'an array of what can be transferred', one);
  }
  transferWith(value, list);
  return value;
}
