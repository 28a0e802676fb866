/**
 * Connections made, used for one byte and reset, per second.
 */
import { script } from './support/children.mjs';
import { measureAccepts } from './support/load.mjs';

const ours = 'ours, io_uring, packets';

export default {
  name: 'accepts',
  title: 'Accepts',
  metrics: ['rate', 'p50', 'p99', 'cpu'],
  picture: 'rate',
  unit: 'connections per second',
  rows: [{ name: '64 at a time', connections: 64 }],
  contestants: {
    [ours]: { server: script('echo-ours.mjs', { driver: 'io_uring', style: 'packets' }) },
    'ours, epoll, packets': {
      server: script('echo-ours.mjs', { driver: 'epoll', style: 'packets' }),
    },
    'node:net': { server: script('echo-net.mjs') },
  },
  targets: [{ metric: 'rate', subject: ours, against: 'node:net', atLeast: 2 }],
  measure: ({ server }, { connections }, times) => measureAccepts(server, { connections }, times),
};
