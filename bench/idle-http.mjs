/**
 * Memory of http connections that wait for the next request: each has been answered once.
 */
import { script } from './support/children.mjs';
import { measureIdleHttp, rowOf } from './support/load.mjs';

const uring = 'over a port, io_uring';
const epoll = 'over a port, epoll';
const own = 'node:http';
const server = (options) => script('node-server.mjs', { kind: 'http', patient: true, ...options });

export default {
  name: 'idle-http',
  title: 'Idle http connections',
  scriptsOnly: true,
  metrics: ['resident'],
  picture: 'resident',
  unit: 'resident bytes per connection',
  rows: [rowOf(5000)],
  quick: rowOf(1000),
  contestants: {
    [uring]: { server: server({ over: true, driver: 'io_uring' }) },
    [epoll]: { server: server({ over: true, driver: 'epoll' }) },
    [own]: { server: server({}) },
  },
  targets: [
    { metric: 'resident', subject: uring, against: own, atMost: 1 },
    { metric: 'resident', subject: epoll, against: own, atMost: 1 },
  ],
  measure: ({ server: program }, { connections }, { most }) =>
    measureIdleHttp(program, { connections: Math.min(connections, most) }),
};
