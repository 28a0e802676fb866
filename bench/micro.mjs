/**
 * The echo server in each style: packets, `await`, micro-threads, and tasks of effection, another library
 * of generators, which wait for the same operations as promises.
 */
import { script } from './support/children.mjs';
import { measureEcho } from './support/load.mjs';

const drivers = ['io_uring', 'epoll'];
const styles = ['packets', 'micro', 'await', 'effection'];
const name = (driver, style) => `${style === 'micro' ? 'micro-threads' : style}, ${driver}`;
const subjects = (against, atMost) =>
  drivers.map((driver) => ({
    metric: 'cpu',
    subject: name(driver, 'micro'),
    against: name(driver, against),
    atMost,
  }));

export default {
  name: 'micro',
  title: 'TCP echo of 64 bytes, one thread, in each style',
  metrics: ['rate', 'p50', 'p99', 'cpu', 'systemCalls'],
  picture: 'cpu',
  unit: 'CPU µs per message',
  rows: [50, 1000].map((connections) => ({ name: `${connections} connections`, connections })),
  contestants: Object.fromEntries(
    drivers.flatMap((driver) =>
      styles.map((style) => [
        name(driver, style),
        { server: () => script('echo-ours.mjs', { driver, style }) },
      ]),
    ),
  ),
  targets: [...subjects('packets', 1.15), ...subjects('await', 0.75)],
  measure: ({ server }, { connections }, times) =>
    measureEcho(server(times), { connections }, times),
};
