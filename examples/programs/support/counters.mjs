/**
 * Numbers that all threads of the spool server add to.
 */
const names = ['documents', 'failures', 'bytes'];

export function makeCounters() {
  return new BigUint64Array(new SharedArrayBuffer(names.length * 8));
}

export function count(counters, name, by) {
  Atomics.add(counters, names.indexOf(name), BigInt(by));
}

export function readCounters(counters) {
  return Object.fromEntries(names.map((name, i) => [name, Number(Atomics.load(counters, i))]));
}
