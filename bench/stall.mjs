/**
 * Light clients beside one whose handler is busy for 300 ms each time, on a server with three
 * threads: how many of the light requests wait for it, though threads are idle?
 */
import { busyKinds } from './support/busy.mjs';
import { script } from './support/children.mjs';
import { measureStall } from './support/load.mjs';

const THREADS = 3;
const CLIENTS = 50;
const PAUSE = 50;
/** In so short a measurement as a smoke test's a handler is busy for less time. */
const busyFor = (seconds) => (seconds < 1 ? 50 : 300);

const [loop] = busyKinds;
const styles = { packets: 'get', 'a stage': 'stage', 'event loops': 'loop' };

/** Every kind of work in packets; how packets are taken makes no difference to the others. */
const rows = Object.entries(styles).flatMap(([name, style]) => [
  { name: `${name}, nobody busy`, style, kind: loop, heavy: false },
  ...busyKinds
    .filter((kind) => style === 'get' || kind === loop)
    .map((kind) => ({ name: `${name}, one in ${kind}`, style, kind, heavy: true })),
]);

const nudge = (how) => ({ driver: 'io_uring', env: { COMPLETION_PORT_NUDGE: how } });
const signal = 'ours, io_uring';
const epoll = 'ours, epoll';

export default {
  name: 'stall',
  title: 'Light requests beside a busy handler',
  scriptsOnly: true,
  metrics: ['rate', 'p50', 'p99', 'max', 'over20', 'over50'],
  picture: 'p99',
  unit: 'p99 in µs',
  rows,
  contestants: {
    [signal]: nudge('signal'),
    'ours, io_uring, tick': nudge('tick'),
    'ours, io_uring, nudge off': nudge('off'),
    [epoll]: { driver: 'epoll' },
  },
  smoke: (row) => row.heavy,
  targets: [signal, epoll].map((subject) => ({
    ...{ metric: 'over50', subject, atMost: 0.1 },
    only: (row) => row.heavy,
  })),
  measure({ driver, env }, { style, kind, heavy }, { most, ...times }) {
    const options = { driver, style, kind, threads: THREADS, busy: busyFor(times.seconds) };
    const server = { ...script('stall-server.mjs', options), env };
    const clients = Math.min(CLIENTS, most);
    return measureStall(server, { clients, pause: PAUSE, heavy }, times);
  },
};
