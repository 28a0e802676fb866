/**
 * Numbers as people read them.
 */

const plain = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });
const whole = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

/** 0.25, 7.5, 1,234, 12.3k, 4.56M */
export function count(value) {
  if (value >= 1e6) return `${plain.format(value / 1e6)}M`;
  if (value >= 1e4) return `${plain.format(value / 1e3)}k`;
  return value >= 1000 ? whole.format(value) : plain.format(value);
}

/** Microseconds. */
export function time(microseconds) {
  if (microseconds >= 1e6) return `${plain.format(microseconds / 1e6)} s`;
  if (microseconds >= 1e3) return `${plain.format(microseconds / 1e3)} ms`;
  return `${plain.format(microseconds)} µs`;
}

/** Milliseconds since something happened. */
export function age(milliseconds) {
  const seconds = milliseconds / 1000;
  if (seconds < 60) return `${seconds.toFixed(1)} s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes} min ${Math.floor(seconds % 60)} s`;
  return `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
}

export function bytes(value) {
  if (value < 1024) return `${value} B`;
  const units = ['KiB', 'MiB', 'GiB', 'TiB'];
  const power = Math.min(units.length, Math.floor(Math.log2(value) / 10));
  return `${plain.format(value / 2 ** (10 * power))} ${units[power - 1]}`;
}
