/**
 * Tasks that go from state to state, so many times for each message that they send themselves.
 */
import { defineStage, Pipeline } from 'completion-port/stages';
import { readOptions } from '../options.mjs';
import { report, Stopwatch } from '../stopwatch.mjs';

const TASKS = 64;

const { trace, perPacket, ...times } = readOptions();
const watch = new Stopwatch({ ...times, every: 512 });
let left = 0;

function goOn(c, next) {
  if (!watch.count()) {
    report(watch.result);
    process.exit();
  }
  if (left-- > 0) return next;
  c.post();
  return undefined;
}

function message(c, next) {
  left = perPacket;
  return goOn(c, next);
}

const stage = defineStage({
  states: {
    one: { entered: (c) => goOn(c, 'other'), posted: (c) => message(c, 'other') },
    other: { entered: (c) => goOn(c, 'one'), posted: (c) => message(c, 'one') },
  },
});
const pipeline = new Pipeline({ here: { stage, threads: 0 } }, { trace });
await pipeline.ready();
for (let i = 0; i < TASKS; i++) pipeline.start('here');
