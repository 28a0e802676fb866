/**
 * A log whose lines are on the device before anybody is told; one write and one fdatasync for all
 * that were appended while the last ones were under way (group commit).
 */

const LF = Buffer.from('\n');

export class DurableLog {
  #file;
  #torn;
  #waiting = [];
  #flushing = false;

  /**
   * `file`: open for appending, of a port or of node:fs. `torn`: its last line has no end, because a
   * process was killed over it; what is appended begins behind an end of its own.
   */
  constructor(file, torn = false) {
    this.#file = file;
    this.#torn = torn;
  }

  close() {
    return this.#file.close();
  }

  /** Resolves when `bytes` are on the device. They are not to be changed until then. */
  append(bytes) {
    return new Promise((resolve, reject) => {
      this.#waiting.push({ bytes, resolve, reject });
      if (!this.#flushing) void this.#flush();
    });
  }

  async #flush() {
    this.#flushing = true;
    while (this.#waiting.length > 0) {
      const batch = this.#waiting;
      this.#waiting = [];
      try {
        const parts = batch.map(({ bytes }) => bytes);
        await this.#file.writev(this.#torn ? [LF, ...parts] : parts);
        this.#torn = false;
        await this.#file.datasync();
        for (const { resolve } of batch) resolve();
      } catch (error) {
        this.#torn = true; // some of it may have been written
        for (const { reject } of batch) reject(error);
      }
    }
    this.#flushing = false;
  }
}
