/**
 * Results as pictures: one SVG for each benchmark.
 */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { metrics } from './metrics.mjs';

const OURS = '#2563eb';
const OTHERS = '#94a3b8';
const BAR = 18;
const LETTER = 6.5;

/** Each row has a scale of its own: one connection and a thousand don't compare. */
function barsOfRow(row, metric) {
  const measured = row.contestants.filter((contestant) => contestant.metrics[metric] !== undefined);
  const longest = Math.max(...measured.map((contestant) => contestant.metrics[metric].max));
  return measured.map(({ name, metrics: { [metric]: spread } }) => ({
    row: row.name,
    name,
    ours: name.startsWith('ours'),
    value: spread.median / longest,
    min: spread.min / longest,
    max: spread.max / longest,
    label: metrics[metric].show(spread.median),
  }));
}

function longest(data, field) {
  return LETTER * Math.max(...data.map((bar) => bar[field].length));
}

/** The SVG's text; undefined when nothing of it was measured. */
export function drawPicture(benchmark, result) {
  const metric = benchmark.picture;
  if (metric === undefined) return undefined;
  const data = result.rows.flatMap((row) => barsOfRow(row, metric));
  if (data.length === 0) return undefined;
  const { document } = parseHTML('<html><body></body></html>');
  const names = new Set(data.map((bar) => bar.name)).size;
  const rows = new Set(data.map((bar) => bar.row)).size;
  const marginLeft = longest(data, 'name') + 16;
  const better = metrics[metric].more ? 'more is better' : 'less is better';
  const svg = Plot.plot({
    document,
    width: 760,
    height: 60 + rows * (names * BAR + 24),
    marginLeft,
    marginRight: longest(data, 'row') + 16,
    marginTop: 36,
    style: { background: 'white', color: '#0f172a', fontFamily: 'system-ui, sans-serif' },
    x: { axis: null, domain: [0, 1], insetRight: 50 },
    y: { label: null, domain: [...new Set(data.map((bar) => bar.name))] },
    fy: { label: null, domain: [...new Set(data.map((bar) => bar.row))] },
    marks: [
      Plot.barX(data, {
        x: 'value',
        y: 'name',
        fy: 'row',
        fill: ({ ours }) => (ours ? OURS : OTHERS),
        insetTop: 2,
        insetBottom: 2,
      }),
      Plot.ruleY(data, { x1: 'min', x2: 'max', y: 'name', fy: 'row', stroke: '#0f172a' }),
      Plot.text(data, {
        x: 'max',
        y: 'name',
        fy: 'row',
        text: 'label',
        textAnchor: 'start',
        dx: 4,
      }),
      Plot.ruleX([0]),
      Plot.text([`${benchmark.title}: ${benchmark.unit} (${better})`], {
        frameAnchor: 'top-left',
        fy: () => data[0].row,
        dy: -22,
        dx: -marginLeft + 16,
        fontWeight: 'bold',
        fontSize: 12,
      }),
    ],
  });
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  return `${svg.outerHTML}\n`;
}
