/**
 * Random programs in two threads, each byte of which says whose it is and where it belongs:
 *
 *     npm run fuzz -- --operations 1000000 [--driver epoll] [--seed 1]
 *
 * They allocate, send, write, read, keep, release, hand off, cancel, close and post, and let go of
 * memory as early as the rules allow (O2, M2, M5). Peers and files are looked at: a foreign byte, an
 * error that nothing explains (EFAULT above all), or memory that does not come back ends it with 1.
 * One seed gives one sequence of calls in each thread; what meets what depends on the machine.
 */
import { once } from 'node:events';
import { closeSync, mkdtempSync, openSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import net from 'node:net';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { CompletionPort } from '../../dist/esm.mjs';
import { Random } from './support/random.mjs';

/** What cancels, closes and vanished peers explain. */
const EXPLAINED = new Set(
  'ECANCELED ABORT_ERR ECONNRESET EPIPE ENOTCONN ERR_HANDLE_CLOSED ERR_MEMORY_LIMIT'.split(' '),
);
const HELLO = 8;
const ECHO = 1;
const BURST = 40;
/** Milliseconds for everything to come to rest. */
const PATIENCE = 60_000;

/** The byte at `position` of the stream or file `owner`. */
const stamp = (owner, position) =>
  (Math.imul(owner, 0x9e3779b1) + Math.imul(position, 0x85ebca6b)) >>> 24;

function fill(bytes, owner, position) {
  for (let i = 0; i < bytes.length; i++) bytes[i] = stamp(owner, position + i);
  return bytes;
}

/** Where `bytes` differ from what they should be; -1. `zeros`: where nothing was written yet. */
function foreign(bytes, owner, position, zeros = false) {
  for (let i = 0; i < bytes.length; i++) {
    if (bytes[i] !== stamp(owner, position + i) && !(zeros && bytes[i] === 0)) return i;
  }
  return -1;
}

class Sizes extends Random {
  size() {
    const largest = [40, 700, 5000, 20_000][this.below(4)];
    return 1 + this.below(largest);
  }
}

// ---- one thread's programs

class Programs {
  constructor({ port, other, random, number, peer, directory, fail }) {
    Object.assign(this, { port, other, random, number, peer, directory, fail });
    this.owners = 0;
    this.inFlight = new Set();
    this.talkers = [];
    this.files = [];
    this.kept = [];
    this.source = path.join(directory, 'source');
    for (const place of [port, other]) {
      place.consume((packet) => this.take(place, packet));
      place.unref();
    }
  }

  /** Unlike any other's in the process. */
  owner() {
    return this.number * 2 ** 24 + ++this.owners;
  }

  async run(operations) {
    this.reference = await this.port.open(this.source);
    for (let done = 0; done < operations;) {
      for (let i = 0; i < BURST && done < operations; i++, done++) this.step();
      await new Promise(setImmediate);
      while (this.inFlight.size > 400) await Promise.race(this.inFlight);
    }
    for (const talker of this.talkers.splice(0)) this.attempt(() => this.end(talker));
    for (const file of this.files.splice(0)) await this.finishFile(file);
    for (const block of this.kept.splice(0)) this.port.release(block);
    while (this.inFlight.size > 0) await Promise.all(this.inFlight);
    await this.reference.close();
  }

  step() {
    this.attempt(() => this.anything());
  }

  attempt(call) {
    try {
      call();
    } catch (error) {
      if (!EXPLAINED.has(error.code)) this.fail('a call threw', error);
    }
  }

  anything() {
    const { random } = this;
    switch (random.below(16)) {
      case 0:
        return this.talkers.length < 12 ? this.connect(false) : this.overwrite();
      case 1:
        return this.files.length < 4 ? this.open() : this.overwrite();
      case 2:
        return this.echoes > 10 ? this.overwrite() : this.connect(true);
      case 3:
        return random.below(30) === 0 ? this.end(this.pick(this.talkers, true)) : undefined;
      case 4:
        return random.below(40) === 0 ? this.cancel(this.pick(this.talkers, true)) : undefined;
      case 5:
        return void this.port.tryPost(random.below(1000), random.below(1000));
      case 6:
        return this.read();
      case 7:
        return this.keep();
      case 8:
      case 9:
        return this.write(this.pick(this.files));
      case 10:
        return this.overwrite();
      default:
        return this.talk(this.pick(this.talkers));
    }
  }

  pick(list, out = false) {
    const at = this.random.below(Math.max(1, list.length));
    return out ? list.splice(at, 1)[0] : list[at];
  }

  watch(operation) {
    if (operation === undefined || typeof operation === 'boolean') return;
    const watched = operation.then(
      () => this.inFlight.delete(watched),
      (error) => {
        this.inFlight.delete(watched);
        if (!EXPLAINED.has(error.code)) this.fail('an operation failed', error);
      },
    );
    this.inFlight.add(watched);
  }

  /** Whatever is free is somebody else's now. */
  overwrite() {
    const blocks = Array.from({ length: 1 + this.random.below(6) }, () =>
      this.port.allocate(this.random.size()).fill(0xee),
    );
    for (const block of blocks) this.port.release(block);
  }

  /** A block that another call releases. */
  keep() {
    if (this.kept.length < 8) this.kept.push(this.port.allocate(this.random.size()).fill(0xdd));
    else this.port.release(this.pick(this.kept, true));
  }

  block(owner, position) {
    return fill(this.port.allocate(this.random.size()), owner, position);
  }

  // ---- connections

  connect(echo) {
    const owner = this.owner();
    const keyed = echo || this.random.below(2) === 0;
    const place = this.random.below(2) === 0 ? this.port : this.other;
    const options = { host: '127.0.0.1', port: this.peer, ...(keyed && { key: owner }) };
    if (echo) this.echoes = (this.echoes ?? 0) + 1;
    this.watch(
      place.connect(options).then((socket) => {
        const hello = Buffer.alloc(HELLO);
        hello.writeUInt32LE(owner);
        hello[4] = echo ? ECHO : 0;
        this.watch(socket.send(hello));
        if (echo) socket.receive({ multishot: this.random.below(2) === 0 });
        else this.talkers.push({ owner, socket, position: 0, place });
      }),
    );
  }

  talk(talker) {
    if (talker === undefined) return;
    const { socket, owner } = talker;
    // The memory is the port's that the socket belongs to, or another's: that is copied.
    const blocks = [this.block(owner, talker.position)];
    talker.position += blocks[0].length;
    const more = () => {
      const block = this.block(owner, talker.position);
      talker.position += block.length;
      blocks.push(block);
      return block;
    };
    const [first] = blocks;
    const half = first.length >> 1;
    const release = this.port === talker.place && this.random.below(3) === 0;
    const options = release ? { release } : undefined;
    switch (this.random.below(5)) {
      case 0:
        this.watch(socket.send([first.subarray(0, half), first.subarray(half), more()], options));
        break;
      case 1:
        this.watch(socket.send([first, Buffer.from(more())], options));
        break;
      case 2:
        try {
          socket.link(() => {
            this.watch(socket.send(first, options));
            this.watch(socket.send(more(), options));
          });
        } catch (error) {
          // Sends that wait for their turn do not let a chain pass: nothing of it was sent.
          if (error.code !== 'ERR_INVALID_STATE') throw error;
          for (const block of blocks) this.watch(socket.send(block, options));
        }
        break;
      default:
        this.watch(socket.send(first, options));
    }
    for (const block of blocks) this.release(block);
  }

  release(block) {
    if (block.length > 0) this.port.release(block);
  }

  end(talker) {
    if (talker === undefined) return;
    const { socket, owner, position } = talker;
    const last = this.block(owner, position);
    const ended = socket.end(last);
    this.port.release(last);
    if (socket.style === 'packet') return; // `take` closes it
    this.watch(ended.then(() => socket.close()));
  }

  cancel(talker) {
    if (talker === undefined) return;
    talker.socket.cancel();
    this.watch(talker.socket.close());
  }

  /** Whichever thread it is. */
  take(place, packet) {
    const { handle, type } = packet;
    if (packet.failed) {
      if (!EXPLAINED.has(packet.code)) this.fail(`a ${type} packet`, packet.error);
      if (handle?.kind === 'socket' && type !== 'closed') handle.close();
      return;
    }
    this.attempt(() => {
      if (type === 'ended') handle.close();
      if (type === 'received') this.echo(place, packet);
    });
  }

  echo(place, packet) {
    const { handle, data } = packet;
    if (data === undefined) {
      this.echoes--;
      return void handle.close();
    }
    switch (this.random.below(5)) {
      case 0:
        packet.sendTo(handle);
        break;
      case 1: {
        const half = data.length >> 1;
        handle.send([data.subarray(0, half), data.subarray(half)]);
        break;
      }
      case 2: {
        const kept = packet.keep();
        handle.send(kept);
        place.release(kept);
        break;
      }
      case 3:
        handle.send(packet.keep(), { release: true });
        break;
      default:
        handle.send(data);
    }
    if (!packet.more) handle.receive({ multishot: this.random.below(2) === 0 });
    if (this.random.below(8) === 0) handle.handOff(place === this.port ? this.other : this.port);
  }

  // ---- files

  open() {
    const name = path.join(this.directory, `file-${this.owner()}`);
    closeSync(openSync(name, 'w'));
    this.watch(
      this.port.open(name, 'r+').then((file) => {
        this.files.push({ file, name, owner: this.owner(), position: 0 });
      }),
    );
  }

  write(target) {
    if (target === undefined) return;
    const { file, owner } = target;
    if (target.position > 4_000_000) {
      this.files.splice(this.files.indexOf(target), 1);
      return this.watch(this.finishFile(target));
    }
    const at = target.position;
    const block = this.block(owner, at);
    target.position += block.length;
    switch (this.random.below(4)) {
      case 0:
        this.watch(file.writev([block.subarray(0, 1), block.subarray(1)], at));
        break;
      case 1:
        for (const operation of file.link(() => [file.write(block, at), file.stat()])) {
          this.watch(operation);
        }
        break;
      case 2: {
        const operation = file.write(block, at);
        if (this.random.below(4) === 0) operation.cancel();
        this.watch(operation);
        break;
      }
      default:
        this.watch(file.write(block, at));
    }
    this.port.release(block);
  }

  async finishFile({ file, name, owner }) {
    await file.close();
    const at = foreign(readFileSync(name), owner, 0, true);
    if (at >= 0) this.fail(`a foreign byte at ${at} of a file`);
    rmSync(name);
  }

  /** Into memory that may be released meanwhile. */
  read() {
    const position = this.random.below(60_000);
    const block = this.port.allocate(this.random.size());
    const reading = this.reference.read(block, position);
    if (this.random.below(2) === 0) {
      this.watch(reading);
      return this.port.release(block);
    }
    this.watch(
      reading.then((bytes) => {
        const at = foreign(block.subarray(0, bytes), 0, position);
        if (at >= 0) this.fail(`a foreign byte at ${at} of a read`);
        this.port.release(block);
      }),
    );
  }
}

// ---- the other end of the connections

/** Looks at what comes, and to those that echo, sends what is to come back. */
function peerOf(random, fail) {
  const server = net.createServer({ allowHalfOpen: true }, (socket) => {
    let head = Buffer.alloc(0);
    let owner = -1;
    let position = 0;
    let left = 0;
    let sent = 0;
    const feed = () => {
      while (left > 0) {
        const size = Math.min(left, 1 + random.below(6000));
        const open = socket.write(fill(Buffer.alloc(size), owner, sent));
        sent += size;
        left -= size;
        if (!open) return void socket.once('drain', feed);
      }
    };
    socket.on('error', () => undefined);
    socket.on('end', () => socket.end());
    socket.on('data', (bytes) => {
      if (owner < 0) {
        head = Buffer.concat([head, bytes]);
        if (head.length < HELLO) return;
        owner = head.readUInt32LE(0);
        if (head[4] === ECHO) {
          left = 1 + random.below(80_000);
          feed();
        }
        bytes = head.subarray(HELLO);
      }
      const at = foreign(bytes, owner, position);
      if (at >= 0) fail(`a foreign byte at ${position + at} of connection ${owner}`);
      position += bytes.length;
      server.arrived = (server.arrived ?? 0) + bytes.length;
      if (sent > 0 && left === 0 && position === sent) socket.end();
    });
  });
  return server;
}

// ---- main thread, worker

async function main() {
  const { values } = parseArgs({
    options: {
      operations: { type: 'string', default: '100000' },
      driver: { type: 'string' },
      seed: { type: 'string', default: String(1 + Math.floor(Math.random() * 1e9)) },
    },
  });
  const operations = Number(values.operations);
  const seed = Number(values.seed);
  console.log(`--operations ${operations} --seed ${seed}`);
  let failures = 0;
  const fail = (what, error) => {
    if (++failures <= 10) console.error(what, error ?? '');
    process.exitCode = 1;
  };

  const directory = mkdtempSync(path.join(tmpdir(), 'completion-port-fuzz-'));
  writeFileSync(path.join(directory, 'source'), fill(Buffer.alloc(80_000), 0, 0));
  const options = {
    driver: values.driver,
    concurrency: 2,
    buffers: { size: 2048, count: 64 },
    memoryLimit: 2 ** 28,
  };
  const ports = [new CompletionPort(options), new CompletionPort(options)];
  const [port, other] = ports;
  const buffers = () => ports.map((each) => each.stats().allocatedBytes);
  const server = peerOf(new Sizes(seed ^ 0x5bd1e995), fail);
  server.listen(0, '127.0.0.1');
  await once(server, 'listening');
  const shared = { peer: server.address().port, directory };

  const worker = new Worker(fileURLToPath(import.meta.url), {
    workerData: { ...shared, seed, operations: operations >> 1, tokens: ports.map((p) => p.token) },
  });
  const workerDone = new Promise((resolve) => {
    worker.on('message', ({ failed }) => (failed === undefined ? resolve() : fail(failed)));
    worker.on('error', (error) => resolve(fail('the worker ended', error)));
  });
  const programs = new Programs({
    port,
    other,
    random: new Sizes(seed),
    number: 0,
    fail,
    ...shared,
  });
  await programs.run(operations - (operations >> 1));
  await workerDone;

  // Echoes come to their end, closes are answered.
  const deadline = Date.now() + PATIENCE;
  const rest = () =>
    buffers().every((bytes) => bytes === 0) && ports.every((p) => p.stats().handles === 0);
  while (!rest() && Date.now() < deadline) await new Promise((resolve) => setTimeout(resolve, 5));
  if (!rest()) fail(`at rest: ${JSON.stringify(ports.map((p) => p.stats()))}`);
  worker.postMessage('leave');
  await once(worker, 'exit');
  const free = ports.map((each) => each.stats().freeBuffers);
  for (const each of ports) await each.close();
  server.close();
  rmSync(directory, { recursive: true, force: true });
  console.log(
    `${failures} failures; ${server.arrived} bytes came, free buffers ${free.join(', ')}`,
  );
}

async function work() {
  const { tokens, seed, operations, peer, directory } = workerData;
  const [port, other] = tokens.map((token) => CompletionPort.attach(token));
  const fail = (what, error) => parentPort.postMessage({ failed: `${what} ${error?.stack ?? ''}` });
  const random = new Sizes(seed ^ 0x27d4eb2f);
  const programs = new Programs({ port, other, random, number: 1, peer, directory, fail });
  await programs.run(operations);
  parentPort.postMessage({});
  parentPort.once('message', () => {
    port.detach();
    other.detach();
  });
}

await (isMainThread ? main() : work());
