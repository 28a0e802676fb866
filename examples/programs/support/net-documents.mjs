/**
 * Documents of the spool server on node:net while they arrive: in memory, or in a file when they are
 * long or memory is short.
 *
 * A document takes `append`ed bytes, says with `behind` that it wants no more for now, and with
 * `caughtUp` when that is over. What goes wrong on the disk is kept as its `failure`: it goes on
 * taking bytes, so that the document behind it can be reached.
 */
import fs from 'node:fs';
import { promisify } from 'node:util';
import { setImmediate as nextTurn } from 'node:timers/promises';
import { BLOCK, Description } from './describe.mjs';
import { openNameless } from './nameless.mjs';

/** Pieces below this size are gathered: each Buffer of its own costs more than ten bytes. */
const SMALL = 16 * 1024;
const TAIL = 64 * 1024;

const close = promisify(fs.close);
const read = promisify(fs.read);
const writev = promisify(fs.writev);

/** Where documents are kept, and how much of them memory holds. */
export class Store {
  held = 0;

  /** Documents up to `memory` bytes stay in memory as long as all of them have no more than `limit`. */
  constructor({ directory, memory, limit }) {
    this.directory = directory;
    this.memory = memory;
    this.limit = limit;
  }
}

export class Document {
  failure = undefined;
  /** All of its bytes, of which some may be missing. */
  length;
  #store;
  #missing;
  #blocks = [];
  #gathered = 0;
  /** The end of the last block, for small pieces. */
  #tail = undefined;
  #file = undefined;
  #position = 0;
  #writing = undefined;

  constructor(length, store) {
    this.#store = store;
    this.length = length;
    this.#missing = length;
  }

  get missing() {
    return this.#missing;
  }

  get complete() {
    return this.#missing === 0;
  }

  /** Whether the disk should get time to catch up. */
  get behind() {
    return this.#writing !== undefined && this.#gathered >= BLOCK;
  }

  /** Resolves when what is being written now is. */
  async caughtUp() {
    await this.#writing;
  }

  /** Takes bytes, no more than are missing. */
  append(bytes) {
    this.#missing -= bytes.length;
    if (this.failure !== undefined) return;
    this.#gathered += bytes.length;
    this.#store.held += bytes.length;
    if (bytes.length >= SMALL) {
      this.#blocks.push(bytes);
      this.#tail = undefined;
    } else this.#copy(bytes);
    this.#spill();
  }

  /** What the client gets to know: at once for what is short, else a promise. */
  describe(answer) {
    if (this.#file !== undefined || this.#gathered > BLOCK) return this.#describeSlowly(answer);
    if (this.failure !== undefined) return { error: this.failure.code };
    const description = new Description(answer);
    for (const block of this.#blocks) description.update(block);
    return description.result();
  }

  /** Gives up memory and file. */
  async close() {
    this.#drop();
    this.failure ??= new Error('closed');
    await this.#written();
    await this.#closeFile();
  }

  async #closeFile() {
    if (this.#file !== undefined) await close(this.#file).catch(() => undefined); // of no use
    this.#file = undefined;
  }

  #copy(bytes) {
    const tail = this.#tail;
    if (tail === undefined || tail.room.length < bytes.length) {
      // No longer than what may come, so that short documents take little.
      const memory = Buffer.allocUnsafeSlow(Math.min(TAIL, bytes.length + this.#missing));
      this.#blocks.push(memory.subarray(0, 0));
      this.#tail = { memory, room: memory };
    }
    const { memory, room } = this.#tail;
    room.set(bytes);
    this.#tail.room = room.subarray(bytes.length);
    this.#blocks[this.#blocks.length - 1] = memory.subarray(0, this.#tail.room.byteOffset);
  }

  /** Writes what is gathered to the file, for a document that has to be there. */
  #spill() {
    const { memory, held, limit } = this.#store;
    const toFile = this.#file !== undefined || this.length > memory || held > limit;
    if (!toFile || this.#writing !== undefined) return;
    if (this.#gathered < BLOCK && !(this.complete && this.#gathered > 0)) return;
    const blocks = this.#blocks;
    const bytes = this.#gathered;
    this.#blocks = [];
    this.#gathered = 0;
    this.#tail = undefined;
    this.#writing = this.#write(blocks).then(() => {
      this.#store.held -= bytes;
      this.#writing = undefined;
      if (this.failure === undefined) this.#spill();
      else this.#drop();
    });
  }

  async #write(blocks) {
    try {
      this.#file ??= openNameless(this.#store.directory);
      while (blocks.length > 0) {
        const { bytesWritten } = await writev(this.#file, blocks, this.#position);
        this.#position += bytesWritten;
        blocks = after(blocks, bytesWritten);
      }
    } catch (error) {
      // First, so that who hears of a full device can count on the room this one had.
      await this.#closeFile();
      this.failure ??= error;
    }
  }

  async #written() {
    while (this.#writing !== undefined) await this.#writing;
  }

  #drop() {
    this.#store.held -= this.#gathered;
    this.#gathered = 0;
    this.#blocks = [];
    this.#tail = undefined;
  }

  /** A turn of the event loop for others after each block. */
  async #describeSlowly(answer) {
    await this.#written();
    const description = new Description(answer);
    try {
      if (this.failure !== undefined) throw this.failure;
      if (this.#file !== undefined) await this.#readFile(description, answer);
      else await this.#readMemory(description);
      return description.result();
    } catch (error) {
      if (error.code === undefined) throw error;
      return { error: error.code };
    }
  }

  async #readMemory(description) {
    let bytes = 0;
    for (const block of this.#blocks) {
      if (bytes >= BLOCK) {
        await nextTurn();
        bytes = 0;
      }
      description.update(block);
      bytes += block.length;
    }
  }

  async #readFile(description, answer) {
    if (answer === 'length') return description.skip(this.length);
    const memory = Buffer.allocUnsafe(BLOCK);
    for (let position = 0; position < this.length;) {
      const { bytesRead } = await read(this.#file, memory, 0, BLOCK, position);
      if (bytesRead === 0) throw Object.assign(new Error('The file is short'), { code: 'EIO' });
      description.update(memory.subarray(0, bytesRead));
      position += bytesRead;
    }
  }
}

/** What is left of the blocks when so many bytes of them are written. */
function after(blocks, bytes) {
  let first = 0;
  while (first < blocks.length && bytes >= blocks[first].length) bytes -= blocks[first++].length;
  const rest = blocks.slice(first);
  if (bytes > 0) rest[0] = rest[0].subarray(bytes);
  return rest;
}
