/**
 * Lines of members of chat rooms to all in their room: the example's stage beside node:net.
 */
import { script } from './support/children.mjs';
import { measureChat } from './support/load.mjs';

const ours = 'ours, io_uring';

export default {
  name: 'chat',
  title: 'Lines of 64 bytes to the members of rooms of 50',
  scriptsOnly: true,
  metrics: ['rate', 'cpu', 'p50', 'p99'],
  picture: 'cpu',
  unit: 'CPU µs per delivery',
  rows: [
    { name: '200 members', members: 200, room: 50 },
    { name: '1,000 members', members: 1000, room: 50 },
  ],
  contestants: {
    [ours]: { style: 'stages', driver: 'io_uring', threads: 2 },
    'ours, epoll': { style: 'stages', driver: 'epoll', threads: 2 },
    'node:net': { style: 'net' },
  },
  targets: [{ metric: 'cpu', subject: ours, against: 'node:net', atMost: 0.6 }],
  measure: (options, { members, room }, times) =>
    measureChat(script('chat-server.mjs', options), { members, room }, times),
};
