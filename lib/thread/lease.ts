/**
 * Memory that is given back when a scope ends: `port.lease()`.
 */
import { inspect } from 'node:util';
import type * as api from '../api';
import type { Memory } from './memory';

/** The Lease of lib/api.ts. */
export class Lease implements api.Lease {
  readonly bytes: Buffer;
  private readonly memory: Memory;

  constructor(memory: Memory, bytes: Buffer) {
    this.memory = memory;
    this.bytes = bytes;
  }

  release(): void {
    if (!this.memory.thread.closed) this.memory.releaseAll(this.bytes);
  }

  [Symbol.dispose](): void {
    this.release();
  }

  [inspect.custom](): string {
    return `Lease { bytes: ${this.bytes.length} }`;
  }
}
