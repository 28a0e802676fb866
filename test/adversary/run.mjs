/**
 * Honest clients beside hostile ones, against each kind of server on each driver:
 *
 *     npm run adversary [-- --driver epoll] [--server stage] [--attack 'never read'] [--rounds 5]
 *     npm run adversary -- --short
 *
 * Servers, honest and hostile clients are processes of their own. In each round the honest clients
 * are alone first; then beside hostile ones that attack a second server of the same kind, in a
 * process of its own; and then beside hostile ones that attack theirs. What becomes of them in the
 * second part is the machine's doing: all compute on the same processors. Ratios are taken round by
 * round, and the median counts. `--server net` is an echo server of node:net, which the drivers have
 * nothing to do with.
 *
 * Every byte that the honest clients get is looked at. Ends with 1 when one of them was refused or
 * got a wrong byte, when the server held more than it may or did not give it back, and, without
 * `--short`, when their p99 was more than twice that of the quiet run and more than twice that of
 * the second part. `--short` asserts no times, and has no second part: all attacks at once on each
 * server, a few clients each.
 */
import { setTimeout as sleep } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { cpuTicks, idly, start } from './processes.mjs';

const SERVERS = ['await', 'lending', 'packets', 'threads', 'proxy', 'stage', 'frames', 'pipelined'];
const ATTACKS = [
  'never read',
  'one byte a second',
  'as fast as it goes',
  'announce and stall',
  'reset in the middle',
  'a byte over',
  'say nothing',
  'a million empties',
];
const FRAMED = ['frames', 'pipelined'];
const MiB = 2 ** 20;
/** Times the p99 of the quiet run. */
const MOST = 2;
/** `memoryLimit` of the servers with documents: what they may hold of documents (rule M7). */
const MEMORY_LIMIT = 64 * MiB;
/** And beyond it one answer for each client that does not read its own: as long as a document. */
const ANSWER = 1 * MiB;
/**
 * And another one to a client that does not read: its `highWaterMark`, and what one batch adds, which
 * is up to 256 packets with a receive buffer of 32 KiB each, of one client where that is fast.
 */
const MOST_FOR_ONE = 1 * MiB + 256 * 32 * 1024;
const SLOW_READERS = 128;
/** What the process may have grown by when all is given back: memory that is kept, heaps. */
const MOST_KEPT = 128 * MiB;
/** Milliseconds in which everything is given back after the hostile clients are gone. */
const PATIENCE = 30_000;

const text = { type: 'string' };
const { values } = parseArgs({
  options: {
    driver: { ...text, multiple: true, default: ['io_uring', 'epoll'] },
    server: { ...text, multiple: true, default: SERVERS },
    attack: { ...text, multiple: true, default: ATTACKS },
    rounds: { ...text, default: '3' },
    seconds: { ...text, default: '4' },
    short: { type: 'boolean', default: false },
  },
});
const load = values.short
  ? { clients: 4, interval: 2, seconds: 0, exchanges: 40 }
  : { clients: 20, interval: 20, seconds: Number(values.seconds), exchanges: 1 };
const scale = values.short ? 0.02 : 1;
const rounds = values.short ? 1 : Number(values.rounds);

const failures = [];

const at = (sorted, share) =>
  sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * share))];
const median = (numbers) =>
  at(
    [...numbers].sort((a, b) => a - b),
    0.5,
  );
const ms = (time) => (time === undefined ? '-' : time.toFixed(time < 10 ? 2 : 1));
const mib = (bytes) => (bytes / MiB).toFixed(1);

function print(cells) {
  const widths = [9, 10, 20, 9, 9, 9, 9, 9, 9, 8, 16, 18, 6, 11];
  console.log(
    cells
      .map((cell, i) => `${cell}`.padEnd(widths[i]))
      .join(' ')
      .trimEnd(),
  );
}

const sum = (numbers) => numbers.reduce((total, each) => total + each, 0);
const larger = (a, b) => a.map((each, i) => Math.max(each, b[i]));

/** What the server held at most, port by port, while `work` went on. */
async function watched(server, work) {
  const { allocated } = await server.ask('stats');
  const most = { allocated, free: Infinity };
  let over = false;
  const watch = (async () => {
    do {
      const { allocated, free } = await server.ask('stats');
      most.allocated = larger(most.allocated, allocated);
      most.free = Math.min(most.free, free);
      await sleep(50);
    } while (!over);
  })();
  try {
    return [await work(), most];
  } finally {
    over = true;
    await watch;
  }
}

/** Waits until the server holds nothing of those who are gone. */
async function atRest(server, before) {
  const deadline = performance.now() + PATIENCE;
  for (;;) {
    const now = await server.ask('stats');
    const more = now.allocated.some((bytes, i) => bytes > before.allocated[i]);
    const left = more || now.handles > before.handles;
    if (!left || performance.now() > deadline) return { ...now, left };
    await sleep(20);
  }
}

/** What `work` resolves to, and how busy the server and the hostile clients were meanwhile. */
async function besides(attacks, server, framed, work) {
  // Beside other work they might not get to it at all, which `--short` is to do.
  const how = values.short ? {} : idly;
  const hostile = await start('hostile.mjs', [server.ready, framed, scale, ...attacks], {}, how);
  try {
    const began = performance.now();
    const before = [server, hostile].map(cpuTicks);
    const result = await work();
    const ticks = [server, hostile].map((child, i) => cpuTicks(child) - before[i]);
    const busy = ticks.map((count) => (count * 1000) / (performance.now() - began));
    return { ...result, busy };
  } finally {
    await hostile.kill();
  }
}

/** One round: alone, beside `attacks` on another server, beside those on this one. */
async function round({ server, other, honest, framed, before, otherBefore }, attacks) {
  const exchange = () => honest.ask(load);
  const quiet = await exchange();
  let elsewhere;
  if (other !== undefined) {
    elsewhere = await besides(attacks, other, framed, exchange);
    await atRest(other, otherBefore);
  }
  const [beside, most] = await watched(server, () => besides(attacks, server, framed, exchange));
  return { quiet, elsewhere, beside, most, after: await atRest(server, before) };
}

/** What each of the server's ports may hold, in the order of its stages. */
function boundsOf(framed, ports) {
  const slow = 2 * Math.max(1, Math.round(SLOW_READERS * scale)) + load.clients;
  if (framed) return [MEMORY_LIMIT, MEMORY_LIMIT + slow * ANSWER];
  return Array.from({ length: ports }, () => slow * MOST_FOR_ONE);
}

function judge(name, { ratios, results, before, after, bounds }) {
  const fail = (what) => failures.push(`${name}: ${what}`);
  for (const { quiet, elsewhere, beside, most, after: rest } of results) {
    for (const part of [quiet, elsewhere, beside]) {
      if (part === undefined) continue;
      const { refusals, foreign } = part;
      for (const refusal of refusals.slice(0, 5)) fail(refusal);
      if (foreign > 0) fail(`${foreign} clients got foreign bytes`);
    }
    most.allocated.forEach((bytes, i) => {
      if (bytes > bounds[i]) fail(`port ${i} held ${mib(bytes)} MiB of ${mib(bounds[i])}`);
    });
    if (rest.left) fail(`did not give back: ${JSON.stringify(rest)}`);
  }
  const growth = after.resident - before.resident;
  if (growth > sum(bounds) + MOST_KEPT) fail(`grew by ${mib(growth)} MiB`);
  if (!values.short && !(Math.min(...ratios) <= MOST)) {
    const [ofQuiet, ofSecond] = ratios.map((ratio) => ratio.toFixed(1));
    fail(`p99 ${ofQuiet} times that of the quiet run, ${ofSecond} times that of the second part`);
  }
}

async function attack(driver, style, attacks) {
  const framed = FRAMED.includes(style);
  const serve = () => start('server.mjs', [style], { COMPLETION_PORT_DRIVER: driver });
  const server = await serve();
  const other = values.short ? undefined : await serve();
  const honest = await start('honest.mjs', [server.ready, framed]);
  await honest.ask({ ...load, seconds: Math.min(1, load.seconds) }); // until the code is warm
  const before = await server.ask('stats');
  const otherBefore = await other?.ask('stats');
  const results = [];
  for (let i = 0; i < rounds; i++) {
    results.push(await round({ server, other, honest, framed, before, otherBefore }, attacks));
  }
  const after = results.at(-1).after;
  const bounds = boundsOf(framed, before.allocated.length);
  await Promise.all([honest.kill(), server.kill(), other?.kill()]);

  const p99 = ({ times }) => at(times, 0.99);
  const against = (part) =>
    median(results.map((result) => p99(result.beside) / p99(result[part] ?? result.quiet)));
  const ratios = ['quiet', 'elsewhere'].map(against);
  const name = attacks.length > 1 ? 'all' : attacks[0];
  judge(`${driver}, ${style}, ${name}`, { ratios, results, before, after, bounds });
  const of = (part, share) =>
    ms(median(results.map((result) => at(result[part]?.times ?? [], share))));
  const refused = sum(results.map(({ beside }) => beside.refusals.length));
  print([
    ...[driver, style, name, of('quiet', 0.5)],
    ...['quiet', 'elsewhere', 'beside'].map((part) => of(part, 0.99)),
    ...ratios.map((ratio) => ratio.toFixed(2)),
    ...[refused, `${mib(before.resident)} ${mib(after.resident)}`],
    `${results
      .map(({ most }) => most.allocated)
      .reduce(larger)
      .map(mib)
      .join('+')} ${mib(sum(after.allocated))}`,
    Math.min(...results.map(({ most }) => most.free)),
    [0, 1].map((of) => median(results.map(({ beside }) => beside.busy[of])).toFixed(0)).join(' '),
  ]);
}

print([
  ...['driver', 'server', 'attack', 'p50 ms', 'p99 ms', 'elsewhr.', 'then', '× quiet', '× elsewh.'],
  ...['refused', 'RSS MiB, after', 'held MiB, after', 'free', 'CPU %, theirs'],
]);
for (const driver of values.driver) {
  for (const style of values.server) {
    const sets = values.short ? [values.attack] : values.attack.map((each) => [each]);
    for (const attacks of sets) await attack(driver, style, attacks);
  }
}
for (const failure of failures) console.error(failure);
process.exitCode = failures.length > 0 ? 1 : 0;
