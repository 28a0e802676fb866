/**
 * Reading into a program's own memory.
 */
import { invalidState } from '../support/errors';
import type { PortThread } from '../thread/port-thread';
import { asBytes } from '../thread/memory';
import type { Aftermath } from './operation';

/** Pool memory the kernel reads into in place of a program's own; copied over and given back. */
export class CopyBack implements Aftermath {
  readonly chunk: number;
  readonly start: number;
  private readonly thread: PortThread;
  private readonly targets: readonly ArrayBufferView[];
  private readonly lengths: readonly number[];

  /** Takes over the block that `thread.memory` took last. */
  constructor(thread: PortThread, targets: readonly ArrayBufferView[]) {
    this.thread = thread;
    this.targets = targets;
    this.lengths = targets.map((target) => target.byteLength);
    this.chunk = thread.memory.chunk;
    this.start = thread.memory.start;
  }

  after(error: number, result: number): Error | undefined {
    const whole = error !== 0 || this.copy(result);
    this.thread.memory.give(this.chunk, this.start);
    return whole ? undefined : targetGone();
  }

  /** False where a target that was detached meanwhile should have got some. */
  private copy(bytes: number): boolean {
    let whole = true;
    const memory = this.thread.memory.bytes(this.chunk);
    let from = this.start;
    const end = from + bytes;
    this.targets.forEach((target, index) => {
      const piece = Math.min(end - from, this.lengths[index]!);
      if (piece === 0) return;
      if (holds(target, piece)) asBytes(target).set(memory.subarray(from, from + piece));
      else whole = false;
      from += piece;
    });
    return whole;
  }
}

/** A DataView without memory has no length that could be asked for. */
function holds(target: ArrayBufferView, bytes: number): boolean {
  try {
    return target.byteLength >= bytes;
  } catch {
    return false;
  }
}

function targetGone(): Error {
  return invalidState(
    'The memory to read into was transferred, or made smaller, meanwhile: the bytes are lost',
  );
}
