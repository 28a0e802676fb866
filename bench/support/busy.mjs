/**
 * Ways to keep a thread busy: in JavaScript, in one call of V8 or Node.js, waiting in the kernel.
 */
import { execFileSync, spawn } from 'node:child_process';
import { pbkdf2Sync } from 'node:crypto';
import fs from 'node:fs';
import { scratchFile } from './data.mjs';

/** How often a piece of work is tried: the quickest counts. */
const TRIES = 3;

function timeOf(work) {
  const times = Array.from({ length: TRIES }, () => {
    const began = performance.now();
    work();
    return performance.now() - began;
  });
  return Math.min(...times);
}

function numbers(count) {
  return JSON.stringify(Array.from({ length: count }, (_, i) => i));
}

const SAMPLE = 200_000;
const LETTERS = 8000;
const ITERATIONS = 20_000;

function derive(iterations) {
  pbkdf2Sync('password', 'salt', iterations, 64, 'sha512');
}

/** Looks for a 'y' behind any number of 'x' from each letter on. */
function search(letters) {
  return /x*y/.test(letters);
}

/** Two pipes with names: what is written to one is answered in the other after that time. */
function answerLater(milliseconds) {
  const paths = { asking: scratchFile('asking'), answering: scratchFile('answering') };
  for (const path of Object.values(paths)) execFileSync('mkfifo', [path]);
  const [question, answer] = Object.values(paths).map((path) => fs.openSync(path, 'r+'));
  // Of its own, for reading alone: it ends when nobody can ask any more, also if this is killed.
  const input = fs.openSync(paths.asking, 'r');
  const loop = `while read -r line; do sleep ${milliseconds / 1000}; echo; done`;
  spawn('sh', ['-c', loop], { stdio: [input, answer, 'ignore'] }).unref();
  process.on('exit', () => {
    fs.closeSync(question);
    for (const path of Object.values(paths)) fs.rmSync(path);
  });
  return paths;
}

/**
 * Each: `measure(milliseconds)`, how much work that is, as plain data, asked once in the process; and
 * `prepare(amount)`, in the thread that is to work, which returns the work.
 */
const kinds = {
  'a loop': {
    measure: (milliseconds) => milliseconds,
    prepare: (milliseconds) => () => {
      for (const end = performance.now() + milliseconds; performance.now() < end;);
    },
  },
  'JSON.parse': {
    measure(milliseconds) {
      const text = numbers(SAMPLE);
      return Math.ceil((milliseconds / timeOf(() => JSON.parse(text))) * SAMPLE);
    },
    prepare(count) {
      const text = numbers(count);
      return () => JSON.parse(text);
    },
  },
  'a regular expression': {
    measure(milliseconds) {
      const letters = 'x'.repeat(LETTERS);
      return Math.ceil(Math.sqrt(milliseconds / timeOf(() => search(letters))) * LETTERS);
    },
    prepare(count) {
      const letters = 'x'.repeat(count);
      return () => search(letters);
    },
  },
  pbkdf2Sync: {
    measure: (milliseconds) =>
      Math.ceil((milliseconds / timeOf(() => derive(ITERATIONS))) * ITERATIONS),
    prepare: (iterations) => () => derive(iterations),
  },
  execFileSync: {
    measure: (milliseconds) => `${milliseconds / 1000}`,
    prepare: (seconds) => () => execFileSync('sleep', [seconds]),
  },
  'readSync of a pipe': {
    measure: answerLater,
    prepare({ asking, answering }) {
      const [question, answer] = [asking, answering].map((path) => fs.openSync(path, 'r+'));
      const byte = Buffer.from('\n');
      return () => {
        fs.writeSync(question, byte);
        fs.readSync(answer, byte);
      };
    },
  },
  'Atomics.wait': {
    measure: (milliseconds) => milliseconds,
    prepare(milliseconds) {
      const word = new Int32Array(new SharedArrayBuffer(4));
      return () => Atomics.wait(word, 0, 0, milliseconds);
    },
  },
};

/** What a message begins with that asks for work. */
export const HEAVY = 'H'.charCodeAt(0);

export const busyKinds = Object.keys(kinds);

export function measureWork(kind, milliseconds) {
  return kinds[kind].measure(milliseconds);
}

export function prepareWork(kind, amount) {
  return kinds[kind].prepare(amount);
}
