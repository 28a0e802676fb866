/**
 * Latency of TCP echo at a fixed rate. It counts from the time a message was to be sent, so a server
 * that stalls, or does not keep up, is not spared.
 */
import { script } from './support/children.mjs';
import { measureEcho } from './support/load.mjs';

const packets = 'ours, io_uring, packets';

export default {
  name: 'latency',
  title: 'Latency of TCP echo at a fixed rate',
  metrics: ['p50', 'p99', 'p999', 'rate', 'cpu', 'systemCalls'],
  picture: 'p99',
  unit: 'p99 in µs',
  rows: [{ name: '10,000 a second, 50 connections', connections: 50, rate: 10_000 }],
  contestants: {
    [packets]: { server: script('echo-ours.mjs', { driver: 'io_uring', style: 'packets' }) },
    'ours, epoll, packets': {
      server: script('echo-ours.mjs', { driver: 'epoll', style: 'packets' }),
    },
    'node:net': { server: script('echo-net.mjs') },
  },
  targets: [{ metric: 'p99', subject: packets, against: 'node:net', atMost: 1 }],
  measure: ({ server }, { connections, rate }, times) =>
    measureEcho(server, { connections, rate }, times),
};
