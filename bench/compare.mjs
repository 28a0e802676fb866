/**
 * This checkout of the library beside another one, built, that `--baseline` names: the same
 * contestants on both, in turns.
 *
 *     npm run bench -- compare --baseline ../old
 *     npm run bench -- compare --baseline ../old --rows 'await' --rounds 20
 */
import { run, script } from './support/children.mjs';
import { measureEcho } from './support/load.mjs';

const CHUNK = 1 << 20;
const MiB = 1 << 20;
const DEPTH = 128;

/** Each with `measure(folder of the contestants, times)`, which resolves to what it costs. */
const echoes = [1, 50, 1000].flatMap((connections) =>
  ['io_uring', 'epoll'].flatMap((driver) =>
    ['packets', 'await', 'copies'].map((style) => ({
      name: `echo, ${driver}, ${style}, ${connections}`,
      measure: (folder, { most, ...times }) =>
        measureEcho(
          script('echo-ours.mjs', { driver, style }, folder),
          { connections: Math.min(connections, most) },
          times,
        ),
    })),
  ),
);

const posts = ['pipelined', 'ping-pong'].map((style) => ({
  name: `posts, ${style}`,
  measure: (folder, { warmUp, seconds }) =>
    run(script('posts-ours.mjs', { driver: 'io_uring', style, warmUp, seconds }, folder)),
}));

const reads = [
  ['io_uring', 'packets'],
  ['io_uring', 'await'],
  ['epoll', 'packets'],
].map(([driver, style]) => ({
  name: `random reads, ${driver}, ${style}`,
  measure: (folder, { file, warmUp, seconds }) =>
    run(script('reads-ours.mjs', { driver, style, depth: DEPTH, file, warmUp, seconds }, folder)),
}));

const chunks = ['io_uring', 'epoll'].map((driver) => ({
  name: `chunks of a file, ${driver}`,
  async measure(folder, { file, fileSize, warmUp, seconds }) {
    const options = { driver, size: CHUNK, depth: 2, file, bytes: fileSize, warmUp, seconds };
    const { rate, cpu } = await run(script('sequential-ours.mjs', options, folder));
    return { rate: (rate * fileSize) / MiB, cpu: cpu / (fileSize / MiB) };
  },
}));

const loading = {
  name: 'loading the main entry',
  measure: (folder, { warmUp, seconds }) =>
    run(script('load-ours.mjs', { warmUp, seconds }, folder)),
};

const now = 'now';
const before = 'before';

export default {
  name: 'compare',
  title: 'This checkout and another one',
  needsFile: true,
  needsBaseline: true,
  /** Differences of a few percent are looked for. */
  rounds: 10,
  metrics: ['rate', 'cpu'],
  rows: [...echoes, ...posts, ...reads, ...chunks, loading],
  contestants: {
    [before]: { folder: ({ baseline }) => baseline },
    [now]: { folder: () => undefined },
  },
  targets: [
    { metric: 'cpu', subject: now, against: before, atMost: 1.03 },
    { metric: 'rate', subject: now, against: before, atLeast: 0.97 },
  ],
  measure: ({ folder }, row, times) => row.measure(folder(times), times),
};
