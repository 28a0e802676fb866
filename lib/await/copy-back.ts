/**
 * Reading into a program's own memory.
 */
import type { Lane } from '../thread/lane';
import { asBytes } from '../thread/memory';
import type { Aftermath } from './operation';

/** Pool memory the kernel reads into in place of a program's own; copied over and given back. */
export class CopyBack implements Aftermath {
  readonly chunk: number;
  readonly start: number;
  private readonly lane: Lane;
  private readonly targets: readonly ArrayBufferView[];
  private readonly lengths: readonly number[];

  /** Takes over the block that `lane.memory` took last. */
  constructor(lane: Lane, targets: readonly ArrayBufferView[]) {
    this.lane = lane;
    this.targets = targets;
    this.lengths = targets.map((target) => target.byteLength);
    this.chunk = lane.memory.chunk;
    this.start = lane.memory.start;
  }

  after(error: number, result: number): void {
    if (error === 0) this.copy(result);
    this.lane.memory.give(this.chunk, this.start);
  }

  /** A target that was detached meanwhile has no bytes left, and gets none. */
  private copy(bytes: number): void {
    const memory = this.lane.memory.bytes(this.chunk);
    let from = this.start;
    const end = from + bytes;
    this.targets.forEach((target, index) => {
      const piece = Math.min(end - from, this.lengths[index]!);
      if (target.byteLength >= piece) asBytes(target).set(memory.subarray(from, from + piece));
      from += piece;
    });
  }
}
