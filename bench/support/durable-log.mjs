/**
 * A log whose lines are on the device before anybody is told; one write and one fdatasync for all
 * that were appended while the last ones were under way. The same for every contestant.
 */
import fs from 'node:fs/promises';

export class DurableLog {
  #file;
  #waiting = [];
  #flushing = false;

  static async open(path) {
    const log = new DurableLog();
    log.#file = await fs.open(path, 'a');
    return log;
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
        await this.#file.writev(batch.map(({ bytes }) => bytes));
        await this.#file.datasync();
        for (const { resolve } of batch) resolve();
      } catch (error) {
        for (const { reject } of batch) reject(error);
      }
    }
    this.#flushing = false;
  }
}
