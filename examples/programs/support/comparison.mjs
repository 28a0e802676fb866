/**
 * Two servers under the same load: first what each takes at most, then both at a rate that the
 * slower one takes easily, in turns, so that what else the machine does meets both.
 */
import { Table } from 'console-table-printer';
import { measureRun, startLoad, startServer } from './spool-measure.mjs';

const MiB = 2 ** 20;
/** Documents that a server which has just started answers before anything counts, or seconds. */
const FIRST = { documents: 128, underWay: 16, seconds: 20 };
/** Seconds at the beginning of a round that don't count. */
const WARM_UP = 0.2;
const ROUNDS = 3;
/** Documents under way at a time while it is found out what a server takes at most. */
const UNDER_WAY = 64;
/** Of what the slower server takes at most. */
const SHARE = 0.5;

/** Starts the servers, connects the clients of each, calls `use`, and ends all of it. */
async function withServers(programs, work, use) {
  const load = startLoad();
  const servers = [];
  for (const { name, ...program } of programs) {
    const server = await startServer(program);
    await load.connect(name, { ...work, port: server.port });
    await load.run(name, FIRST);
    servers.push({ name, server });
  }
  const result = await use(servers, (name, server, run, onProgress) =>
    measureRun(load, name, server, run, onProgress),
  );
  for (const { name, server } of servers) {
    await load.end(name);
    await server.stop();
  }
  await load.stop();
  return result;
}

/** Results by server. */
function most(programs, work, seconds, progress) {
  return withServers(programs, work, async (servers, measure) => {
    const results = {};
    for (const { server } of servers) console.log(server.ready);
    for (const { name, server } of servers) {
      const show = progress(`${name}, as much as it takes`);
      const run = { underWay: UNDER_WAY, warmUp: WARM_UP, seconds };
      results[name] = await measure(name, server, run, show);
    }
    return results;
  });
}

/** Rounds by server, and one each without the slow clients. */
function atRate(programs, work, { rate, seconds }, progress) {
  return withServers(programs, work, async (servers, measure) => {
    const results = Object.fromEntries(servers.map(({ name }) => [name, { rounds: [] }]));
    for (let round = 1; round <= ROUNDS; round++) {
      for (const { name, server } of servers) {
        const show = progress(`${name}, round ${round} of ${ROUNDS}`);
        const run = { rate, seconds, warmUp: WARM_UP };
        results[name].rounds.push(await measure(name, server, run, show));
      }
    }
    for (const { name, server } of servers) {
      const run = { rate, seconds, warmUp: WARM_UP, calm: true };
      const show = progress(`${name}, without the slow clients`);
      results[name].calm = await measure(name, server, run, show);
    }
    return results;
  });
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[sorted.length >> 1];
}

const inRounds = (value) => (of) => median(of.rounds.map(value));
const figures = [
  ['p50 of an answer, ms', inRounds(({ p50 }) => p50), 'less'],
  ['p99 of an answer, ms', inRounds(({ p99 }) => p99), 'less'],
  ['p99, no slow clients, ms', ({ calm }) => calm.p99, 'less'],
  ['CPU for a document, µs', inRounds(({ cpu }) => cpu), 'less'],
  ['JavaScript calls a document', inRounds(({ wakeUps }) => wakeUps), 'less'],
  ['resident memory, MiB', inRounds(({ resident }) => resident / MiB), 'less'],
  ['at most, documents a second', ({ most }) => most.documents / most.seconds, 'more'],
];

function tableOf(results) {
  const number = new Intl.NumberFormat('en', { maximumSignificantDigits: 3 });
  const show = (value) =>
    value >= 1000 ? Math.round(value).toLocaleString('en') : number.format(value);
  const table = new Table({
    shouldDisableColors: !process.stdout.isTTY || Boolean(process.env.NO_COLOR),
    columns: [
      { name: 'figure', alignment: 'left' },
      ...results.map(({ name }) => ({ name, alignment: 'right' })),
      { name: 'ratio', alignment: 'right' },
      { name: 'better', alignment: 'left' },
    ],
  });
  for (const [figure, value, better] of figures) {
    const values = results.map(value);
    const cells = Object.fromEntries(results.map(({ name }, i) => [name, show(values[i])]));
    const ratio = values[0] / values[1];
    const shown = Number.isFinite(ratio) ? ratio.toFixed(2) : '–'; // of nothing
    table.addRow({ figure, ...cells, ratio: shown, better });
  }
  return table.render();
}

/**
 * Compares two `programs`, which get `work` to do, and says so on standard output. `settings`: `rate`
 * (documents a second; undefined: half of what the slower one takes), `seconds` of a round;
 * `progress(title)` gives what is called with the numbers meanwhile. Resolves to what each server has
 * answered in all: `{ name, all, wrong, complaints }`.
 */
export async function compare(programs, work, settings, progress) {
  const { seconds } = settings;
  const limits = await most(programs, work, seconds, progress);
  const rates = Object.values(limits).map((limit) => limit.documents / limit.seconds);
  const rate = settings.rate ?? Math.max(1, Math.floor(Math.min(...rates) * SHARE));
  const rated = await atRate(programs, work, { rate, seconds }, progress);
  const results = programs.map(({ name }) => ({ name, ...rated[name], most: limits[name] }));
  console.log(
    `${rate.toLocaleString('en')} documents a second to each` +
      `${settings.rate === undefined ? ', half of what the slower one takes' : ''}; ` +
      `medians of ${ROUNDS} rounds of ${seconds} s, taken in turn`,
  );
  console.log(tableOf(results));
  return results.map(({ name, rounds, calm, most: limit }) =>
    sumOf(name, [...rounds, calm, limit]),
  );
}

function sumOf(name, runs) {
  const sum = (value) => runs.reduce((total, run) => total + value(run), 0);
  return {
    name,
    all: sum(({ all }) => all),
    wrong: sum(({ wrong }) => wrong),
    complaints: runs.flatMap(({ complaints }) => complaints).slice(0, 5),
  };
}
