/**
 * Where documents stay while they arrive: short ones in memory, longer ones in a file.
 *
 * A document offers `space` for its next bytes, is told how many have `arrived` there, and after
 * `complete` gives its `contents`. What goes wrong on the disk is kept as its `failure`: the document
 * goes on taking bytes, so that the one behind it can be reached.
 */
import fs from 'node:fs';
import { setImmediate as nextTurn, setTimeout as sleep } from 'node:timers/promises';
import { BLOCK } from './describe.mjs';
import { openNameless } from './nameless.mjs';

export class Spool {
  #port;
  #directory;
  #memory;

  /** Documents up to `memory` bytes stay in memory, others go to files in `directory`. */
  constructor(port, { directory, memory }) {
    this.#port = port;
    this.#directory = directory;
    this.#memory = memory;
  }

  /** Room for a document of `length` bytes. */
  document(length) {
    return length <= this.#memory
      ? MemoryDocument.create(this.#port, length)
      : FileDocument.create(this.#port, length, this.#directory);
  }
}

export class MemoryDocument {
  failure = undefined;
  #memory;
  #release;
  #bytes = 0;

  static async create(port, length) {
    const memory = await allocate(port, length);
    return new MemoryDocument(memory, () => port.release(memory));
  }

  /** A document in `memory`, which `release` gives back. */
  constructor(memory, release = () => undefined) {
    this.#memory = memory;
    this.#release = release;
  }

  get space() {
    return this.#memory.subarray(this.#bytes);
  }

  arrived(bytes) {
    this.#bytes += bytes;
  }

  complete() {}

  async *contents() {
    for (let at = 0; at < this.#memory.length; at += BLOCK) {
      if (at > 0) await nextTurn(); // other connections get theirs
      yield this.#memory.subarray(at, at + BLOCK);
    }
  }

  close() {
    this.#release();
  }
}

export class FileDocument {
  failure = undefined;
  #port;
  #file = undefined;
  /** One block is filled while the other one is written. */
  #memory;
  #block = 0;
  #filled = 0;
  /** Bytes that are not on their way to the file yet. */
  #missing;
  #position = 0;
  #writing = undefined;

  static async create(port, length, directory) {
    const document = new FileDocument(port, await allocate(port, 2 * BLOCK), length);
    await document.#attempt(async () => {
      document.#file = await openForSpooling(port, directory);
    });
    return document;
  }

  constructor(port, memory, length) {
    this.#port = port;
    this.#memory = memory;
    this.#missing = length;
  }

  get space() {
    const from = this.#block * BLOCK;
    return this.#memory.subarray(from + this.#filled, from + Math.min(BLOCK, this.#missing));
  }

  async arrived(bytes) {
    this.#filled += bytes;
    if (this.#filled < Math.min(BLOCK, this.#missing)) return;
    const from = this.#block * BLOCK;
    const block = this.#memory.subarray(from, from + this.#filled);
    await this.#writing;
    const position = this.#position;
    this.#writing = this.#attempt(() => this.#file.write(block, position));
    this.#position += this.#filled;
    this.#missing -= this.#filled;
    this.#filled = 0;
    this.#block = 1 - this.#block;
  }

  async complete() {
    await this.#writing;
  }

  contents() {
    return this.#file.chunks({ size: BLOCK, depth: 4 });
  }

  async close() {
    await this.#writing;
    await this.#file?.close();
    this.#port.release(this.#memory);
  }

  async #attempt(operation) {
    if (this.failure !== undefined) return;
    try {
      await operation();
    } catch (error) {
      this.failure = error;
    }
  }
}

/** Takes memory of the port; where there is none left, waits until another document is done. */
async function allocate(port, size) {
  for (;;) {
    try {
      return port.allocate(size);
    } catch (error) {
      if (error.code !== 'ERR_OUT_OF_BUFFERS') throw error;
      await sleep(10);
    }
  }
}

/** Opens a file for reading and writing that is in no directory. */
async function openForSpooling(port, directory) {
  const descriptor = openNameless(directory);
  try {
    return await port.open(descriptor, 'r+');
  } finally {
    fs.closeSync(descriptor); // the port has its own
  }
}
