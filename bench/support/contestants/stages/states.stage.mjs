/**
 * Many states; a task goes from one to another at random, and has itself called again. In each the
 * handler works on memory of that state, if there is any.
 */
import { defineStage } from 'completion-port/stages';

const STATES = 32;
/** What is looked at of a state's memory for a packet. */
const LOOKS = 256;

export default function ({ table }) {
  const names = Array.from({ length: STATES }, (_, i) => `s${i}`);
  const stateOf = () => {
    const memory = new Uint32Array(table / 4).map((_, i) => i * 2654435761);
    return {
      posted(c, value) {
        let random = c.record.random ^ value;
        if (table > 0) {
          // One after another, as in a parser's or a router's tables: the next place is known late.
          for (let i = 0; i < LOOKS; i++) random ^= memory[(random + i) & (memory.length - 1)];
        }
        random = (Math.imul(random >>> 0, 1664525) + 1013904223) >>> 0;
        c.record.random = random;
        c.post();
        return names[random >>> 27];
      },
    };
  };
  return defineStage({
    record: { random: 'u32' },
    states: Object.fromEntries(names.map((name) => [name, stateOf()])),
  });
}
