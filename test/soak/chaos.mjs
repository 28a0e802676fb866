/**
 * A proxy, a spool server, a pipeline and a pool of threads under load while everything around them
 * goes wrong, on a real kernel:
 *
 *     npm run soak -- --minutes 10 [--driver epoll] [--seed 1] [--report FOLDER]
 *                    [--services NAME,…] [--blows NAME,…]
 *
 * Worker threads are ended in the middle of their work, clients reset, the disk that documents are
 * spooled to fills up (a small tmpfs, where this process may mount one), descriptors run out, memory
 * limits bite. Every byte that comes back is looked at: it is the right one, or the client was told
 * that it would not get it. After each blow every service has to answer again. Now and then all is
 * let come to rest: connections, handles and memory of the ports are back then, and resident memory,
 * descriptors and threads of the process do not grow. Ends with 1 when any of that is not so.
 *
 * The report: report.json and report.svg, in build-soak/ unless told otherwise.
 */
import { fork, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  mkdirSync,
  mkdtempSync,
  rmSync,
  writeFileSync,
  writeSync,
  openSync,
  closeSync,
} from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { live } from '../support/wandering.mjs';
import { grown, LOOKS, noiseOf } from './support/looks.mjs';
import { Random } from './support/random.mjs';
import { drawSoak } from './support/picture.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));
const { values } = parseArgs({
  options: {
    minutes: { type: 'string', default: '10' },
    driver: { type: 'string' },
    seed: { type: 'string', default: String(1 + Math.floor(Math.random() * 1e9)) },
    report: { type: 'string', default: path.join(root, 'build-soak') },
    /** To find what something comes from: `--services proxy,pool --blows 'a pool thread ends'`. */
    services: { type: 'string', default: 'proxy,spool,wander,pool' },
    blows: { type: 'string' },
  },
});
const minutes = Number(values.minutes);
if (!(minutes > 0)) {
  console.error('--minutes is a number');
  process.exit(64);
}

const HOST = '127.0.0.1';
const MiB = 2 ** 20;
/** Descriptors the services may have in all. */
const DESCRIPTORS = 400;
/** Bytes of the disk for documents. */
const DISK = 8 * MiB;
/** Clients of each service at one time. */
const CLIENTS = 6;
/** Milliseconds from one blow to the next, and for how long those last that last. */
const BETWEEN = 1500;
const LASTS = 1000;
/** How long anything may take, in milliseconds: what takes longer is stuck. */
const PATIENCE = 60_000;

const random = new Random(Number(values.seed));

/** Rejects when `work` is not over in time. */
async function inTime(what, work) {
  const alarm = new AbortController();
  const late = sleep(PATIENCE, undefined, alarm).then(() => {
    throw new Error(`${what}: not over within ${PATIENCE / 1000} s`);
  });
  try {
    return await Promise.race([work, late]);
  } finally {
    alarm.abort();
    late.catch(() => undefined);
  }
}

// ---- the services

class Server {
  constructor(directory) {
    const { driver, seed } = values;
    const settings = JSON.stringify({ directory, seed: Number(seed) });
    const env = { ...process.env, ...(driver && { COMPLETION_PORT_DRIVER: driver }) };
    // With an arena for each thread, glibc keeps what ended threads gave back, and more with every
    // one of them: what is in use stays the same, what is resident grows.
    env.MALLOC_ARENA_MAX = '2';
    this.child = fork(path.join(root, 'test/soak/chaos/server.mjs'), [settings], {
      execArgv: ['--expose-gc', '--disable-warning=ExperimentalWarning'],
      env,
    });
    this.waiting = new Map();
    this.id = 0;
    this.ended = once(this.child, 'exit');
    this.child.on('exit', (code, signal) => {
      for (const { reject } of this.waiting.values()) {
        reject(new Error(`the services ended: ${signal ?? `exit status ${code}`}`));
      }
    });
  }
  async begin() {
    const ended = this.ended.then(() => Promise.reject(new Error('the services do not start')));
    const [ports] = await Promise.race([once(this.child, 'message'), ended]);
    this.ports = ports;
    this.child.on('message', ({ id, answer, failure }) => {
      const { resolve, reject } = this.waiting.get(id);
      this.waiting.delete(id);
      if (failure === undefined) resolve(answer);
      else reject(new Error(failure));
    });
    // Not at the start: Node.js itself takes some for each thread.
    const limit = [`--nofile=${DESCRIPTORS}`, '--pid', `${this.child.pid}`];
    if (spawnSync('prlimit', limit).status !== 0) console.log('no prlimit: descriptors suffice');
  }
  ask(command) {
    const id = ++this.id;
    const answer = new Promise((resolve, reject) => {
      this.waiting.set(id, { resolve, reject });
      this.child.send({ id, command }, (error) => error && reject(error));
    });
    return inTime(command, answer);
  }
}

// ---- clients: each says whether it got what it asked for; a wrong byte is an error

/** What a connection sends back up to its end, which any error is, too. */
function conversation(port) {
  const socket = net.connect({ host: HOST, port });
  let text = '';
  socket.on('error', () => undefined);
  socket.setEncoding('latin1').on('data', (more) => (text += more));
  const closed = new Promise((resolve) => socket.once('close', resolve));
  return {
    socket,
    /** A line, or undefined where the connection ended before. */
    async line() {
      while (!text.includes('\n')) {
        if (socket.closed || socket.readableEnded) return undefined;
        await Promise.race([once(socket, 'data').catch(() => undefined), closed]);
      }
      const end = text.indexOf('\n');
      const line = text.slice(0, end);
      text = text.slice(end + 1);
      return line;
    },
    async close() {
      socket.destroy();
      await closed;
    },
  };
}

async function echoed(port) {
  const { lost } = await live(port, random, 1 + random.below(200_000));
  return !lost;
}

function frame(body) {
  const bytes = Buffer.alloc(4 + body.length);
  bytes.writeUInt32BE(body.length);
  body.copy(bytes, 4);
  return bytes;
}

async function spooled(
  port,
  body = Buffer.alloc(random.below(random.pick([5000, 50_000, 2 * MiB])), 'd'),
) {
  body.fill(String.fromCharCode(97 + random.below(26)), 0, body.length >> 1);
  const { socket, line, close } = conversation(port);
  const bytes = frame(body);
  const end = random.below(20) === 0 ? random.below(bytes.length) : bytes.length;
  for (let at = 0; at < end && !socket.destroyed;) {
    const next = Math.min(end, at + 1 + random.below(300_000));
    socket.write(bytes.subarray(at, next));
    at = next;
    await new Promise(setImmediate);
  }
  if (end < bytes.length) {
    socket.resetAndDestroy();
    await close();
    return false;
  }
  const answer = await line();
  await close();
  if (answer === undefined || answer === 'failed') return false;
  const [, , length, hash] = answer.split(' ');
  const expected = createHash('sha256').update(body).digest('hex');
  if (Number(length) !== body.length || hash !== expected) {
    throw new Error(`spool: a document of ${body.length} bytes was answered with ${answer}`);
  }
  return true;
}

async function summed(port) {
  const { socket, line, close } = conversation(port);
  try {
    for (let i = 0; i < 10; i++) {
      const n = random.below(20_000);
      socket.write(`${n}\n`);
      const answer = await line();
      if (answer === undefined || /^ERR_(WORKER_DIED|QUEUE_FULL)$/.test(answer)) return false;
      if (Number(answer) !== (n * (n + 1)) / 2)
        throw new Error(`pool: ${n} was answered with ${answer}`);
    }
    return true;
  } finally {
    await close();
  }
}

const CALLS = { proxy: echoed, spool: spooled, wander: echoed, pool: summed };
const services = values.services.split(',');

// ---- blows

/** As many connections as there are, and a second later none of them. */
async function useUpDescriptors(ports) {
  const sockets = Array.from({ length: DESCRIPTORS }, () => {
    const socket = net.connect({ host: HOST, port: ports[random.pick(services)] });
    return socket.on('error', () => undefined);
  });
  await sleep(LASTS);
  await Promise.all(
    sockets.map(async (socket) => {
      const closed = once(socket, 'close').catch(() => undefined);
      socket.resetAndDestroy();
      if (!socket.closed) await closed;
    }),
  );
}

/** Nothing is left on the disk, and a second later all. */
async function fillDisk(disk) {
  const file = path.join(disk, 'filler');
  const descriptor = openSync(file, 'w');
  try {
    for (;;) writeSync(descriptor, Buffer.alloc(65536));
  } catch (error) {
    if (error.code !== 'ENOSPC') throw error;
  } finally {
    closeSync(descriptor);
  }
  await sleep(LASTS);
  rmSync(file);
}

/** More documents at one time than their stage has memory for. */
async function useUpMemory(ports) {
  const many = Array.from({ length: 40 }, () => spooled(ports.spool, Buffer.alloc(MiB, 'm')));
  await Promise.all(many);
}

/** A line of text for one service, on a connection of its own. */
async function say(port, bytes) {
  const { socket, line, close } = conversation(port);
  socket.write(bytes);
  await line();
  await close();
}

function blowsOf(server, disk) {
  const { ports } = server;
  const blows = {
    'a proxy thread ends': () => server.ask('end a proxy'),
    'stage threads end': () => server.ask('end stages'),
    'the thread with a document ends': () => say(ports.spool, frame(Buffer.from('exit'))),
    'a pool thread ends': () => say(ports.pool, 'die\n'),
    'descriptors run out': () => useUpDescriptors(ports),
    'memory runs out': () => useUpMemory(ports),
  };
  if (disk !== undefined) blows['the disk is full'] = () => fillDisk(disk);
  const wanted = values.blows?.split(',') ?? Object.keys(blows);
  return Object.fromEntries(wanted.map((name) => [name, blows[name]]));
}

// ---- the run

class Soak {
  constructor(server, disk) {
    this.server = server;
    this.blows = blowsOf(server, disk);
    this.right = Object.fromEntries(services.map((name) => [name, 0]));
    this.refused = { ...this.right };
    this.samples = [];
    this.struck = [];
    this.began = performance.now();
  }
  seconds() {
    return (performance.now() - this.began) / 1000;
  }

  async call(name) {
    const right = await inTime(name, CALLS[name](this.server.ports[name]));
    (right ? this.right : this.refused)[name]++;
    return right;
  }

  async clients(name, end) {
    while (performance.now() < end) await this.call(name);
  }

  /** One blow after another; after each everyone is served again. */
  async strike(end) {
    while (performance.now() < end) {
      await sleep(BETWEEN);
      const blow = random.pick(Object.keys(this.blows));
      this.struck.push({ seconds: this.seconds(), blow });
      await inTime(blow, this.blows[blow]());
      await inTime(`after '${blow}'`, this.serveAgain());
    }
  }
  async serveAgain() {
    for (const name of services) while (!(await this.call(name))) await sleep(20);
  }

  async sample(end) {
    while (performance.now() < end) {
      const found = await this.server.ask('sample');
      const right = services.reduce((sum, name) => sum + this.right[name], 0);
      if (found !== null) {
        const { rss, descriptors, threads } = found;
        this.samples.push({ seconds: this.seconds(), rss, descriptors, threads, right });
      }
      await sleep(1000);
    }
  }

  async load(end) {
    const clients = services.flatMap((name) =>
      Array.from({ length: CLIENTS }, () => this.clients(name, end)),
    );
    await Promise.all([...clients, this.strike(end), this.sample(end)]);
  }

  /** What is there when nobody asks for anything. */
  async rest() {
    const atRest = async () => {
      const { connections, allocatedBytes, handles, failures } = await this.server.ask('look');
      if (failures.length > 0) throw new Error(failures.join('\n'));
      // The echo's listener, the pool's.
      return connections === 0 && allocatedBytes === 0 && handles <= 2 + PROXY_LISTENERS;
    };
    const wait = async () => {
      while (!(await atRest())) await sleep(50);
    };
    try {
      await inTime('rest', wait());
    } catch (error) {
      console.error(await this.server.ask('look'));
      throw error;
    }
    return this.server.ask('look');
  }
}
/** Each thread of the proxy has one. */
const PROXY_LISTENERS = 2;

function show(seconds, { rss, descriptors, threads }, soak) {
  const total = (counts) => services.reduce((sum, name) => sum + counts[name], 0);
  console.log(
    `${seconds.toFixed(0)} s: ${soak.struck.length} blows, ${total(soak.right)} right, ` +
      `${total(soak.refused)} refused, ${(rss / MiB).toFixed(1)} MiB, ` +
      `${descriptors} descriptors, ${threads} threads`,
  );
}

/** The last look, and whether something grew. */
async function run(server, disk) {
  await server.begin();
  const soak = new Soak(server, disk);
  const looks = [];
  for (let i = 1; i <= LOOKS; i++) {
    await soak.load(soak.began + (i / LOOKS) * minutes * 60_000);
    const found = await soak.rest();
    looks.push(found);
    show(soak.seconds(), found, soak);
  }
  await server.ask('end');
  await inTime('the end of the services', server.ended);
  const what = grown(looks, noiseOf(minutes));
  const { restarts } = looks.at(-1);
  const { right, refused, samples, struck } = soak;
  const report = {
    ...{ seed: Number(values.seed), minutes, driver: values.driver ?? 'default' },
    ...{ right, refused, restarts, grown: what, looks, samples, blows: struck },
  };
  mkdirSync(values.report, { recursive: true });
  writeFileSync(path.join(values.report, 'report.json'), JSON.stringify(report, null, 2));
  writeFileSync(path.join(values.report, 'report.svg'), drawSoak(report));
  const words = what.length > 0 ? `grown: ${what.join(', ')}` : 'nothing grew';
  console.log(`${words}; ${restarts} threads replaced; ${values.report}/report.svg`);
  return what.length === 0;
}

async function main() {
  console.log(`--seed ${values.seed}`);
  const directory = mkdtempSync(path.join(tmpdir(), 'completion-port-soak-'));
  const mount = ['-t', 'tmpfs', '-o', `size=${DISK}`, 'tmpfs', directory];
  const mounted = spawnSync('mount', mount).status === 0;
  if (!mounted) console.log('no tmpfs may be mounted here: the disk is never full');
  const server = new Server(directory);
  try {
    process.exitCode = (await run(server, mounted ? directory : undefined)) ? 0 : 1;
  } catch (error) {
    console.error(error.stack);
    process.exitCode = 1;
  } finally {
    server.child.kill('SIGKILL');
    await server.ended;
    if (mounted) spawnSync('umount', [directory]);
    rmSync(directory, { recursive: true, force: true });
  }
}

await main();
