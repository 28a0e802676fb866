/**
 * Runs rows: the contestants one after the other, and again backwards, A B B A, so that a change of
 * the machine's mood hits all of them, also one that goes on.
 */
import { NotMeasured } from './children.mjs';
import { quartiles, spread } from './statistics.mjs';

class Contestant {
  results = [];
  status = 'measured';
  reason = undefined;

  constructor(name, definition) {
    this.name = name;
    this.definition = definition;
  }

  async round(benchmark, row, times) {
    if (this.status !== 'measured') return;
    try {
      this.results.push(await benchmark.measure(this.definition, row, times));
    } catch (error) {
      this.status = error instanceof NotMeasured ? 'not measured' : 'failed';
      this.reason = error.message;
    }
  }

  /** Half of the rounds are as good as none: what failed once has failed. */
  summary(metrics) {
    const { name, status, reason, results } = this;
    if (status !== 'measured') return { name, status, reason, metrics: {} };
    const summarized = metrics.map((metric) => {
      const values = results.map((result) => result[metric] ?? NaN);
      const summary = spread(values);
      return [metric, summary && { ...summary, values }];
    });
    return { name, status, metrics: Object.fromEntries(summarized) };
  }
}

/** Rounds of which both values are known, as ratios; without `against` the values themselves. */
function ratios(subject, against, metric) {
  const ours = subject?.metrics[metric]?.values ?? [];
  if (against === undefined) return ours;
  const theirs = against?.metrics[metric]?.values ?? [];
  return ours.map((value, round) => value / theirs[round]);
}

/** Took no part in the row. */
const nobody = { metrics: {} };

function judge(target, contestants) {
  const { subject, against, metric, atMost, atLeast } = target;
  const find = (name) => contestants.find((contestant) => contestant.name === name);
  const other = against && (find(against) ?? nobody);
  const values = ratios(find(subject), other, metric);
  const ratio = spread(values);
  const goal = { subject, against, metric, atMost, atLeast };
  if (ratio === undefined) return { ...goal, verdict: 'not measured' };
  const reached = atMost === undefined ? ratio.median >= atLeast : ratio.median <= atMost;
  const verdict = reached ? 'reached' : 'not reached';
  return { ...goal, verdict, ratio: { ...ratio, quartiles: quartiles(values) } };
}

function takingPart(benchmark, row) {
  return Object.entries(benchmark.contestants)
    .filter(([, definition]) => definition.only?.(row) ?? true)
    .map(([name, definition]) => new Contestant(name, definition));
}

function summarize(benchmark, { row, contestants }) {
  const summaries = contestants.map((contestant) => contestant.summary(benchmark.metrics));
  const targets = benchmark.targets
    .filter(({ only }) => only?.(row) ?? true)
    .map((target) => judge(target, summaries));
  const { name, series, threads } = row;
  return { name, series, threads, contestants: summaries, targets };
}

/** Resolves to what was measured in rows that are compared, and which targets are reached. */
export async function runRows(benchmark, rows, { rounds, times, onStep }) {
  const entries = rows.map((row) => ({ row, contestants: takingPart(benchmark, row) }));
  const forwards = entries.flatMap(({ row, contestants }) =>
    contestants.map((contestant) => ({ row, contestant })),
  );
  const backwards = forwards.toReversed();
  for (let round = 0; round < rounds; round++) {
    for (const { row, contestant } of round % 2 === 0 ? forwards : backwards) {
      onStep(row, contestant.name, round);
      await contestant.round(benchmark, row, times);
    }
  }
  return entries.map((entry) => summarize(benchmark, entry));
}
