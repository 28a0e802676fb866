/**
 * One plot: some series over the last minutes, lines or a stack, and a legend that tells the values
 * under the pointer, or else the latest.
 */
import uPlot from 'uplot';

const HEIGHT = 150;
/** All plots show the same time under the pointer. */
const sync = uPlot.sync('samples');

function css(name) {
  return getComputedStyle(document.documentElement).getPropertyValue(name).trim();
}

/** The sums that the tops of a stack are drawn at. */
function stack(columns) {
  const sums = new Array(columns[0]?.length ?? 0).fill(0);
  return columns.map((column) => column.map((value, i) => (sums[i] += value ?? 0)));
}

export class Chart {
  #plot;
  #values;
  #columns = [];
  #spec;
  #box;

  /**
   * `spec`: `{ title, names, colors, format, stacked, stepped }`; colours are custom properties of
   * CSS.
   */
  constructor(parent, spec) {
    this.#spec = spec;
    this.#box = document.createElement('figure');
    const caption = document.createElement('figcaption');
    caption.textContent = spec.title;
    this.#box.append(caption, this.#makeLegend());
    parent.append(this.#box);
    this.#plot = new uPlot(this.#options(), [[], ...spec.names.map(() => [])], this.#box);
    new ResizeObserver(() => this.#fit()).observe(this.#box);
  }

  /** `columns`: one array of values for each name. */
  update(times, columns) {
    this.#columns = columns;
    this.#plot.setData([times, ...(this.#spec.stacked ? stack(columns) : columns)]);
    this.#tell(this.#plot.cursor.idx);
  }

  #makeLegend() {
    const legend = document.createElement('ul');
    this.#values = this.#spec.names.map((name, i) => {
      const item = document.createElement('li');
      const swatch = document.createElement('i');
      swatch.style.background = `var(${this.#spec.colors[i]})`;
      const value = document.createElement('b');
      item.append(swatch, `${name} `, value);
      legend.append(item);
      return value;
    });
    return legend;
  }

  #tell(index) {
    const at = index ?? (this.#columns[0]?.length ?? 0) - 1;
    this.#values.forEach((value, i) => {
      const number = this.#columns[i]?.[at];
      value.textContent = number === null || number === undefined ? '–' : this.#spec.format(number);
    });
  }

  #options() {
    const { names, colors, format, stacked, stepped } = this.#spec;
    const axis = {
      stroke: () => css('--faint'),
      grid: { stroke: () => css('--grid'), width: 1 },
      ticks: { show: false },
      font: '11px system-ui, sans-serif',
    };
    const series = names.map((label, i) => ({
      label,
      width: 1.5,
      stroke: () => css(colors[i]),
      fill:
        stacked || names.length === 1 ? () => `${css(colors[i])}${stacked ? 'b0' : '30'}` : null,
      points: { show: false },
      paths: stepped ? uPlot.paths.stepped({ align: 1 }) : undefined,
    }));
    const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString('en-GB');
    const time = { ...axis, size: 26, space: 80, values: (_plot, ticks) => ticks.map(clock) };
    return {
      width: 300,
      height: HEIGHT,
      legend: { show: false },
      cursor: { sync: { key: sync.key }, y: false, drag: { setScale: false, x: false } },
      scales: { y: { range: (_plot, _least, most) => [0, most > 0 ? most * 1.1 : 1] } },
      axes: [time, { ...axis, size: 54, values: (_plot, ticks) => ticks.map(format) }],
      series: [{}, ...series],
      // The upper edge of each area down to the one below it.
      bands: stacked ? names.slice(1).map((_, i) => ({ series: [i + 2, i + 1] })) : [],
      hooks: { setCursor: [(plot) => this.#tell(plot.cursor.idx)] },
    };
  }

  #fit() {
    const width = Math.floor(this.#box.clientWidth);
    if (width > 0 && width !== this.#plot.width) this.#plot.setSize({ width, height: HEIGHT });
  }

  /** Colours are read when it is drawn. */
  redraw() {
    this.#plot.redraw(false, true);
  }
}
