/**
 * Documents of spool.stage.mjs while they arrive, in the records of their connections: in blocks of
 * shared memory, or in a file when they are long or memory is short. The next stage reads them by
 * the same record, in another thread.
 *
 * Files are written and read in place, without waiting for anything: that is what a stage's threads
 * are for. What goes wrong on the disk is kept as the document's failure; it goes on taking bytes, so
 * that the document behind it can be reached.
 */
import fs from 'node:fs';
import { openNameless } from './nameless.mjs';
import { BLOCK, SharedBlocks } from './shared-blocks.mjs';

/** Bytes written to a file, or read from it, at a time. */
const PIECE = 4 * BLOCK;

/** Fields of a record. A document's blocks are linked; all are full but the last. */
export const spoolFields = {
  headerBytes: 'u8',
  length: 'u32',
  received: 'u32',
  /** Bytes of it that are in the file. */
  written: 'u32',
  first: 'u32',
  last: 'u32',
  /** Descriptor + 1; 0: no file. */
  file: 'u32',
  failure: 'utf8[24]',
  /** A block that holds what came behind the document, and how much that is. */
  rest: 'u32',
  restBytes: 'u32',
  /** To this document, as JSON. */
  answer: 'utf8[200]',
};

export class Spool {
  #blocks;
  #directory;
  #memory;
  #piece = Buffer.alloc(0);

  /** Documents up to `memory` bytes stay in memory, others go to files in `directory`. */
  constructor({ shared, directory, memory }) {
    this.#blocks = new SharedBlocks(shared);
    this.#directory = directory;
    this.#memory = memory;
  }

  /** Takes bytes of the document. */
  append(record, bytes) {
    for (let at = 0; at < bytes.length;) {
      const gathered = record.received - record.written;
      const filled = gathered % BLOCK;
      if (filled === 0 && record.failure === '' && !this.#grow(record, gathered)) {
        this.#writeStraight(record, bytes.subarray(at));
        return;
      }
      if (record.failure !== '') {
        record.received += bytes.length - at;
        return;
      }
      const used = bytes.copy(this.#blocks.view(record.last), filled, at);
      record.received += used;
      at += used;
    }
  }

  /** Keeps what came behind the document; no more than a block. */
  putBack(record, bytes) {
    if (bytes.length === 0) return true;
    record.rest = this.#blocks.take();
    if (record.rest === 0) return false;
    record.restBytes = bytes.copy(this.#blocks.view(record.rest));
    return true;
  }

  /** Calls `use` with what was put back, which is gone afterwards. */
  withRest(record, use) {
    const { rest } = record;
    if (rest === 0) return use(Buffer.alloc(0));
    record.rest = 0;
    try {
      return use(this.#blocks.view(rest).subarray(0, record.restBytes));
    } finally {
      this.#blocks.release(rest);
    }
  }

  /** A whole document, piece by piece; each is valid until the next. Throws its failure. */
  *pieces(record) {
    if (record.failure === '' && record.file !== 0) this.#write(record);
    if (record.failure !== '') throw Object.assign(new Error('spool'), { code: record.failure });
    if (record.file !== 0) return yield* this.#readFile(record);
    let missing = record.length;
    for (let block = record.first; missing > 0; block = this.#blocks.after(block)) {
      yield this.#blocks.view(block).subarray(0, Math.min(BLOCK, missing));
      missing -= Math.min(BLOCK, missing);
    }
  }

  /** Makes the record ready for the next document. */
  release(record) {
    this.#drop(record);
    if (record.file !== 0) fs.closeSync(record.file - 1);
    record.file = 0;
    record.headerBytes = 0;
    record.length = 0;
    record.received = 0;
    record.written = 0;
    record.failure = '';
  }

  /** Gives back everything. */
  close(record) {
    this.release(record);
    this.#blocks.release(record.rest);
    record.rest = 0;
  }

  /**
   * Links another block; what there is goes to the file when it is enough, or when no block is left.
   * False when there is none even then.
   */
  #grow(record, gathered) {
    if (record.length > this.#memory && gathered >= PIECE) this.#write(record);
    let block = this.#blocks.take();
    if (block === 0) {
      if (record.first !== 0) this.#write(record);
      block = this.#blocks.take();
    }
    if (record.failure !== '') {
      this.#blocks.release(block);
      return true;
    }
    if (block === 0) return false;
    if (record.first === 0) record.first = block;
    else this.#blocks.link(record.last, block);
    record.last = block;
    return true;
  }

  #writeStraight(record, bytes) {
    try {
      if (record.file === 0) record.file = openNameless(this.#directory) + 1;
      writeFully(record.file - 1, bytes, record.written);
      record.written += bytes.length;
    } catch (error) {
      this.#fail(record, error.code);
    }
    record.received += bytes.length;
  }

  #write(record) {
    try {
      if (record.file === 0) record.file = openNameless(this.#directory) + 1;
      let missing = record.received - record.written;
      for (let block = record.first; missing > 0; block = this.#blocks.after(block)) {
        const bytes = this.#blocks.view(block).subarray(0, Math.min(BLOCK, missing));
        writeFully(record.file - 1, bytes, record.written);
        record.written += bytes.length;
        missing -= bytes.length;
      }
      this.#drop(record);
    } catch (error) {
      this.#fail(record, error.code);
    }
  }

  *#readFile(record) {
    if (this.#piece.length === 0) this.#piece = Buffer.allocUnsafeSlow(PIECE);
    for (let position = 0; position < record.length;) {
      const bytes = fs.readSync(record.file - 1, this.#piece, 0, PIECE, position);
      if (bytes === 0) throw Object.assign(new Error('The file is short'), { code: 'EIO' });
      yield this.#piece.subarray(0, bytes);
      position += bytes;
    }
  }

  #fail(record, code) {
    record.failure = code;
    this.#drop(record);
  }

  #drop(record) {
    this.#blocks.release(record.first);
    record.first = 0;
    record.last = 0;
  }
}

function writeFully(file, bytes, position) {
  for (let at = 0; at < bytes.length;) {
    at += fs.writeSync(file, bytes, at, bytes.length - at, position + at);
  }
}
