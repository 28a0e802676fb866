/**
 * Pools of threads: what a task costs that does nothing, and how long bytes take there and back.
 */
import { run, script } from './support/children.mjs';

const MiB = 2 ** 20;
const ours = 'ours';
const others = ['piscina', 'tinypool', 'poolifier'];
const empty = (row) => row.kind === 'empty';
const bytes = (row) => row.kind === 'bytes';
const many = (row) => row.inFlight === 64;
const single = (row) => row.inFlight === 1;

const contestant = (library, only) => ({ library, ...(only && { only }) });

const against = (names, atLeast, only, metric = 'rate') =>
  names.map((name) => ({ metric, subject: ours, against: name, atLeast, only }));

export default {
  name: 'pool',
  title: 'A task in another thread, two threads',
  metrics: ['rate', 'cpu'],
  picture: 'rate',
  unit: 'tasks per second',
  scriptsOnly: true,
  rows: [
    { name: 'empty, 64 under way', kind: 'empty', inFlight: 64 },
    { name: 'empty, one after the other', kind: 'empty', inFlight: 1 },
    { name: '1 MiB there and back', kind: 'bytes', size: MiB },
  ],
  smoke: () => true,
  contestants: {
    [ours]: contestant('ours'),
    'ours, yield*': contestant('micro', empty),
    'ours, copied': contestant('copied', bytes),
    ...Object.fromEntries(others.map((name) => [name, contestant(name)])),
  },
  targets: [
    ...against(['piscina'], 5, many),
    ...against(['tinypool', 'poolifier'], 2, many),
    ...against(['piscina'], 3, single),
    ...against(others, 1, bytes),
    { metric: 'cpu', subject: 'ours, yield*', atMost: 20, only: empty },
  ],
  measure: ({ library }, { kind, inFlight = 1, size = 0 }, { warmUp, seconds }) =>
    run(script('pool.mjs', { library, kind, inFlight, size, warmUp, seconds })),
};
