/**
 * Messages from one thread to another through a completion port: one after another as fast as they
 * are taken, numbers or 64 bytes, or to and fro.
 */
import { isMainThread, parentPort, Worker, workerData } from 'node:worker_threads';
import { CompletionPort } from 'completion-port';
import { readOptions } from '../options.mjs';
import { makePort } from '../ports.mjs';
import { report, Stopwatch } from '../stopwatch.mjs';

const KEY = 1;
const BATCH = 256;
const LAST = -1;
const SIZE = 64;

/** By its name until 0.1: for a checkout of that time, see `compare`. */
function room(port) {
  return port.room ? port.room() : port.drained();
}

async function produce({ first }, stopped) {
  const port = CompletionPort.attach(first);
  for (let number = 0; stopped[0] === 0; number++) {
    while (!port.tryPost(KEY, number)) await room(port);
  }
  while (!port.tryPost(KEY, LAST)) await room(port);
}

async function produceBytes({ first }, stopped) {
  const port = CompletionPort.attach(first);
  const bytes = Buffer.alloc(SIZE);
  for (let number = 0; stopped[0] === 0; number++) {
    bytes.writeUInt32LE(number);
    while (!port.tryPost(KEY, bytes)) await room(port);
  }
  while (!port.tryPost(KEY, LAST)) await room(port);
}

function consumeBytes({ first }, stopped, stopwatch) {
  const port = CompletionPort.attach(first);
  let wanted = 0;
  for (;;) {
    for (const { data } of port.get(BATCH)) {
      if (data === undefined) return;
      const value = data.readUInt32LE();
      if (value !== wanted++) throw new Error(`${value} instead of ${wanted - 1}`);
      if (!stopwatch.count()) stopped[0] = 1;
    }
  }
}

function consume({ first }, stopped, stopwatch) {
  const port = CompletionPort.attach(first);
  let wanted = 0;
  for (;;) {
    for (const { value } of port.get(BATCH)) {
      if (value === LAST) return;
      if (value !== wanted++) throw new Error(`${value} instead of ${wanted - 1}`);
      if (!stopwatch.count()) stopped[0] = 1;
    }
  }
}

/** Sends, and waits for the answer. */
function ping({ first, second }, stopwatch) {
  const there = CompletionPort.attach(first);
  const back = CompletionPort.attach(second);
  let number = 0;
  do {
    there.post(KEY, ++number);
    for (const { value } of back.get(1)) if (value !== number) throw new Error(`got ${value}`);
  } while (stopwatch.count());
  there.post(KEY, LAST);
}

function pong({ first, second }) {
  const there = CompletionPort.attach(first);
  const back = CompletionPort.attach(second);
  for (;;) {
    for (const { value } of there.get(1)) {
      if (value === LAST) return;
      back.post(KEY, value);
    }
  }
}

async function work({ role, ports, times, stopped }) {
  if (role === 'produce') await produce(ports, stopped);
  else if (role === 'produceBytes') await produceBytes(ports, stopped);
  else if (role === 'pong') pong(ports);
  else {
    const stopwatch = new Stopwatch({ ...times, every: role === 'ping' ? 16 : 1024 });
    if (role === 'ping') ping(ports, stopwatch);
    else if (role === 'consumeBytes') consumeBytes(ports, stopped, stopwatch);
    else consume(ports, stopped, stopwatch);
    parentPort.postMessage(stopwatch.result);
  }
}

async function main() {
  const { style, driver, spinMicroseconds, ...times } = readOptions();
  const first = makePort({ driver, concurrency: 2, spinMicroseconds });
  const second = makePort({ driver, concurrency: 2, spinMicroseconds });
  const ports = { first: first.token, second: second.token };
  const stopped = new Int32Array(new SharedArrayBuffer(4));
  const roles = {
    pipelined: ['consume', 'produce'],
    bytes: ['consumeBytes', 'produceBytes'],
    'ping-pong': ['pong', 'ping'],
  }[style];
  const workers = roles.map((role) => {
    const worker = new Worker(new URL(import.meta.url), {
      workerData: { role, ports, times, stopped },
    });
    worker.on('message', report);
    return worker;
  });
  await Promise.all(workers.map((worker) => new Promise((done) => worker.once('exit', done))));
  await first.close();
  await second.close();
}

if (isMainThread) await main();
else await work(workerData);
