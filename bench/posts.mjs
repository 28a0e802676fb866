/**
 * Numbers, and 64 bytes, from one thread to another: one after another as fast as they are taken, and to and fro.
 */
import { native, run, script } from './support/children.mjs';

const inNode =
  (name, options) =>
  (row, { warmUp, seconds }) =>
    run(script(name, { ...options, style: row.style, warmUp, seconds }));

async function inCpp({ style }, { seconds }) {
  const result = await run(native('posts', { mode: style, seconds }));
  return {
    rate: result.messages_per_second ?? result.round_trips_per_second,
    cpu: result.cpu_us_per_message,
  };
}

const ours = 'ours, post and get';
const toAndFro = (row) => row.style === 'ping-pong';
const channel = 'MessagePort';

export default {
  name: 'posts',
  title: 'Messages between threads',
  metrics: ['rate', 'cpu'],
  picture: 'rate',
  unit: 'messages, or round trips, per second',
  rows: [
    { name: 'one way', style: 'pipelined' },
    { name: 'one way, 64 bytes', style: 'bytes' },
    { name: 'round trips', style: 'ping-pong' },
  ],
  smoke: () => true,
  contestants: {
    [ours]: { exchange: inNode('posts-ours.mjs', { driver: 'io_uring' }) },
    'ours, spinMicroseconds: 0': {
      exchange: inNode('posts-ours.mjs', { driver: 'io_uring', spinMicroseconds: 0 }),
      only: toAndFro,
    },
    [channel]: { exchange: inNode('posts-channel.mjs') },
    'Atomics.wait and notify': {
      exchange: inNode('posts-atomics.mjs'),
      only: toAndFro,
    },
    'our core without Node.js': { exchange: inCpp, only: (row) => row.style !== 'bytes' },
  },
  targets: [
    {
      ...{ metric: 'rate', subject: ours, against: channel, atLeast: 20 },
      only: (row) => !toAndFro(row),
    },
    {
      ...{ metric: 'rate', subject: ours, against: channel, atLeast: 4 },
      only: toAndFro,
    },
  ],
  measure: ({ exchange }, row, times) => exchange(row, times),
};
