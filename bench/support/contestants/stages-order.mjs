/**
 * A stage of many states, whose batches are run as they come or grouped by state.
 */
import { Pipeline } from 'completion-port/stages';
import { readOptions } from '../options.mjs';
import { observe, report } from '../stopwatch.mjs';

const TASKS = 1000;

async function main() {
  const { order, table, ...times } = readOptions();
  const stage = new URL('./stages/states.stage.mjs', import.meta.url);
  const pipeline = new Pipeline({ work: { stage, threads: 1, order, data: { table } } });
  pipeline.on('failed', ({ error }) => {
    throw error;
  });
  await pipeline.ready();
  // So that each goes ways of its own.
  for (let i = 0; i < TASKS; i++) pipeline.start('work', i);
  report(await observe({ ...times, count: () => pipeline.stats().stages.work.packets }));
  process.exit();
}

await main();
