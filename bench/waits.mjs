/**
 * What it costs that each packet is counted with the time it waited: packets through the dispatcher
 * alone, counted once, as they always are, and ten times more.
 */
import { native, run } from './support/children.mjs';

const counting = (more) => ({
  async measure({ seconds }) {
    const { ns_per_packet: nanoseconds } = await run(native('waits', { more, seconds }));
    return { nanoseconds };
  },
});

export default {
  name: 'waits',
  title: 'Counting how long packets waited',
  metrics: ['nanoseconds'],
  rows: [{ name: 'a packet queued, taken and done' }],
  contestants: { 'as it is': counting(0), 'counted ten times more': counting(10) },
  targets: [],
  measure: ({ measure }, _row, times) => measure(times),
};
