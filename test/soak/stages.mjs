/**
 * Stages under load for as long as wished, with memory that has to stay flat:
 *
 *     node test/soak/stages.mjs --minutes 10 [--driver epoll] [--seed 1] [--deaths 2]
 *
 * Clients come and go, their bytes are checked (test/support/wandering.mjs), connections are handed
 * to and fro, documents go through a native stage, threads die. Every so often everything is let
 * come to rest, and what the process has then is looked at: resident memory, descriptors, threads,
 * records. Ends with 1 when a byte was wrong, a record was left, or any of that grew.
 */
import { once } from 'node:events';
import net from 'node:net';
import { parseArgs } from 'node:util';
import { frames, Pipeline } from '../../dist/stages-esm.mjs';
import { disturb, live, wanderers } from '../support/wandering.mjs';
import { grown, look, LOOKS, noiseOf } from './support/looks.mjs';
import { Random } from './support/random.mjs';

const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    driver: { type: 'string' },
    seed: { type: 'string', default: String(1 + Math.floor(Math.random() * 1e9)) },
    /** Threads ended between two looks. */
    deaths: { type: 'string', default: '2' },
  },
});
const minutes = Number(values.minutes);
const deaths = Number(values.deaths);
if (!(minutes > 0) || !(deaths >= 0)) {
  console.error('--minutes and --deaths are numbers');
  process.exit(64);
}

const CLIENTS = 24;
/** How much longer than planned anything may take, in milliseconds. */
const PATIENCE = 30_000;

const random = new Random(Number(values.seed));
const sleep = (time) => new Promise((resolve) => setTimeout(resolve, time));

// ---- load

async function until(condition) {
  while (!condition()) await sleep(2);
}

async function document(port) {
  const length = random.below(random.below(10) === 0 ? 2_000_000 : 20_000);
  const bytes = Buffer.alloc(4 + length, 'x');
  bytes.writeUInt32BE(length);
  const socket = net.connect({ host: '127.0.0.1', port });
  let answer = '';
  socket.on('data', (data) => (answer += data));
  for (let at = 0; at < bytes.length;) {
    const end = at + 1 + random.below(100_000);
    socket.write(bytes.subarray(at, end));
    at = end;
    await new Promise(setImmediate);
  }
  while (!answer.includes('\n')) await once(socket, 'data');
  if (Number(answer.split(' ')[2]) !== length) throw new Error(`wrong answer: ${answer}`);
  socket.destroy();
}

/** Clients of both pipelines, a number of each at a time, until `end`. */
async function load(ports, end) {
  const keepOn = async (once) => {
    for (let i = 0; i < 1 || performance.now() < end; i++) await once();
  };
  const wander = () => live(ports.wander, { below: (n) => random.below(n) }, 100_000);
  await Promise.all([
    ...Array.from({ length: CLIENTS }, () => keepOn(wander)),
    ...Array.from({ length: CLIENTS / 4 }, () => keepOn(() => document(ports.spool))),
  ]);
}

/** Shows where the connections are when they come to no end. */
async function inTime(pipelines, end, work) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(
      () => {
        for (const pipeline of pipelines) console.error(pipeline.connections());
        reject(new Error('the load does not come to its end'));
      },
      end - performance.now() + PATIENCE,
    );
  });
  await Promise.race([work, late]);
  clearTimeout(timer);
}

// ---- looking

function lookAt(seconds, packets) {
  const found = look();
  const mib = (found.rss / 2 ** 20).toFixed(1);
  console.log(
    `${seconds.toFixed(0)} s: ${packets} packets, ${mib} MiB, ` +
      `${found.descriptors} descriptors, ${found.threads} threads`,
  );
  return found;
}

async function main() {
  console.log(`--seed ${values.seed}`);
  const { driver } = values;
  const left = new SharedArrayBuffer(4);
  const spooled = new Pipeline(
    {
      spool: {
        native: frames({ length: 'u32be', spool: 'file', memoryThreshold: '64KiB' }),
        next: 'work',
      },
      work: { stage: new URL('../stage/fixtures/digest.mjs', import.meta.url), threads: 2 },
    },
    { driver, maxConnections: 512 },
  );
  const wandering = wanderers(random, { driver, crashes: left });
  const pipelines = [spooled, wandering];
  for (const pipeline of pipelines) {
    pipeline.on('error', (error) => {
      throw error;
    });
  }
  const host = '127.0.0.1';
  const ports = {
    spool: (await spooled.listen('spool', { host, port: 0 })).port,
    wander: (await wandering.listen('one', { host, port: 0 })).port,
  };
  const packets = () =>
    pipelines
      .flatMap((pipeline) => Object.values(pipeline.stats().stages))
      .reduce((sum, stage) => sum + stage.packets, 0);
  const began = performance.now();
  const looks = [];
  const { stop } = disturb(wandering, random);
  for (let i = 1; i <= LOOKS; i++) {
    Atomics.store(new Int32Array(left), 0, deaths);
    const resting = () => pipelines.every((pipeline) => pipeline.stats().connections === 0);
    const end = began + (i / LOOKS) * minutes * 60_000;
    await inTime(
      pipelines,
      end,
      load(ports, end).then(() => until(resting)),
    );
    await sleep(50);
    looks.push(lookAt((performance.now() - began) / 1000, packets()));
  }
  stop();
  const { restarts } = wandering.stats();
  await Promise.all(pipelines.map((pipeline) => pipeline.close()));
  const what = grown(looks, noiseOf(minutes));
  const words = what.length > 0 ? `grown: ${what.join(', ')}` : 'nothing grew';
  console.log(`${words}; ${restarts} threads replaced`);
  process.exitCode = what.length > 0 ? 1 : 0;
}

await main();
