/**
 * What it costs that the last events of each connection are kept: CPU time for each event, with and
 * without. In the first row nearly all of it is the event itself; in the second one each is a message
 * that goes through the port.
 */
import { run, script } from './support/children.mjs';

const kept = (trace) => ({
  async measure({ perPacket }, { warmUp, seconds }) {
    const { cpu } = await run(script('stages-trace.mjs', { trace, perPacket, warmUp, seconds }));
    return { nanoseconds: cpu * 1000 };
  },
});

export default {
  name: 'trace',
  title: 'Events kept or not: 64 tasks, one thread',
  scriptsOnly: true,
  metrics: ['nanoseconds'],
  picture: 'nanoseconds',
  unit: 'CPU ns per event',
  rows: [
    { name: 'a state entered', perPacket: 500 },
    { name: 'a message', perPacket: 0 },
  ],
  smoke: () => true,
  contestants: { 'without a trace': kept(0), 'trace: 31': kept(31), 'trace: 1': kept(1) },
  targets: [],
  measure: ({ measure }, row, times) => measure(row, times),
};
