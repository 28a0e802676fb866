/**
 * Random clients of random stages, each byte of which says whose it is and where it belongs:
 *
 *     npm run fuzz:stages -- --documents 100000 [--driver epoll] [--seed 1]
 *
 * Documents of every length go through `frames` (with lengths or a delimiter, alone or together, in
 * memory or in files, with hardly any memory) to stages that hand them to one another and answer
 * with what came, as bytes or from files. Clients send in pieces and ahead, read late, leave in the
 * middle. A foreign byte, a byte too many, a missing one where a client waited for it, a failure that
 * nothing explains, or memory that does not come back ends it with 1. One seed gives the same pipelines
 * one after another; what their clients do, and when, depends on the machine as well.
 */
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { parseArgs } from 'node:util';
import { frames, Pipeline } from '../../dist/stages-esm.mjs';

const { values } = parseArgs({
  options: {
    documents: { type: 'string', default: '20000' },
    driver: { type: 'string' },
    seed: { type: 'string', default: String(1 + Math.floor(Math.random() * 1e9)) },
  },
});
const seed = Number(values.seed);
/** Pipelines, one after another; each has its own options. */
const ROUNDS = 4;
const CLIENTS = 16;
/** Milliseconds for anything that has to come. */
const PATIENCE = 60_000;
const LF = 10;
/** What clients that leave explain. */
const EXPLAINED = new Set(
  'ECANCELED ECONNRESET EPIPE ENOTCONN ERR_HANDLE_CLOSED ERR_CONNECTION_RELEASED'.split(' '),
);

/** Gives an integer from 0 to `end` - 1: xorshift. */
function randomOf(first) {
  let state = first >>> 0 || 1;
  return (end) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state = (state ^ (state << 5)) >>> 0;
    return state % end;
  };
}
const random = randomOf(seed);
const choose = randomOf(seed ^ 0x5bd1e995);

const sleep = (time) => new Promise((resolve) => setTimeout(resolve, time));
async function within(condition, what) {
  const end = Date.now() + PATIENCE;
  while (!condition()) {
    if (Date.now() > end) return fail(what);
    await sleep(2);
  }
}

let failures = 0;
function fail(what, error) {
  if (++failures <= 10) console.error(what, error ?? '');
  process.exitCode = 1;
}

/** The byte at `position` of what `owner` sends; never a line feed. */
function stamp(owner, position) {
  const byte = (Math.imul(owner, 0x9e3779b1) + Math.imul(position, 0x85ebca6b)) >>> 24;
  return byte === LF ? LF + 1 : byte;
}

function framed(document, delimited) {
  if (delimited) return [document, Buffer.of(LF)];
  const head = Buffer.alloc(4);
  head.writeUInt32BE(document.length);
  return [head, document];
}

// ---- clients

let owners = 0;
let left = 0; // documents still to be sent
let arrived = 0; // bytes of answers

function documentsOf(owner, longest) {
  const documents = [];
  let position = 0;
  for (let count = 1 + random(40); count > 0 && left > 0; count--, left--) {
    const length = random([4, 60, 500, 9000, longest][random(5)]);
    const document = Buffer.alloc(length);
    for (let i = 0; i < length; i++) document[i] = stamp(owner, position++);
    documents.push(document);
  }
  return { documents, size: position };
}

/** Looks at what comes back. */
function watch(socket, owner, size) {
  const it = { back: 0, gone: false };
  socket.on('error', () => undefined);
  socket.on('close', () => (it.gone = true));
  socket.on('data', (bytes) => {
    for (let i = 0; i < bytes.length; i++) {
      if (it.back + i < size && bytes[i] === stamp(owner, it.back + i)) continue;
      fail(`a foreign byte at ${it.back + i} of ${size} for client ${owner}`);
      break;
    }
    it.back += bytes.length;
    arrived += bytes.length;
  });
  return it;
}

async function client({ port, delimited, longest }) {
  const owner = ++owners;
  const { documents, size } = documentsOf(owner, longest);
  const bytes = Buffer.concat(documents.flatMap((document) => framed(document, delimited)));
  const leaves = random(4) === 0 ? random(bytes.length + 1) : -1;
  const socket = net.connect({ host: '127.0.0.1', port });
  await Promise.race([once(socket, 'connect'), once(socket, 'error')]);
  const it = watch(socket, owner, size);
  if (random(6) === 0) {
    socket.pause();
    setTimeout(() => socket.resume(), random(60));
  }
  const end = leaves < 0 ? bytes.length : leaves;
  const piece = [3, 100, 3000, 200_000][random(4)];
  for (let at = 0; at < end && !it.gone;) {
    const next = Math.min(end, at + 1 + random(Math.max(piece, bytes.length >> 6)));
    socket.write(bytes.subarray(at, next));
    at = next;
    if (random(3) === 0) await sleep(0);
  }
  if (leaves < 0) {
    await within(() => it.back >= size || it.gone, `${it.back} of ${size} for client ${owner}`);
    if (it.back !== size) fail(`client ${owner} has ${it.back} of ${size} bytes`);
  }
  if (random(2) === 0) socket.resetAndDestroy();
  else socket.destroy();
}

// ---- pipelines

function anyPipeline(directory) {
  const delimited = choose(2) === 0;
  const limit = [1 << 20, 4 << 20, 64 << 20][choose(3)];
  const inFiles = choose(2) === 0;
  const longest = inFiles ? 300_000 : 60_000;
  const options = {
    ...(delimited ? { delimiter: '\n' } : { length: 'u32be' }),
    pipelined: [1, 7, 1000][choose(3)],
    maxLength: '1MiB',
    ...(inFiles && { spool: 'file', memoryThreshold: 20_000, directory }),
    queueLimit: [2, 64, 1024][choose(3)],
  };
  const buffers = choose(2) === 0 ? { size: 2048, count: 64 } : undefined;
  const stage = new URL('./fuzz.stage.mjs', import.meta.url);
  const threads = () => ({ stage, threads: 1 + choose(2), data: { seed: choose(1e9), directory } });
  console.log(JSON.stringify({ ...options, directory: undefined, limit, buffers }));
  const pipeline = new Pipeline(
    {
      spool: { native: frames(options), next: 'work', threads: 1 + choose(2) },
      work: threads(),
      other: threads(),
    },
    { driver: values.driver, maxConnections: 512, memoryLimit: limit, ...(buffers && { buffers }) },
  );
  return { pipeline, delimited, longest };
}

function allocated(pipeline) {
  return Object.values(pipeline.stats().stages).map((stage) => stage.port.allocatedBytes);
}

async function round(directory, documents) {
  const { pipeline, ...kind } = anyPipeline(directory);
  pipeline.on('error', (error) => fail('the pipeline', error));
  pipeline.on('failed', ({ event, error }) => {
    if (!EXPLAINED.has(error.code)) fail(`a handler of ${event}`, error);
  });
  await pipeline.ready();
  const before = allocated(pipeline);
  const { port } = await pipeline.listen('spool', { host: '127.0.0.1', port: 0 });
  left = documents;
  const messages = setInterval(() => {
    const all = pipeline.connections();
    for (let i = 0; i < 4 && all.length > 0; i++) pipeline.tryPost(all[random(all.length)].key, 1);
  }, 3);
  const one = async () => {
    while (left > 0 && failures === 0) await client({ port, ...kind });
  };
  await Promise.all(Array.from({ length: CLIENTS }, one));
  clearInterval(messages);
  await within(() => pipeline.stats().connections === 0, 'connections are left');
  const same = () => allocated(pipeline).every((bytes, i) => bytes === before[i]);
  await within(same, 'memory is left');
  if (failures > 0) console.error(before, allocated(pipeline), pipeline.connections());
  await pipeline.close();
}

console.log(`--documents ${values.documents} --seed ${seed}`);
const directory = mkdtempSync(path.join(tmpdir(), 'completion-port-fuzz-'));
for (let i = 0; i < ROUNDS; i++) await round(directory, Math.ceil(values.documents / ROUNDS));
rmSync(directory, { recursive: true, force: true });
console.log(`${failures} failures; ${arrived} bytes came back to ${owners} clients`);
