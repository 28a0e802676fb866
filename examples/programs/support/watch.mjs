/**
 * A pipeline at work, in the terminal: a table that is drawn again in place.
 */
import { Table } from 'console-table-printer';
import { createLogUpdate } from 'log-update';

const number = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });

/** The microseconds of nearly all, as people read them. What native threads do is not measured. */
function time({ count, p99: microseconds }) {
  if (count === 0) return '–';
  if (microseconds >= 1e6) return `${number.format(microseconds / 1e6)} s`;
  if (microseconds >= 1e3) return `${number.format(microseconds / 1e3)} ms`;
  return `${number.format(microseconds)} µs`;
}

/** What fits into 80 columns: where the connections of a stage are stands in a line below. */
function tableOf({ stages }, before, seconds) {
  const right = ['connections', 'queue', 'running', 'packets/s', 'p99 wait', 'p99 work'];
  const table = new Table({
    shouldDisableColors: !process.stdout.isTTY || Boolean(process.env.NO_COLOR),
    columns: [
      { name: 'stage', alignment: 'left' },
      ...right.map((name) => ({ name, alignment: 'right', minLen: Math.min(name.length, 8) })),
    ],
  });
  for (const [name, stage] of Object.entries(stages)) {
    const { connections, queueDepth, running, threads, queueing, handling } = stage;
    const packets = stage.packets - (before?.stages[name].packets ?? 0);
    table.addRow({
      stage: name,
      connections: connections.toLocaleString('en'),
      queue: queueDepth.toLocaleString('en'),
      running: `${running} of ${threads}`,
      'packets/s': before === undefined ? '' : Math.round(packets / seconds).toLocaleString('en'),
      'p99 wait': time(queueing),
      'p99 work': time(handling),
    });
  }
  return `${table.render()}\n${Object.entries(stages).map(statesOf).join('\n')}`;
}

function statesOf([name, { states }]) {
  const counts = Object.entries(states)
    .filter(([, count]) => count > 0)
    .map(([state, count]) => `${state || 'on its way'} ${count.toLocaleString('en')}`);
  return `${name}: ${counts.join(', ') || 'nobody'}`;
}

/**
 * Shows what `url` of an inspector says, every `interval` milliseconds, until it is stopped. `footer`
 * gives the line below the table. Where there is no terminal, tables follow each other.
 */
export function watch(url, { interval, footer }) {
  const inPlace = process.stdout.isTTY;
  const draw = inPlace ? createLogUpdate(process.stdout) : undefined;
  const show = (text) => (inPlace ? draw(text) : console.log(text));
  let before;
  let at = 0;
  let timer;
  let stopped = false;
  const turn = async () => {
    try {
      const response = await fetch(new URL('stats.json', url));
      const stats = await response.json();
      const now = performance.now();
      if (stopped) return;
      show(`${tableOf(stats, before, (now - at) / 1000)}\n${footer()}`);
      before = stats;
      at = now;
    } catch (error) {
      if (stopped) return; // the server has ended
      throw error;
    }
    timer = setTimeout(turn, interval);
  };
  void turn();
  return {
    /** The last table stays. */
    stop() {
      stopped = true;
      clearTimeout(timer);
      draw?.done();
    },
  };
}
