/**
 * Frames: a 4-byte big-endian length, and so many bytes.
 */

const HEADER = 4;
const nothing = Buffer.alloc(0);

/** One frame that holds `value` as JSON. */
export function jsonFrame(value) {
  const text = JSON.stringify(value);
  const frame = Buffer.allocUnsafe(HEADER + Buffer.byteLength(text));
  frame.writeUInt32BE(frame.length - HEADER, 0);
  frame.write(text, HEADER);
  return frame;
}

/**
 * Takes frames from a connection. Inside of a frame, waiting for bytes ends with ETIMEDOUT after
 * `timeout` milliseconds; between frames a connection may be idle as long as it likes, and holds no
 * memory.
 */
export class FrameReader {
  #socket;
  #timeout;
  /** Received, and not yet taken: what comes after the header, or behind the end of a frame. */
  #rest = nothing;

  constructor(socket, timeout) {
    this.#socket = socket;
    this.#timeout = { timeout };
  }

  /** Whether a whole frame is here, so that nothing has to be waited for. */
  get hasFrame() {
    const rest = this.#rest;
    return rest.length >= HEADER && rest.length - HEADER >= rest.readUInt32BE(0);
  }

  /** The length of the next frame; undefined at the end of the stream. */
  async next() {
    if (this.#rest.length === 0) this.#rest = await this.#socket.receive();
    while (this.#rest.length < HEADER) {
      if (this.#rest.length === 0) return undefined;
      const more = await this.#socket.receive(this.#timeout);
      if (more.length === 0) return undefined;
      this.#rest = Buffer.concat([this.#rest, more]);
    }
    return this.#take(HEADER).readUInt32BE(0);
  }

  /** All of the frame, without waiting, when it is here. */
  whole(length) {
    return this.#rest.length >= length ? this.#take(length) : undefined;
  }

  /** Receives some of the frame into `memory`: the number of bytes, 0 at the end of the stream. */
  async read(memory) {
    if (this.#rest.length === 0) return this.#socket.receive(memory, this.#timeout);
    const bytes = this.#take(Math.min(memory.length, this.#rest.length));
    memory.set(bytes);
    return bytes.length;
  }

  #take(length) {
    const bytes = this.#rest.subarray(0, length);
    this.#rest = this.#rest.length === length ? nothing : this.#rest.subarray(length);
    return bytes;
  }
}
