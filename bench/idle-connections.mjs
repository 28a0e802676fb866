/**
 * Memory of connections that wait for bytes. Each has echoed one before.
 */
import { script } from './support/children.mjs';
import { measureIdle, rowOf } from './support/load.mjs';

const ours = 'ours, io_uring, packets';

export default {
  name: 'idle-connections',
  title: 'Idle connections',
  metrics: ['resident'],
  picture: 'resident',
  unit: 'resident bytes per connection',
  rows: [rowOf(10_000)],
  quick: rowOf(3000),
  contestants: {
    [ours]: { server: script('echo-ours.mjs', { driver: 'io_uring', style: 'packets' }) },
    'ours, epoll, packets': {
      server: script('echo-ours.mjs', { driver: 'epoll', style: 'packets' }),
    },
    'node:net': { server: script('echo-net.mjs') },
  },
  targets: [{ metric: 'resident', subject: ours, against: 'node:net', atMost: 0.2 }],
  measure: ({ server }, { connections }, { most }) =>
    measureIdle(server, { connections: Math.min(connections, most) }),
};
