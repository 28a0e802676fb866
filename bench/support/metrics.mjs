/**
 * What is measured, and how it is shown.
 */

const number = new Intl.NumberFormat('en-US', { maximumSignificantDigits: 3 });

function show(value) {
  if (value >= 1000) return Math.round(Number(value.toPrecision(3))).toLocaleString('en-US');
  return number.format(value);
}

function scaled(factor) {
  return (value) => show(value * factor);
}

/** `more`: whether more is better. */
export const metrics = {
  rate: { title: 'per second', more: true, show },
  throughput: { title: 'GB/s', more: true, show: scaled(1e-9) },
  p50: { title: 'p50 µs', more: false, show },
  p99: { title: 'p99 µs', more: false, show },
  p999: { title: 'p99.9 µs', more: false, show },
  max: { title: 'greatest µs', more: false, show },
  over20: { title: '% over 20 ms', more: false, show },
  over50: { title: '% over 50 ms', more: false, show },
  cpu: { title: 'CPU µs', more: false, show },
  nanoseconds: { title: 'ns', more: false, show },
  cpuPerMiB: { title: 'CPU µs/MiB', more: false, show },
  wakeUps: { title: 'JavaScript called', more: false, show },
  slowEffect: { title: 'p99 with slow ones / without', more: false, show },
  systemCalls: { title: 'system calls', more: false, show },
  spread: { title: 'most / least connections', more: false, show },
  resident: { title: 'resident bytes', more: false, show },
};

/** The median, and between which values it lies when there were several rounds. */
export function showSpread(metric, spread) {
  if (spread === undefined) return 'not measured';
  const { show } = metrics[metric];
  const middle = show(spread.median);
  if (spread.values.length < 2) return middle;
  return `${middle} (${show(spread.min)}–${show(spread.max)})`;
}
