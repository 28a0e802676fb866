/**
 * This checkout of the library beside another one, built, that `--baseline` names: the same
 * contestants on both, in turns.
 *
 *     npm run bench -- compare --baseline ../old
 *     npm run bench -- compare --baseline ../old --rows 'await' --rounds 20
 */
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import { contestants, run, script } from './support/children.mjs';
import { measureEcho } from './support/load.mjs';
import { measureSpool } from './support/spool.mjs';

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

/** The example's server of the checkout that contestants in `folder` run on; its place has changed. */
function spoolServer(folder = contestants) {
  const root = path.dirname(createRequire(folder).resolve('completion-port/package.json'));
  const places = ['examples/programs/spool-server.mjs', 'examples/spool-server.mjs'];
  return places.map((place) => path.join(root, place)).find((file) => fs.existsSync(file));
}

const spools = [
  ['64 KiB', 50],
  ['1 MiB', 1000],
].map(([size, connections]) => ({
  name: `spool of ${size}, ${connections} connections`,
  measure: (folder, times) =>
    measureSpool(
      { program: spoolServer(folder), driver: 'io_uring', options: ['--driver=io_uring'] },
      { answer: 'length', slow: 0, connections, size: size === '1 MiB' ? MiB : MiB / 16 },
      times,
    ),
}));

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
  rows: [...echoes, ...posts, ...reads, ...chunks, ...spools, loading],
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
