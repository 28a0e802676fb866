/**
 * Blocks of memory that all threads of a process share: any of them may take one, fill it, and leave
 * it to another one under its number.
 */

export const BLOCK = 64 * 1024;

/** Numbers of blocks are 16 bits; the rest of the word counts, so that a stale head is noticed. */
const MOST_BLOCKS = 0xffff;
const ONE_CHANGE = 0x10000;
const HEAD = 0;

export class SharedBlocks {
  #links;
  #bytes;

  /** `bytes` of memory, at most; a plain value that can be posted to workers. */
  static create(bytes) {
    const count = Math.max(1, Math.min(MOST_BLOCKS, Math.floor(bytes / BLOCK)));
    const shared = {
      links: new SharedArrayBuffer(4 * (count + 1)),
      memory: new SharedArrayBuffer(BLOCK * count),
    };
    const links = new Int32Array(shared.links);
    links[HEAD] = 1;
    for (let block = 1; block < count; block++) links[block] = block + 1;
    return shared;
  }

  constructor({ links, memory }) {
    this.#links = new Int32Array(links);
    this.#bytes = Buffer.from(memory);
  }

  /** The number of a block that is now the caller's; 0 when there is none. */
  take() {
    const links = this.#links;
    for (;;) {
      const head = Atomics.load(links, HEAD);
      const block = head & MOST_BLOCKS;
      if (block === 0) return 0;
      const next = ((head & ~MOST_BLOCKS) + ONE_CHANGE) | Atomics.load(links, block);
      if (Atomics.compareExchange(links, HEAD, head, next) !== head) continue;
      Atomics.store(links, block, 0);
      return block;
    }
  }

  /** Gives back a block and all that are linked behind it. */
  release(block) {
    const links = this.#links;
    while (block !== 0) {
      const behind = Atomics.load(links, block);
      for (;;) {
        const head = Atomics.load(links, HEAD);
        Atomics.store(links, block, head & MOST_BLOCKS);
        const next = ((head & ~MOST_BLOCKS) + ONE_CHANGE) | block;
        if (Atomics.compareExchange(links, HEAD, head, next) === head) break;
      }
      block = behind;
    }
  }

  /** Its bytes. */
  view(block) {
    return this.#bytes.subarray((block - 1) * BLOCK, block * BLOCK);
  }

  link(block, next) {
    Atomics.store(this.#links, block, next);
  }

  /** The block linked behind it; 0: none. */
  after(block) {
    return Atomics.load(this.#links, block);
  }
}
