/**
 * TCP echo: 64 bytes there and back, each connection with one message under way.
 */
import { script } from './support/children.mjs';
import { measureEcho, nativeServer } from './support/load.mjs';

const ours = (driver, style) => () => script('echo-ours.mjs', { driver, style });
const packets = 'ours, io_uring, packets';
const epoll = 'ours, epoll, packets';
const awaited = 'ours, io_uring, await';
const awaitedOnEpoll = 'ours, epoll, await';
const rowOf = (connections) => ({
  name: connections === 1 ? '1 connection' : `${connections} connections`,
  connections,
});
const several = (row) => row.connections > 1;

export default {
  name: 'echo',
  title: 'TCP echo of 64 bytes, one thread',
  metrics: ['rate', 'p50', 'p99', 'p999', 'cpu', 'systemCalls'],
  picture: 'cpu',
  unit: 'CPU µs per message',
  rows: [1, 50, 1000].map(rowOf),
  quick: rowOf(50),
  contestants: {
    [packets]: { server: ours('io_uring', 'packets') },
    [awaited]: { server: ours('io_uring', 'await') },
    [epoll]: { server: ours('epoll', 'packets') },
    [awaitedOnEpoll]: { server: ours('epoll', 'await') },
    'node:net': { server: () => script('echo-net.mjs') },
    'C++, io_uring': { server: (times) => nativeServer('echo_uring', times) },
    'C++, epoll': { server: (times) => nativeServer('echo_epoll', times) },
    'C, libuv': { server: (times) => nativeServer('echo_libuv', times) },
    'our core without Node.js': { server: (times) => nativeServer('echo_core', times) },
  },
  targets: [
    { metric: 'cpu', subject: packets, against: 'C++, io_uring', atMost: 1.05 },
    { metric: 'cpu', subject: packets, against: 'node:net', atMost: 0.55 },
    { metric: 'p99', subject: packets, against: 'node:net', atMost: 1 },
    { metric: 'cpu', subject: epoll, against: 'node:net', atMost: 0.8 },
    { metric: 'cpu', subject: awaited, against: packets, atMost: 1.3, only: several },
    { metric: 'cpu', subject: awaitedOnEpoll, against: epoll, atMost: 1.3, only: several },
  ],
  measure: ({ server }, { connections }, times) =>
    measureEcho(server(times), { connections }, times),
};
