/**
 * What a micro-thread costs by itself: CPU time from its spawn to its end, and memory while it sleeps.
 */
import { run, script } from './support/children.mjs';

const kinds = { 'spawn, run and end': 'empty', 'spawn, wait and end': 'waits' };

export default {
  name: 'spawns',
  title: 'Micro-threads and async functions',
  metrics: ['cpu', 'resident'],
  picture: 'cpu',
  unit: 'CPU µs',
  scriptsOnly: true,
  rows: [
    ...Object.entries(kinds).map(([name, kind]) => ({ name, kind })),
    { name: '100,000 asleep', kind: 'asleep' },
  ],
  smoke: () => true,
  contestants: {
    'micro-threads': { style: 'micro' },
    'async functions': { style: 'async' },
    effection: { style: 'effection' },
  },
  targets: [],
  measure: ({ style }, { kind }, { warmUp, seconds }) =>
    run(script('spawns.mjs', { style, kind, warmUp, seconds })),
};
