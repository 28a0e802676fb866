/**
 * A soak as a picture: what the process had, how much it did, and when it was struck.
 */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';

const WIDTH = 900;
const HEIGHT = 520;
const MiB = 2 ** 20;

/** `{ samples: [{ seconds, rss, descriptors, threads, right }], blows: [{ seconds, blow }] }` */
export function drawSoak({ samples, blows }) {
  const { document } = parseHTML('<html><body></body></html>');
  const rate = samples.map(({ right }, i) => {
    const before = samples[Math.max(0, i - 1)];
    const span = samples[i].seconds - before.seconds;
    return span > 0 ? (right - before.right) / span : 0;
  });
  const rows = {
    'memory, MiB': (sample) => sample.rss / MiB,
    descriptors: (sample) => sample.descriptors,
    threads: (sample) => sample.threads,
    'right answers a second': (_, i) => rate[i],
  };
  // Each row has a scale of its own: its largest value is written beside it.
  const points = Object.entries(rows).flatMap(([name, of]) => {
    const all = samples.map(of);
    const most = Math.max(1, ...all);
    const row = `${name}\n(at most ${Math.round(most)})`;
    return samples.map(({ seconds }, i) => ({ row, seconds, value: all[i] / most }));
  });
  const svg = Plot.plot({
    document,
    width: WIDTH,
    height: HEIGHT,
    marginLeft: 150,
    marginBottom: 36,
    style: { background: 'white', fontFamily: 'sans-serif' },
    x: { label: 'seconds', domain: [0, Math.max(1, ...samples.map(({ seconds }) => seconds))] },
    y: { axis: null, domain: [0, 1.05] },
    fy: { axis: null, padding: 0.15, domain: [...new Set(points.map(({ row }) => row))] },
    marks: [
      Plot.ruleX(blows, { x: 'seconds', stroke: '#fca5a5', strokeWidth: 1 }),
      Plot.lineY(points, { fy: 'row', x: 'seconds', y: 'value', stroke: '#2563eb' }),
      Plot.ruleY([0], { stroke: '#cbd5e1' }),
      Plot.text(
        points.filter(({ seconds }) => seconds === samples[0].seconds),
        {
          ...{ fy: 'row', text: 'row', frameAnchor: 'left', dx: -142, textAnchor: 'start' },
          ...{ fontSize: 12, lineHeight: 1.3 },
        },
      ),
    ],
  });
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg'); // or a page shows it as text
  return svg.outerHTML.replace(/\d+\.\d{2,}/g, (number) =>
    String(Number(Number(number).toFixed(1))),
  );
}
