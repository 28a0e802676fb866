/**
 * What a spool server answers to a document: as much of it as was asked for with --answer.
 */
import { createHash } from 'node:crypto';
import { WordCount } from './words.mjs';

/** `full`: hash, lines and words; `hash`: no words; `length`: the contents are not looked at. */
export const answers = ['full', 'hash', 'length'];

/** Bytes looked at before others get their turn. */
export const BLOCK = 256 * 1024;

const CACHED = 32 * 1024;

/** Looks at a document piece by piece. */
export class Description {
  #hash;
  #words;
  #bytes = 0;

  constructor(answer) {
    if (answer !== 'length') this.#hash = createHash('sha256');
    if (answer === 'full') this.#words = new WordCount();
  }

  update(bytes) {
    this.#bytes += bytes.length;
    if (this.#words === undefined) return void this.#hash?.update(bytes);
    // What was hashed is still in the cache when its words are counted.
    for (let at = 0; at < bytes.length; at += CACHED) {
      const piece = bytes.subarray(at, at + CACHED);
      this.#hash.update(piece);
      this.#words.update(piece);
    }
  }

  /** For bytes that nobody wants to look at. */
  skip(bytes) {
    this.#bytes += bytes;
  }

  /** What the client gets to know. */
  result() {
    const result = { bytes: this.#bytes };
    if (this.#hash !== undefined) result.sha256 = this.#hash.digest('hex');
    if (this.#words !== undefined) {
      result.lines = this.#words.lines;
      result.words = this.#words.words;
    }
    return result;
  }
}
