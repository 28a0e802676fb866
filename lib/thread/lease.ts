import { inspect } from 'node:util';
import type * as api from '../api';
import type { Memory } from './memory';

/** The Lease of lib/api.ts. */
export class Lease implements api.Lease {
  readonly #memory: Memory;
  readonly #bytes: Buffer;

  constructor(memory: Memory, bytes: Buffer) {
    this.#memory = memory;
    this.#bytes = bytes;
  }

  get bytes(): Buffer {
    this.#memory.check(this.#bytes);
    return this.#bytes;
  }

  release(): void {
    if (!this.#memory.thread.closed) this.#memory.releaseAll(this.#bytes);
  }

  [Symbol.dispose](): void {
    this.release();
  }

  [inspect.custom](): string {
    return `Lease { bytes: ${this.#bytes.length} }`;
  }

  toJSON(): object {
    return { bytes: this.#bytes.length };
  }
}
