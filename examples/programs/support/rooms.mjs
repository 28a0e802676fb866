/**
 * Who is in which room: keys of connections in memory that all threads share. A place is taken by
 * compare-and-swap and given up by whoever has it, so no lock is needed, and a thread that dies leaves
 * nothing half done.
 */
const FREE = 0; // no connection has this key

export class Rooms {
  static create(rooms = 256, places = 2048) {
    return { memory: new SharedArrayBuffer(rooms * (places + 1) * 4), places };
  }

  #places;
  /** Of each room: how many places were ever taken, and the keys. */
  #words;
  #size;

  constructor({ memory, places }) {
    this.#places = places;
    this.#size = places + 1;
    this.#words = new Int32Array(memory);
  }

  /** The place that is now the member's; -1: there is none. */
  enter(room, key) {
    const at = room * this.#size;
    if (at >= this.#words.length) return -1;
    for (let place = 0; place < this.#places; place++) {
      if (Atomics.compareExchange(this.#words, at + 1 + place, FREE, key | 0) !== FREE) continue;
      this.#grow(at, place + 1);
      return place;
    }
    return -1;
  }

  leave(room, place) {
    if (place >= 0) Atomics.store(this.#words, room * this.#size + 1 + place, FREE);
  }

  /** Their keys. One that comes or leaves at this moment is among them, or not. */
  members(room) {
    const at = room * this.#size;
    const count = Atomics.load(this.#words, at);
    const keys = new Uint32Array(count);
    let found = 0;
    for (let place = 0; place < count; place++) {
      const key = Atomics.load(this.#words, at + 1 + place);
      if (key !== FREE) keys[found++] = key;
    }
    return keys.subarray(0, found);
  }

  /** Places below `count` are looked at. */
  #grow(at, count) {
    let known = Atomics.load(this.#words, at);
    while (known < count) {
      const before = Atomics.compareExchange(this.#words, at, known, count);
      if (before === known) return;
      known = before;
    }
  }
}
