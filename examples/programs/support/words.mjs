/**
 * Lines and words as `wc -l` and `wc -w` count them in the C locale: words are separated by white
 * space, and what has no printable character is no word. Bytes from 128 on are not printable there.
 */
const NEITHER = 2;
const kinds = new Uint8Array(256).fill(NEITHER);
kinds.fill(1, 0x21, 0x7f); // printable: in a word
for (const space of '\t\n\v\f\r ') kinds[space.charCodeAt(0)] = 0;

const NEWLINE = 10;

export class WordCount {
  lines = 0;
  words = 0;
  /** 1 when the last byte that says something was part of a word. */
  #inWord = 0;

  update(bytes) {
    let { lines, words } = this;
    let inWord = this.#inWord;
    for (let i = 0; i < bytes.length; i++) {
      const byte = bytes[i];
      const kind = kinds[byte];
      if (byte === NEWLINE) lines++;
      if (kind === NEITHER) continue;
      words += kind & ~inWord;
      inWord = kind;
    }
    this.lines = lines;
    this.words = words;
    this.#inWord = inWord;
  }
}
