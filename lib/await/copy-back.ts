/**
 * Reading into a program's own memory.
 */
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

  after(error: number, result: number): void {
    if (error === 0) this.copy(result);
    this.thread.memory.give(this.chunk, this.start);
  }

  /** A target that was detached meanwhile has no bytes left, and gets none. */
  private copy(bytes: number): void {
    const memory = this.thread.memory.bytes(this.chunk);
    let from = this.start;
    const end = from + bytes;
    this.targets.forEach((target, index) => {
      const piece = Math.min(end - from, this.lengths[index]!);
      if (target.byteLength >= piece) asBytes(target).set(memory.subarray(from, from + piece));
      from += piece;
    });
  }
}
