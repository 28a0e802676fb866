/**
 * The files below a directory that a thread has open, so that a request need not open one. Each is
 * opened again after a second, and so seen as it is then; those that were not asked for longest go
 * first. Short ones are kept in memory.
 */
import { constants } from 'node:fs';
import { realpath } from 'node:fs/promises';
import path from 'node:path';

const MOST = 1000;
const AGE = 1000;
/** Up to so many bytes, to send a copy costs less than to send from the file. */
const SHORT = 32 * 1024;

const types = {
  css: 'text/css; charset=utf-8',
  gif: 'image/gif',
  html: 'text/html; charset=utf-8',
  jpg: 'image/jpeg',
  js: 'text/javascript; charset=utf-8',
  json: 'application/json',
  md: 'text/markdown; charset=utf-8',
  mjs: 'text/javascript; charset=utf-8',
  pdf: 'application/pdf',
  png: 'image/png',
  svg: 'image/svg+xml',
  txt: 'text/plain; charset=utf-8',
  wasm: 'application/wasm',
};

export class OpenFiles {
  #port;
  #root;
  #entries = new Map();
  #opening = new Map();

  constructor(port, root) {
    this.#port = port;
    this.#root = root;
  }

  /** What a path names: at once, or a promise; `{ status }` where there is no file to be had. */
  get(name) {
    const entry = this.#entries.get(name);
    if (entry !== undefined) {
      if (performance.now() - entry.opened < AGE) return entry;
      this.#drop(name, entry);
    }
    let opening = this.#opening.get(name);
    if (opening === undefined) {
      opening = this.#open(name).finally(() => this.#opening.delete(name));
      this.#opening.set(name, opening);
    }
    return opening;
  }

  async close() {
    await Promise.allSettled(this.#opening.values());
    for (const [name, entry] of this.#entries) this.#drop(name, entry);
  }

  /** Answers that are under way keep the file. */
  #drop(name, { file }) {
    this.#entries.delete(name);
    file.close().catch((error) => console.error(error));
  }

  /** `{ status }` where there is no file to be had. */
  async #open(name) {
    let file;
    try {
      const place = await realpath(
        path.join(this.#root, name.endsWith('/') ? `${name}index.html` : name),
      );
      const within = path.relative(this.#root, place);
      if (within.startsWith('..') || path.isAbsolute(within)) return { status: 404 }; // a link that leads out
      // A FIFO would wait for a writer.
      file = await this.#port.open(place, constants.O_RDONLY | (constants.O_NONBLOCK ?? 0));
      const status = await file.stat();
      if (!status.isFile()) {
        await file.close();
        return { status: status.isDirectory() && name !== '/' ? 301 : 404 };
      }
      const entry = await describe(file, status, place);
      this.#entries.set(name, entry);
      if (this.#entries.size > MOST) this.#drop(...this.#entries.entries().next().value);
      return entry;
    } catch (error) {
      await file?.close();
      if (error.code === undefined) throw error;
      return { status: statuses[error.code] ?? 500 };
    }
  }
}

const statuses = {
  EACCES: 403,
  ELOOP: 404,
  EMFILE: 503,
  ENAMETOOLONG: 404,
  ENFILE: 503,
  ENOENT: 404,
  ENOTDIR: 404,
  ENXIO: 404,
  ERR_MEMORY_LIMIT: 503,
};

async function describe(file, { size, mtimeMs }, place) {
  const modified = Math.floor(mtimeMs / 1000) * 1000;
  const lastModified = new Date(modified).toUTCString();
  const etag = `"${Math.round(mtimeMs * 1000).toString(36)}-${size.toString(36)}"`;
  const type = types[path.extname(place).slice(1)];
  const described =
    `Content-Type: ${type ?? 'application/octet-stream'}\r\nLast-Modified: ${lastModified}\r\n` +
    `ETag: ${etag}\r\nAccept-Ranges: bytes\r\n`;
  const contents = size <= SHORT ? await file.readFile() : undefined;
  // It may have become another one meanwhile: what is said of it is to be true of what is sent.
  const kept = contents?.length === size ? contents : undefined;
  return {
    file,
    size,
    modified,
    lastModified,
    etag,
    described,
    contents: kept,
    opened: performance.now(),
  };
}
