/** Numbers from a seed, the same in every run. */
export class Random {
  constructor(seed) {
    this.state = seed >>> 0 || 1;
  }
  /** An integer from 0 to `end` - 1: xorshift. */
  below(end) {
    this.state ^= this.state << 13;
    this.state ^= this.state >>> 17;
    this.state = (this.state ^ (this.state << 5)) >>> 0;
    return this.state % end;
  }
  pick(list) {
    return list[this.below(list.length)];
  }
}
