/**
 * Results as pictures: one SVG for each benchmark.
 */
import * as Plot from '@observablehq/plot';
import { parseHTML } from 'linkedom';
import { series } from './curves.mjs';
import { metrics } from './metrics.mjs';

const OURS = '#2563eb';
const OTHERS = '#94a3b8';
const BAR = 18;
const LETTER = 6.5;
/** Height of a facet with lines. */
const CURVE = 150;
const LEGEND_LINE = 14;
const LEFT = 40;
const COLOURS = [
  ...['#2563eb', '#16a34a', '#7c3aed', '#0891b2', '#db2777', '#d97706'],
  ...['#94a3b8', '#1e293b', '#65a30d'],
];

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

/** Each series has a scale of its own. */
function pointsOf(rows, metric) {
  const measured = rows.flatMap(({ series, threads, contestants }) =>
    contestants
      .filter((contestant) => contestant.metrics[metric] !== undefined)
      .map(({ name, metrics: { [metric]: spread } }) => ({ series, threads, name, ...spread })),
  );
  const greatest = Math.max(...measured.map(({ max }) => max));
  return measured.map(({ series, threads, name, median, min, max }) => ({
    ...{ series, threads, name, label: metrics[metric].show(median) },
    ...{ value: median / greatest, min: min / greatest, max: max / greatest },
  }));
}

function longestLine(lines) {
  return LETTER * Math.max(...lines.map((line) => line.length));
}

/** Plot's own is HTML, which a picture has not. */
function legend(names, facet) {
  return names.map((name, i) =>
    Plot.text([name], {
      ...{ frameAnchor: 'top-left', fy: () => facet, fill: () => name, fontSize: 11 },
      ...{ dx: -LEFT + 16, dy: (i - names.length) * LEGEND_LINE - 4 },
    }),
  );
}

/** A work that more and more threads do: a line for each contestant. */
function drawCurve(benchmark, result, metric) {
  const data = series(result.rows).flatMap((rows) => pointsOf(rows, metric));
  if (data.length === 0) return undefined;
  const { document } = parseHTML('<html><body></body></html>');
  const names = [...new Set(data.map(({ name }) => name))];
  const works = [...new Set(data.map(({ series }) => series))];
  const marginTop = 36 + names.length * LEGEND_LINE;
  const ends = data.filter(
    ({ series, name, threads }) =>
      !data.some((o) => o.series === series && o.name === name && o.threads > threads),
  );
  const svg = Plot.plot({
    document,
    width: 760,
    height: marginTop + 40 + works.length * CURVE,
    marginLeft: LEFT,
    marginRight: longestLine(works) + 16,
    marginTop,
    marginBottom: 40,
    style: { background: 'white', color: '#0f172a', fontFamily: 'system-ui, sans-serif' },
    x: {
      ...{ type: 'log', base: 2, label: 'threads', insetLeft: 10, insetRight: 60 },
      ...{ ticks: [...new Set(data.map(({ threads }) => threads))], tickFormat: 'd' },
    },
    y: { axis: null, domain: [0, 1.05] },
    fy: { axis: 'right', label: null, domain: works },
    color: { domain: names, range: COLOURS },
    marks: [
      Plot.ruleY([0]),
      Plot.lineY(data, { x: 'threads', y: 'value', z: 'name', fy: 'series', stroke: 'name' }),
      Plot.ruleX(data, { x: 'threads', y1: 'min', y2: 'max', fy: 'series', stroke: 'name' }),
      Plot.dot(data, { x: 'threads', y: 'value', fy: 'series', fill: 'name', r: 3 }),
      Plot.text(ends, {
        ...{ x: 'threads', y: 'value', fy: 'series', text: 'label', fill: 'name' },
        ...{ textAnchor: 'start', dx: 6 },
      }),
      titleOf(benchmark, metric, works[0], { dx: -LEFT + 16, dy: 14 - marginTop }),
      ...legend(names, works[0]),
    ],
  });
  return textOf(svg);
}

/** The SVG's text; undefined when nothing of it was measured. */
export function drawPicture(benchmark, result) {
  const metric = benchmark.picture;
  if (metric === undefined) return undefined;
  if (benchmark.rows[0].series !== undefined) return drawCurve(benchmark, result, metric);
  return drawBars(benchmark, result, metric);
}

function titleOf(benchmark, metric, facet, { dx, dy }) {
  const better = metrics[metric].more ? 'more is better' : 'less is better';
  return Plot.text([`${benchmark.title}: ${benchmark.unit} (${better})`], {
    ...{ frameAnchor: 'top-left', fy: () => facet, dx, dy, fontWeight: 'bold', fontSize: 12 },
  });
}

function textOf(svg) {
  svg.setAttribute('xmlns', 'http://www.w3.org/2000/svg');
  return `${svg.outerHTML}\n`;
}

function drawBars(benchmark, result, metric) {
  const data = result.rows.flatMap((row) => barsOfRow(row, metric));
  if (data.length === 0) return undefined;
  const { document } = parseHTML('<html><body></body></html>');
  const names = new Set(data.map((bar) => bar.name)).size;
  const rows = new Set(data.map((bar) => bar.row)).size;
  const marginLeft = longest(data, 'name') + 16;
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
      titleOf(benchmark, metric, data[0].row, { dx: -marginLeft + 16, dy: -22 }),
    ],
  });
  return textOf(svg);
}
